#include "core/entropy.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>

#include "core/status.h"

namespace kms {

namespace {

constexpr int64_t kLifetimeMs = 10;

// The coarse clock costs a fifth of the exact one, and its tick is well below the lifetime of a batch.
int64_t milliseconds() {
  timespec now{};
#if defined(CLOCK_MONOTONIC_COARSE)
  clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
#else
  clock_gettime(CLOCK_MONOTONIC, &now);
#endif
  return int64_t{now.tv_sec} * 1000 + now.tv_nsec / 1000000;
}

}  // namespace

bool fillRandom(void* out, size_t length) {
  auto* at = static_cast<uint8_t*>(out);
  while (length > 0) {
#if defined(__linux__)
    // Any length in one call; a signal may cut one short that is longer than 256 bytes.
    const ssize_t got = getrandom(at, length, 0);
#else
    const size_t part = std::min<size_t>(length, 256);
    const ssize_t got = getentropy(at, part) == 0 ? static_cast<ssize_t>(part) : -1;
#endif
    if (got < 0 && errno != EINTR) return false;
    if (got <= 0) continue;
    at += got;
    length -= static_cast<size_t>(got);
  }
  return true;
}

NonceBatch::~NonceBatch() { wipe(bytes_, sizeof bytes_); }

bool NonceBatch::draw() {
  // A batch that was used up is followed by one four times as large.
  if (taken_ != 0) size_ = std::min(size_ * 4, kLargest);
  if (!fillRandom(bytes_, size_t{size_} * kNonceBytes)) return false;
  left_ = size_;
  drawnAt_ = milliseconds();
  return true;
}

bool NonceBatch::next(uint8_t nonce[kNonceBytes]) {
  if (left_ == 0 && !draw()) return false;
  --left_;
  ++taken_;
  memcpy(nonce, bytes_ + size_t{left_} * kNonceBytes, kNonceBytes);
  return true;
}

void NonceBatch::expire() {
  if (left_ != 0 && milliseconds() - drawnAt_ >= kLifetimeMs) discard();
}

void NonceBatch::discard() {
  left_ = 0;
  // The next chunk will probably want about as many as this one: a few more cost less than a second call.
  size_ = std::clamp(taken_ + taken_ / 8, kSmallest, kLargest);
  taken_ = 0;
}

}  // namespace kms

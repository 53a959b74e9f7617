#pragma once

#include <cstddef>
#include <cstdint>

namespace kms {

constexpr size_t kNonceBytes = 12;

// Bytes of the operating system's generator; false when it gives none, and then nothing may be encrypted.
bool fillRandom(void* out, size_t length);

// Nonces drawn from the operating system in batches, because a call for twelve bytes costs as much as encrypting
// half a KiB (measured). A batch dies young, so that no copy of this process can go on with it: with the chunk it was
// drawn for, or after ten milliseconds.
class NonceBatch {
 public:
  ~NonceBatch();
  // Writes 12 bytes; false when the draw failed.
  bool next(uint8_t nonce[kNonceBytes]);
  // Throws away what is left if it is older than ten milliseconds.
  void expire();
  void discard();

 private:
  bool draw();

  static constexpr uint32_t kSmallest = 4;
  static constexpr uint32_t kLargest = 256;

  uint8_t bytes_[kLargest * kNonceBytes];
  uint32_t left_ = 0;
  uint32_t size_ = kSmallest;
  uint32_t taken_ = 0;
  int64_t drawnAt_ = 0;
};

}  // namespace kms

#include "core/arena.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "core/entropy.h"

#if defined(__linux__)
#include <sys/prctl.h>
#include <sys/syscall.h>
#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif
#endif

namespace kms {

namespace {

constexpr size_t kSmallestArena = 64 * 1024;

size_t roundUp(size_t value, size_t to) { return (value + to - 1) / to * to; }

size_t lockableBytes() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return SIZE_MAX;
  return static_cast<size_t>(limit.rlim_cur);
}

// Reserves bytes between two inaccessible pages; the middle is still inaccessible.
uint8_t* reserve(size_t bytes, size_t page) {
  void* all = mmap(nullptr, bytes + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return all == MAP_FAILED ? nullptr : static_cast<uint8_t*>(all) + page;
}

bool mapSecret(uint8_t* at, size_t bytes) {
#if defined(__linux__)
  const int fd = static_cast<int>(syscall(SYS_memfd_secret, O_CLOEXEC));
  if (fd < 0) return false;
  bool mapped = false;
  if (ftruncate(fd, static_cast<off_t>(bytes)) == 0) {
    mapped = mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0) == at;
  }
  close(fd);
  return mapped;
#else
  (void)at;
  (void)bytes;
  return false;
#endif
}

bool mapPlain(uint8_t* at, size_t bytes) {
  return mmap(at, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at;
}

void keepOutOfDumpsAndForks(uint8_t* at, size_t bytes) {
#if defined(MADV_DONTDUMP)
  madvise(at, bytes, MADV_DONTDUMP);
#elif defined(MADV_NOCORE)
  madvise(at, bytes, MADV_NOCORE);
#endif
#if defined(MADV_DONTFORK)
  madvise(at, bytes, MADV_DONTFORK);
#endif
#if defined(__linux__)
  prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, at, bytes, "progressdb-kms arena");
#endif
}

}  // namespace

const char* protectionName(Protection protection) {
  switch (protection) {
    case Protection::SecretMem: return "secretmem";
    case Protection::Mlock: return "mlock";
    case Protection::None: return "none";
  }
  return "none";
}

Arena& Arena::instance() {
  static Arena arena;
  return arena;
}

// Tries secret memory, then locked, then plain pages; `bytes_` and `base_` are set when one of them came.
bool Arena::map(size_t bytes) {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  uint8_t* const at = reserve(bytes, page);
  if (at == nullptr) return false;
  if (mapSecret(at, bytes)) {
    protection_ = Protection::SecretMem;
  } else if (mapPlain(at, bytes)) {
    protection_ = mlock(at, bytes) == 0 ? Protection::Mlock : Protection::None;
  } else {
    munmap(at - page, bytes + 2 * page);
    return false;
  }
  keepOutOfDumpsAndForks(at, bytes);
  base_ = at;
  bytes_ = bytes;
  return true;
}

Failure Arena::open(size_t bytes) {
  const std::lock_guard<std::mutex> hold(mutex_);
  if (base_ != nullptr) return Failure();
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t wanted = roundUp(std::max(bytes, kSmallestArena), page);
  // Other users of the same limit may have taken a part of it (io_uring, an embedding application): ask for less until
  // it is granted, and take unlocked memory only when not even the smallest arena can be locked.
  for (size_t size = std::min(wanted, lockableBytes() / page * page); size >= kSmallestArena; size = size / 2 / page * page) {
    if (!map(size)) continue;
    if (protection_ != Protection::None) break;
    munmap(base_ - page, bytes_ + 2 * page);
    base_ = nullptr;
  }
  if (base_ == nullptr && !map(wanted)) return Failure(Status::Internal, "no memory for the key arena");
  if (!fillRandom(&canary_, sizeof canary_)) return Failure(Status::Internal, "the operating system gives no random bytes");
  scratch_ = base_;
  cells_ = base_ + kScratchBytes;
  capacity_ = static_cast<uint32_t>((bytes_ - kScratchBytes) / kCellBytes);
  return Failure();
}

Arena::~Arena() {
  if (base_ != nullptr) wipe(base_, kScratchBytes + size_t{fresh_} * kCellBytes);
}

uint64_t Arena::canaryOf(Cell cell) const { return canary_ ^ (uint64_t{cell} * 0x9e3779b97f4a7c15u); }

Arena::Cell Arena::allocate() {
  const std::lock_guard<std::mutex> hold(mutex_);
  Cell cell = kNone;
  if (!free_.empty()) {
    cell = free_.back();
    free_.pop_back();
  } else if (fresh_ < capacity_) {
    cell = fresh_++;
  } else {
    return kNone;
  }
  const uint64_t canary = canaryOf(cell);
  memcpy(key(cell) + kKeyBytes, &canary, sizeof canary);
  used_.fetch_add(1, std::memory_order_relaxed);
  return cell;
}

void Arena::release(Cell cell) {
  const std::lock_guard<std::mutex> hold(mutex_);
  uint64_t found = 0;
  memcpy(&found, key(cell) + kKeyBytes, sizeof found);
  if (found != canaryOf(cell)) {
    fputs("progressdb-kms: key memory was overwritten; ending the process\n", stderr);
    abort();
  }
  wipe(key(cell), kCellBytes);
  free_.push_back(cell);
  used_.fetch_sub(1, std::memory_order_relaxed);
}

Arena::Scratch::Scratch(Arena& arena) : arena_(arena), hold_(arena.scratchMutex_) {}

Arena::Scratch::~Scratch() { wipe(arena_.scratch_, kScratchBytes); }

}  // namespace kms

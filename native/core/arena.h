#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "core/status.h"

namespace kms {

constexpr size_t kKeyBytes = 32;

enum class Protection { None, Mlock, SecretMem };
const char* protectionName(Protection protection);

// The one place where keys live: locked pages between two guard pages, out of core files and, where the kernel has
// memfd_secret, out of reach of /proc/PID/mem and ptrace even for root. Cut into cells of one key each. Made once per
// process, never grown, never unmapped.
class Arena {
 public:
  using Cell = uint32_t;
  static constexpr Cell kNone = UINT32_MAX;

  static Arena& instance();

  // Makes it of at most `bytes`, less where RLIMIT_MEMLOCK is lower. A second call leaves it as it is.
  Failure open(size_t bytes);
  bool isOpen() const { return base_ != nullptr; }

  // A zeroed cell, or kNone when all are taken.
  Cell allocate();
  // Wipes it. A cell whose canary is damaged means that somebody wrote beyond a key: the process ends there.
  void release(Cell cell);
  uint8_t* key(Cell cell) { return cells_ + size_t{cell} * kCellBytes; }

  // Locked memory for reading and decoding a key file, one user at a time.
  class Scratch {
   public:
    explicit Scratch(Arena& arena);
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;
    uint8_t* data() { return arena_.scratch_; }
    size_t size() const { return kScratchBytes; }

   private:
    Arena& arena_;
    std::lock_guard<std::mutex> hold_;
  };

  Protection protection() const { return protection_; }
  size_t bytes() const { return bytes_; }
  uint32_t capacity() const { return capacity_; }
  uint32_t used() const { return used_.load(std::memory_order_relaxed); }

 private:
  Arena() = default;
  // At exit: keys do not outlive the process in pages that somebody may get.
  ~Arena();

  static constexpr size_t kCanaryBytes = 8;
  static constexpr size_t kCellBytes = kKeyBytes + kCanaryBytes;
  static constexpr size_t kScratchBytes = 8192;

  bool map(size_t bytes);
  uint64_t canaryOf(Cell cell) const;

  uint8_t* base_ = nullptr;
  uint8_t* scratch_ = nullptr;
  uint8_t* cells_ = nullptr;
  size_t bytes_ = 0;
  uint32_t capacity_ = 0;
  uint32_t fresh_ = 0;
  uint64_t canary_ = 0;
  Protection protection_ = Protection::None;
  std::vector<Cell> free_;
  std::atomic<uint32_t> used_{0};
  std::mutex mutex_;
  std::mutex scratchMutex_;
};

}  // namespace kms

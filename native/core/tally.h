#pragma once

#include <atomic>
#include <cstdint>

#include "core/status.h"

namespace kms {

// What a thread has done, for whoever watches the service. It is counted by its own thread and read by another one now and
// then: nobody else writes, so that counting is a plain load and a plain store.
class Tally {
 public:
  // encrypt, decrypt, encrypt_many, decrypt_many, and last what names none of them.
  static constexpr uint32_t kOperations = 5;
#define KMS_STATUS_ENTRY(name, number, code, message) +1
  // Ok, then the statuses by their numbers.
  static constexpr uint32_t kOutcomes = 1 KMS_STATUS_TABLE(KMS_STATUS_ENTRY);
#undef KMS_STATUS_ENTRY
  // Up to 10 µs, 20 µs, 40 µs … 10.5 s, and above.
  static constexpr uint32_t kBuckets = 22;
  static constexpr uint64_t kFirstBucketNanoseconds = 10000;

  // Where what lies; COUNTS in src/native.ts names it.
  static constexpr uint32_t kTimesAt = kOperations * kOutcomes;
  static constexpr uint32_t kNanosecondsAt = kTimesAt + kOperations * kBuckets;
  static constexpr uint32_t kHits = kNanosecondsAt + kOperations;
  static constexpr uint32_t kLength = kHits + 1;

  // `operation` is the number in the frame.
  static uint32_t operationOf(uint32_t operation) { return operation >= 2 && operation <= 5 ? operation - 2 : kOperations - 1; }

  static uint32_t bucketOf(uint64_t nanoseconds) {
    const uint64_t ticks = (nanoseconds + kFirstBucketNanoseconds - 1) / kFirstBucketNanoseconds;
    if (ticks <= 1) return 0;
    const auto bucket = static_cast<uint32_t>(64 - __builtin_clzll(ticks - 1));
    return bucket < kBuckets ? bucket : kBuckets - 1;
  }

  void answered(uint32_t operation, Status status) { add(operationOf(operation) * kOutcomes + static_cast<uint32_t>(status), 1); }
  // `count` requests that each took that long.
  void took(uint32_t index, uint64_t nanoseconds, uint64_t count) {
    add(kTimesAt + index * kBuckets + bucketOf(nanoseconds), count);
    add(kNanosecondsAt + index, nanoseconds * count);
  }
  void hit() { add(kHits, 1); }

  uint64_t at(uint32_t index) const { return counts_[index].load(std::memory_order_relaxed); }
  // Takes over what a thread that ends has counted.
  void absorb(const Tally& other) {
    for (uint32_t i = 0; i < kLength; ++i) add(i, other.at(i));
  }

 private:
  void add(uint32_t index, uint64_t count) {
    counts_[index].store(counts_[index].load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
  }

  std::atomic<uint64_t> counts_[kLength] = {};
};

}  // namespace kms

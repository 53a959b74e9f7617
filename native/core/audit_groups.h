#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <vector>

#include "core/thread_state.h"

namespace kms {

// A key as whoever uses it knows it: its id, and its handle while it is held; none for one that could not be.
struct AuditedKey {
  Handle key;
  std::string_view id;
};

// What one operation did: `items` messages under one key with one outcome.
struct DataEvent {
  uint32_t actor = 0;
  bool encrypts = false;
  bool batch = false;
  Status outcome = Status::Ok;
  uint32_t items = 0;
  uint64_t bytes = 0;
};

// Held for a few instructions, and by another thread than its own only now and then.
class SpinLock {
 public:
  void lock() {
    while (held_.exchange(true, std::memory_order_acquire)) std::this_thread::yield();
  }
  void unlock() { held_.store(false, std::memory_order_release); }

 private:
  std::atomic<bool> held_{false};
};

// How many messages there were, of how many bytes, and from when to when (milliseconds since 1970).
struct DataSum {
  uint64_t count = 0;
  uint64_t bytes = 0;
  int64_t first = INT64_MAX;
  int64_t last = INT64_MIN;

  void add(const DataSum& other) {
    count += other.count;
    bytes += other.bytes;
    first = other.first < first ? other.first : first;
    last = other.last > last ? other.last : last;
  }
};

// Different keys, by the hashes of their ids: of so many bits that two keys of one do not happen.
class DistinctKeys {
 public:
  DistinctKeys() = default;
  ~DistinctKeys() { clear(); }
  DistinctKeys(const DistinctKeys&) = delete;
  DistinctKeys& operator=(const DistinctKeys&) = delete;
  DistinctKeys(DistinctKeys&& other) noexcept : places_(std::move(other.places_)), count_(other.count_) {
    other.places_.clear();
    other.count_ = 0;
  }
  DistinctKeys& operator=(DistinctKeys&&) = delete;

  // Beyond kCountedKeys in the whole process none is added: then the count is a lower bound.
  void add(uint64_t hash);
  // Takes over what another one counted.
  void absorb(DistinctKeys& other);
  uint32_t count() const { return count_; }

  static constexpr int32_t kCountedKeys = 1 << 18;

 private:
  std::vector<uint64_t> clear();
  void insert(uint64_t hash);

  // 0 is a free place.
  std::vector<uint64_t> places_;
  uint32_t count_ = 0;
};

// One line to be: the messages of an actor under a key, one way, with one outcome.
struct DataGroup {
  uint32_t actor = 0;
  uint32_t slot = 0;
  uint32_t generation = 0;
  bool encrypts = false;
  Status outcome = Status::Ok;
  // A copy: the key may be evicted long before the line is made.
  uint8_t idLength = 0;
  char id[kKeyIdBytes] = {};
  DataSum sum;

  std::string_view keyId() const { return {id, idLength}; }
};

// Of groups beyond the limit.
struct DataOverflow {
  uint32_t actor = 0;
  bool encrypts = false;
  Status outcome = Status::Ok;
  DataSum sum;
  DistinctKeys keys;
};

// What one thread did in one space since it was last asked. Its own thread adds; whoever makes lines takes all at once.
class AuditGroups {
 public:
  // Of all threads together, until they are taken: what a flood of key ids can take up is bounded by it, and by the overflow's
  // own bounds (actors, ways, outcomes; DistinctKeys).
  static constexpr int32_t kMost = 1000;

  struct Taken {
    std::vector<DataGroup> groups;
    std::vector<DataOverflow> overflows;
  };

  ~AuditGroups();
  AuditGroups() = default;
  AuditGroups(const AuditGroups&) = delete;
  AuditGroups& operator=(const AuditGroups&) = delete;

  void add(const DataEvent& event, const AuditedKey& key, int64_t now);
  // Nothing is left afterwards.
  Taken take();
  bool empty();

 private:
  // Twice as many places as there may be groups.
  static constexpr uint32_t kPlaces = 2048;

  DataGroup* find(const DataEvent& event, const AuditedKey& key);
  void addOverflow(const DataEvent& event, const AuditedKey& key, const DataSum& sum);

  SpinLock lock_;
  std::vector<DataGroup> groups_;
  // Positions in `groups_` plus one; 0 is a free place.
  std::vector<uint16_t> places_;
  std::unordered_map<uint64_t, DataOverflow> overflows_;
};

}  // namespace kms

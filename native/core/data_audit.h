#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/audit_actors.h"
#include "core/audit_chain.h"
#include "core/audit_events.h"
#include "core/audit_groups.h"
#include "core/boot_clock.h"

namespace kms {

enum class DataMode : uint32_t { Off, Grouped, Each };

class AuditSeats;

// How encryptions and decryptions of one space are audited, and what they have left to be written.
class DataAudit {
 public:
  DataMode mode() const { return mode_.load(std::memory_order_acquire); }
  uint32_t ownActor() const { return ownActor_.load(std::memory_order_relaxed); }
  // While nothing can be written nothing is done that would have to be.
  bool refuses() const { return refuses_.load(std::memory_order_relaxed); }
  void set(DataMode mode, uint32_t ownActor);
  // Of the client-sealed database that the space is of: each line names it. Set before the first use.
  void nameDatabase(std::string id) { database_ = std::move(id); }
  void refuse(bool on) { refuses_.store(on, std::memory_order_relaxed); }
  // Past its deadline, on the clock of `sinceBoot`, nothing is done with the keys of a store that others change, too: what was
  // changed is not known any more. It is asked by whoever uses a key, so that no thread that stands still can hold it up.
  bool isStale() const {
    const int64_t until = freshUntil_.load(std::memory_order_relaxed);
    return until != kForever && sinceBoot() >= until;
  }
  void keepFresh(int64_t until) { freshUntil_.store(until, std::memory_order_relaxed); }

  EventQueue& events() { return events_; }
  // Always the same for one thread, as long as they hold anything: one that goes to and fro between spaces makes no more of them.
  std::shared_ptr<AuditGroups> groupsOf(const AuditSeats* thread);

  // Appends lines of groups, and then of events, as long as `most` bytes are enough for another one: what may stand between two
  // signatures is bounded, however many actors there are. What has no line yet, or when the chain fails, stays.
  Failure take(AuditChain& chain, size_t most, std::vector<uint8_t>* out);
  // Gives up what is left: threads that stand still remember an audit until they work again.
  void close();
  // A line about data with the longest members there may be is not longer.
  static constexpr size_t kMaxDataLineBytes = 640;

 private:
  void gather();
  Failure takeGroups(AuditChain& chain, size_t most, std::vector<uint8_t>* out);
  Failure takeEvents(AuditChain& chain, size_t most, std::vector<uint8_t>* out);

  std::atomic<DataMode> mode_{DataMode::Off};
  std::atomic<uint32_t> ownActor_{AuditActors::kNone};
  std::atomic<bool> refuses_{false};
  std::string database_;
  static constexpr int64_t kForever = INT64_MAX;
  std::atomic<int64_t> freshUntil_{kForever};
  EventQueue events_;
  std::mutex groupsMutex_;
  // By thread. After one that ended another may come in its place, and counts on.
  std::unordered_map<const AuditSeats*, std::shared_ptr<AuditGroups>> groups_;
  // One taker at a time.
  std::mutex takeMutex_;
  std::deque<DataGroup> gathered_;
  std::deque<DataOverflow> gatheredOverflows_;
};

// The audits of all spaces.
class DataAudits {
 public:
  static DataAudits& instance();

  // Made if the space has none.
  std::shared_ptr<DataAudit> of(SpaceId space);
  std::shared_ptr<DataAudit> find(SpaceId space);
  // With the space goes what was not written.
  void forget(SpaceId space);

  // Another one each time that a space gets or loses its audit.
  uint64_t version() const { return version_.load(std::memory_order_acquire); }

 private:
  std::mutex mutex_;
  std::unordered_map<SpaceId, std::shared_ptr<DataAudit>> audits_;
  std::atomic<uint64_t> version_{1};
};

// What a thread remembers of a space's audit, so that an operation needs no lock to find it.
struct AuditSeat {
  SpaceId space = 0;
  uint64_t version = 0;
  std::shared_ptr<DataAudit> audit;
  std::shared_ptr<AuditGroups> groups;
};

class AuditSeats {
 public:
  // Null if the space has no audit. Good until the thread asks again.
  AuditSeat* find(SpaceId space);

 private:
  static constexpr uint32_t kSeats = 8;
  AuditSeat seats_[kSeats];
};

// The audit of one operation, from before it begins until it has told what became of it.
class DataUse {
 public:
  // `outcomes`: of how many kinds at most.
  DataUse(ThreadState& thread, SpaceId space, uint32_t actor, uint32_t outcomes);
  ~DataUse();
  DataUse(const DataUse&) = delete;
  DataUse& operator=(const DataUse&) = delete;

  // 0, or why it must not begin: AuditUnavailable, kNeedsAudit.
  HotResult refusal() const { return refusal_; }
  // What must not be done for want of news is told, as everything that fails.
  bool isStale() const { return stale_; }
  // Before the key is left, so that whoever has seen it retired has everything that was done with it.
  void tell(const AuditedKey& key, DataEvent event);

 private:
  ThreadState& thread_;
  AuditSeat* seat_ = nullptr;
  uint32_t actor_;
  DataMode mode_ = DataMode::Off;
  int32_t reserved_ = 0;
  HotResult refusal_ = 0;
  bool stale_ = false;
};

}  // namespace kms

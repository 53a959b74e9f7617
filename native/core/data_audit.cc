#include "core/data_audit.h"

#include <time.h>

#include <algorithm>

namespace kms {

namespace {

// Four milliseconds are fine enough for groups of a hundred, and it costs a fifth of the exact clock.
int64_t coarseNow() {
  timespec time{};
#if defined(CLOCK_REALTIME_COARSE)
  clock_gettime(CLOCK_REALTIME_COARSE, &time);
#else
  clock_gettime(CLOCK_REALTIME, &time);
#endif
  return int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1000000;
}

}  // namespace

// The actor first: who sees the mode has the actor.
void DataAudit::set(DataMode mode, uint32_t ownActor) {
  ownActor_.store(ownActor, std::memory_order_relaxed);
  mode_.store(mode, std::memory_order_release);
}

void DataAudit::close() {
  const std::lock_guard<std::mutex> hold(takeMutex_);
  events_.close();
  gathered_.clear();
  gatheredOverflows_.clear();
}

std::shared_ptr<AuditGroups> DataAudit::groupsOf(const AuditSeats* thread) {
  const std::lock_guard<std::mutex> hold(groupsMutex_);
  std::shared_ptr<AuditGroups>& groups = groups_[thread];
  if (groups == nullptr) groups = std::make_shared<AuditGroups>();
  return groups;
}

DataAudits& DataAudits::instance() {
  static DataAudits* const audits = new DataAudits();
  return *audits;
}

std::shared_ptr<DataAudit> DataAudits::of(SpaceId space) {
  const std::lock_guard<std::mutex> hold(mutex_);
  std::shared_ptr<DataAudit>& audit = audits_[space];
  if (audit == nullptr) {
    audit = std::make_shared<DataAudit>();
    version_.fetch_add(1, std::memory_order_release);
  }
  return audit;
}

std::shared_ptr<DataAudit> DataAudits::find(SpaceId space) {
  const std::lock_guard<std::mutex> hold(mutex_);
  const auto found = audits_.find(space);
  return found == audits_.end() ? nullptr : found->second;
}

void DataAudits::forget(SpaceId space) {
  std::shared_ptr<DataAudit> audit;
  {
    const std::lock_guard<std::mutex> hold(mutex_);
    const auto found = audits_.find(space);
    if (found == audits_.end()) return;
    audit = std::move(found->second);
    audits_.erase(found);
    version_.fetch_add(1, std::memory_order_release);
  }
  // Without the lock: whoever makes lines just now is waited for.
  audit->close();
}

// The version is read before the audit is looked for: one that comes in between is found by the next operation.
AuditSeat* AuditSeats::find(SpaceId space) {
  AuditSeat& seat = seats_[space % kSeats];
  const uint64_t version = DataAudits::instance().version();
  if (seat.space != space || seat.version != version) {
    std::shared_ptr<DataAudit> audit = DataAudits::instance().find(space);
    if (audit != seat.audit) {
      seat.groups = audit == nullptr ? nullptr : audit->groupsOf(this);
      seat.audit = std::move(audit);
    }
    seat.space = space;
    seat.version = version;
  }
  return seat.audit == nullptr ? nullptr : &seat;
}

DataUse::DataUse(ThreadState& thread, SpaceId space, uint32_t actor, uint32_t outcomes)
    : thread_(thread), seat_(thread.audits().find(space)), actor_(actor) {
  if (seat_ == nullptr) return;
  DataAudit& audit = *seat_->audit;
  stale_ = audit.isStale();
  if (actor == AuditActors::kUnaudited) {
    seat_ = nullptr;
    return;
  }
  if (audit.refuses()) {
    refusal_ = hotFailure(Status::AuditUnavailable);
    return;
  }
  mode_ = audit.mode();
  if (mode_ == DataMode::Off) return;
  if (actor_ == AuditActors::kOwn) actor_ = audit.ownActor();
  // Without a name there is nothing that could be written.
  if (actor_ == AuditActors::kNone || actor_ > AuditActors::kMost) {
    refusal_ = hotFailure(Status::AuditUnavailable);
    return;
  }
  if (mode_ != DataMode::Each) return;
  if (audit.events().reserve(static_cast<int32_t>(outcomes))) {
    reserved_ = static_cast<int32_t>(outcomes);
  } else {
    refusal_ = kNeedsAudit;
    thread_.ringForAudit();
  }
}

DataUse::~DataUse() {
  if (reserved_ != 0) seat_->audit->events().giveBack(reserved_);
}

void DataUse::tell(const AuditedKey& key, DataEvent event) {
  // A batch without messages did nothing.
  if (seat_ == nullptr || mode_ == DataMode::Off || event.items == 0) return;
  event.actor = actor_;
  if (mode_ == DataMode::Grouped) {
    seat_->groups->add(event, key, coarseNow());
    return;
  }
  --reserved_;
  if (seat_->audit->events().push(event, key)) thread_.ringForAudit();
}

}  // namespace kms

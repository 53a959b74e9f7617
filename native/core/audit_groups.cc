#include "core/audit_groups.h"

#include <mutex>
#include <utility>

#include "core/key_table.h"

namespace kms {

namespace {

std::atomic<int32_t> groupsLeft{AuditGroups::kMost};
std::atomic<int32_t> countedKeysLeft{DistinctKeys::kCountedKeys};

bool claim(std::atomic<int32_t>& left) {
  int32_t now = left.load(std::memory_order_relaxed);
  do {
    if (now <= 0) return false;
  } while (!left.compare_exchange_weak(now, now - 1, std::memory_order_relaxed));
  return true;
}

// Where a key stands in a group: a key that is not held has no slot, and is told by its id.
Handle placeOf(const AuditedKey& key) {
  if (!key.key.none()) return key.key;
  return Handle{UINT32_MAX, static_cast<uint32_t>(KeyTable::instance().hashOf(0, key.id))};
}

uint32_t mix(uint32_t actor, const Handle& place, bool encrypts, Status outcome) {
  uint64_t hash = (uint64_t{actor} << 32 | place.slot) * 0x9e3779b97f4a7c15u;
  hash ^= (uint64_t{place.generation} << 8 | static_cast<uint32_t>(outcome) << 1 | (encrypts ? 1u : 0u)) * 0xff51afd7ed558ccdu;
  return static_cast<uint32_t>((hash * 0x9e3779b97f4a7c15u) >> 40);
}

}  // namespace

void DistinctKeys::add(uint64_t hash) {
  const uint64_t known = hash == 0 ? 1 : hash;
  if (!places_.empty()) {
    for (size_t at = known & (places_.size() - 1); places_[at] != 0; at = (at + 1) & (places_.size() - 1)) {
      if (places_[at] == known) return;
    }
  }
  if (!claim(countedKeysLeft)) return;
  insert(known);
}

void DistinctKeys::insert(uint64_t hash) {
  if (size_t{count_} * 2 >= places_.size()) {
    std::vector<uint64_t> before(places_.empty() ? 16 : places_.size() * 2);
    before.swap(places_);
    count_ = 0;
    for (const uint64_t one : before) {
      if (one != 0) insert(one);
    }
  }
  size_t at = hash & (places_.size() - 1);
  while (places_[at] != 0) at = (at + 1) & (places_.size() - 1);
  places_[at] = hash;
  ++count_;
}

// What the other one gives up first is there for this one.
void DistinctKeys::absorb(DistinctKeys& other) {
  for (const uint64_t hash : other.clear()) {
    if (hash != 0) add(hash);
  }
}

std::vector<uint64_t> DistinctKeys::clear() {
  countedKeysLeft.fetch_add(static_cast<int32_t>(count_), std::memory_order_relaxed);
  count_ = 0;
  return std::exchange(places_, {});
}

AuditGroups::~AuditGroups() { groupsLeft.fetch_add(static_cast<int32_t>(groups_.size()), std::memory_order_relaxed); }

// The group of the event, made if there may be one more; null if not.
DataGroup* AuditGroups::find(const DataEvent& event, const AuditedKey& key) {
  if (places_.empty()) places_.resize(kPlaces);
  const Handle place = placeOf(key);
  uint32_t at = mix(event.actor, place, event.encrypts, event.outcome) % kPlaces;
  for (; places_[at] != 0; at = (at + 1) % kPlaces) {
    DataGroup& known = groups_[places_[at] - 1u];
    if (known.actor == event.actor && known.slot == place.slot && known.generation == place.generation &&
        known.encrypts == event.encrypts && known.outcome == event.outcome && (!key.key.none() || known.keyId() == key.id)) {
      return &known;
    }
  }
  if (!claim(groupsLeft)) return nullptr;
  DataGroup& made = groups_.emplace_back();
  places_[at] = static_cast<uint16_t>(groups_.size());
  made.actor = event.actor;
  made.slot = place.slot;
  made.generation = place.generation;
  made.encrypts = event.encrypts;
  made.outcome = event.outcome;
  made.idLength = static_cast<uint8_t>(key.id.size());
  memcpy(made.id, key.id.data(), key.id.size());
  return &made;
}

void AuditGroups::addOverflow(const DataEvent& event, const AuditedKey& key, const DataSum& sum) {
  const uint64_t which = uint64_t{event.actor} << 32 | static_cast<uint32_t>(event.outcome) << 1 | (event.encrypts ? 1u : 0u);
  DataOverflow& overflow = overflows_[which];
  overflow.actor = event.actor;
  overflow.encrypts = event.encrypts;
  overflow.outcome = event.outcome;
  overflow.sum.add(sum);
  overflow.keys.add(KeyTable::instance().hashOf(0, key.id));
}

void AuditGroups::add(const DataEvent& event, const AuditedKey& key, int64_t now) {
  const DataSum sum{event.items, event.bytes, now, now};
  const std::lock_guard<SpinLock> hold(lock_);
  if (DataGroup* const group = find(event, key)) {
    group->sum.add(sum);
  } else {
    addOverflow(event, key, sum);
  }
}

AuditGroups::Taken AuditGroups::take() {
  Taken taken;
  std::unordered_map<uint64_t, DataOverflow> overflows;
  {
    const std::lock_guard<SpinLock> hold(lock_);
    taken.groups.swap(groups_);
    overflows.swap(overflows_);
    if (!taken.groups.empty()) memset(places_.data(), 0, places_.size() * sizeof(uint16_t));
  }
  groupsLeft.fetch_add(static_cast<int32_t>(taken.groups.size()), std::memory_order_relaxed);
  for (auto& [which, overflow] : overflows) taken.overflows.push_back(std::move(overflow));
  return taken;
}

bool AuditGroups::empty() {
  const std::lock_guard<SpinLock> hold(lock_);
  return groups_.empty() && overflows_.empty();
}

}  // namespace kms

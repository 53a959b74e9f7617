#include "core/key_table.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>

namespace kms {

namespace {

// How many cached keys an eviction looks at to find one that was not used lately.
constexpr int kEvictionSample = 16;

uint32_t nextGeneration(uint32_t generation) { return (generation + 1) & Handle::kGenerationMask; }
bool isLive(uint32_t generation) { return (generation & 1) != 0; }

}  // namespace

size_t KeyTable::IdHash::operator()(const IdKey& key) const {
  // Seeded per process: an importer of foreign ids cannot aim at one bucket.
  uint64_t hash = seed ^ (uint64_t{key.space} * 0x9e3779b97f4a7c15u);
  const auto take = [&hash](uint64_t word, size_t bytes) {
    hash = (hash ^ word ^ bytes) * 0xff51afd7ed558ccdu;
    hash ^= hash >> 32;
  };
  const char* at = key.id.data();
  size_t left = key.id.size();
  uint64_t word = 0;
  // Of a known size, so that each is one load and not a call.
  for (; left >= sizeof word; at += sizeof word, left -= sizeof word) {
    memcpy(&word, at, sizeof word);
    take(word, sizeof word);
  }
  word = 0;
  for (size_t i = 0; i < left; ++i) word |= uint64_t{static_cast<uint8_t>(at[i])} << (8 * i);
  if (left > 0) take(word, left);
  return static_cast<size_t>(hash);
}

// Never destroyed: threads that end after main may still leave their state here.
KeyTable& KeyTable::instance() {
  static KeyTable* const table = new KeyTable();
  return *table;
}

Failure KeyTable::open(size_t arenaBytes, uint32_t keptContexts) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  if (entries_ != nullptr) return Failure();
  if (Failure failure = selfTest(); !failure.ok()) return failure;
  Arena& arena = Arena::instance();
  if (Failure failure = arena.open(arenaBytes); !failure.ok()) return failure;
  if (!fillRandom(&seed_, sizeof seed_)) return Failure(Status::Internal, "the operating system gives no random bytes");
  ids_ = decltype(ids_)(64, IdHash{seed_});
  // Markers of disabled and destroyed keys need a slot and no cell: twice the cells is room for both.
  capacity_ = std::min<uint32_t>(arena.capacity() * 2, 1u << Handle::kSlotBits);
  // Pages of the table come when they are first touched: zeroes are a valid free entry.
  void* const memory = mmap(nullptr, size_t{capacity_} * sizeof(Entry), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Failure(Status::Internal, "no memory for the key table");
  entries_ = static_cast<Entry*>(memory);
  keptContexts_ = keptContexts;
  std::atexit([] { KeyTable::instance().wipeAll(); });
  return Failure();
}

SpaceId KeyTable::openSpace(uint32_t cachedKeys) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  // Each request in a database may open one over HTTP: the numbers go round, and then none may be 0, which is none, or another's.
  SpaceId id = nextSpace_++;
  while (id == 0 || spaces_.count(id) != 0) id = nextSpace_++;
  // A tenth of the arena stays for keys that are not cached DEKs.
  const uint32_t most = std::max<uint32_t>(1, Arena::instance().capacity() / 10 * 9);
  spaces_[id].cachedKeys = std::clamp<uint32_t>(cachedKeys, 1, most);
  return id;
}

void KeyTable::retireAll(SpaceId space) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  const auto found = spaces_.find(space);
  if (found == spaces_.end()) return;
  // From the end, because the last one takes the place of each that goes.
  const SlotList& slots = found->second.slots;
  for (size_t at = slots.size(); at-- > 0;) {
    if (entries_[slots[at]].published) retireLocked(slots[at], Retire::Evicted);
  }
}

void KeyTable::closeSpace(SpaceId space) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  if (const auto found = spaces_.find(space); found != spaces_.end()) {
    const SlotList& slots = found->second.slots;
    while (slots.size() != 0) retireLocked(slots[slots.size() - 1], Retire::Evicted);
    spaces_.erase(found);
  }
  const std::lock_guard<std::mutex> own(useRequestMutex_);
  const auto isOfSpace = [&](const auto& one) { return one.first == space; };
  useRequests_.erase(std::remove_if(useRequests_.begin(), useRequests_.end(), isOfSpace), useRequests_.end());
  useRequestCount_ = static_cast<uint32_t>(useRequests_.size());
}

bool KeyTable::hasSpace(SpaceId space) {
  const std::shared_lock<WritersFirst> hold(mutex_);
  return spaces_.count(space) != 0;
}

void KeyTable::wipeAll() {
  const std::unique_lock<WritersFirst> hold(mutex_);
  for (uint32_t slot = 0; slot < fresh_; ++slot) {
    if (isLive(entries_[slot].generation)) retireLocked(slot, Retire::Evicted);
  }
}

KeyTable::Entry* KeyTable::entryOf(Handle key) {
  if (key.slot >= capacity_ || !isLive(key.generation)) return nullptr;
  Entry* const entry = &entries_[key.slot];
  return entry->generation.load() == key.generation ? entry : nullptr;
}

uint32_t KeyTable::takeSlot() {
  if (!freeSlots_.empty()) {
    const uint32_t slot = freeSlots_.back();
    freeSlots_.pop_back();
    return slot;
  }
  if (fresh_ == capacity_) return UINT32_MAX;
  new (&entries_[fresh_]) Entry();
  places_.push_back(0);
  return fresh_++;
}

void KeyTable::freeSlot(uint32_t slot) {
  Entry& entry = entries_[slot];
  spaces_.find(entry.space)->second.slots.remove(slot, places_);
  entry.published = false;
  entry.idLength = 0;
  entry.cell = Arena::kNone;
  freeSlots_.push_back(slot);
}

Handle KeyTable::handleOf(uint32_t slot) const { return Handle{slot, entries_[slot].generation.load()}; }

// A new life for the slot: handles to the one before are stale from here on.
void KeyTable::renew(uint32_t slot) {
  for (std::atomic<uint32_t>& policy : entries_[slot].covering) policy.store(0, std::memory_order_relaxed);
  std::atomic<uint32_t>& generation = entries_[slot].generation;
  uint32_t next = nextGeneration(generation.load());
  if (!isLive(next)) next = nextGeneration(next);
  generation.store(next);
}

Failure KeyTable::adopt(SpaceId space, Kind kind, Arena::Cell cell, Handle* handle) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  if (spaces_.count(space) == 0) return Failure(Status::Sealed);
  const uint32_t slot = takeSlot();
  if (slot == UINT32_MAX) return Failure(Status::Busy, "the key table is full");
  begin(slot, kind, cell, space);
  renew(slot);
  *handle = handleOf(slot);
  return Failure();
}

// Of a space that is there: nothing lives in the table but in one.
void KeyTable::begin(uint32_t slot, Kind kind, Arena::Cell cell, SpaceId space) {
  spaces_.find(space)->second.slots.add(slot, places_);
  Entry& entry = entries_[slot];
  entry.kind = kind;
  entry.cell = cell;
  entry.space = space;
  entry.state = KeyState::Active;
  entry.remaining = 0;
}

// Where the arena is full, a key of the space that has most of them makes room.
bool KeyTable::takeCell(Arena::Cell* cell) {
  while ((*cell = Arena::instance().allocate()) == Arena::kNone) {
    const std::unique_lock<WritersFirst> hold(mutex_);
    if (!evictOne(fullest())) return false;
  }
  return true;
}

void KeyTable::release(Handle key) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  if (entryOf(key) != nullptr) retireLocked(key.slot, Retire::Evicted);
}

bool KeyTable::spaceOf(Handle key, SpaceId* space) {
  const std::shared_lock<WritersFirst> hold(mutex_);
  const Entry* const entry = entryOf(key);
  if (entry != nullptr) *space = entry->space;
  return entry != nullptr;
}

void KeyTable::name(uint32_t slot, Space& space, SpaceId spaceId, std::string_view id) {
  Entry& entry = entries_[slot];
  memcpy(entry.id, id.data(), id.size());
  entry.idLength = static_cast<uint8_t>(id.size());
  entry.published = true;
  entry.lastUse = sweeps_.load();
  ids_.emplace(IdKey{spaceId, entry.name()}, slot);
  ++space.cached;
}

// Room for one more cached key, by evicting one where the space is full.
bool KeyTable::makeRoom(Space& space, SpaceId id) {
  while (space.cached >= space.cachedKeys) {
    if (!evictOne(id)) return false;
  }
  return true;
}

Failure KeyTable::publish(SpaceId space, Handle dek, std::string_view id, uint32_t kekVersion, uint64_t uses, Handle* serving) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  Entry* const entry = entryOf(dek);
  const auto found = spaces_.find(space);
  if (found == spaces_.end()) return Failure(Status::Sealed);
  const bool isLoose = entry != nullptr && entry->kind == Kind::Dek && !entry->published && entry->space == space;
  if (!isLoose || id.empty() || id.size() > kKeyIdBytes) {
    return Failure(Status::InvalidArgument, "not a loose data key");
  }
  if (serves(space, id, uses, serving)) {
    retireLocked(dek.slot, Retire::Evicted);
    return Failure();
  }
  if (!makeRoom(found->second, space)) return Failure(Status::Busy, "the key table is full");
  *serving = serve(dek.slot, found->second, space, id, kekVersion, uses);
  return Failure();
}

Failure KeyTable::publishCell(SpaceId space, Arena::Cell cell, std::string_view id, uint32_t kekVersion, Handle* serving) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  const auto found = spaces_.find(space);
  if (found == spaces_.end()) return Failure(Status::Sealed);
  if (id.empty() || id.size() > kKeyIdBytes) return Failure(Status::InvalidArgument);
  if (serves(space, id, 0, serving)) {
    Arena::instance().release(cell);
    return Failure();
  }
  if (!makeRoom(found->second, space)) return Failure(Status::Busy, "the key table is full");
  const uint32_t slot = takeSlot();
  if (slot == UINT32_MAX) return Failure(Status::Busy, "the key table is full");
  begin(slot, Kind::Dek, cell, space);
  *serving = serve(slot, found->second, space, id, kekVersion, 0);
  return Failure();
}

// Whether an active key stands under the id already; it takes the uses. One that is not active goes.
bool KeyTable::serves(SpaceId space, std::string_view id, uint64_t uses, Handle* serving) {
  const Handle earlier = findLocked(space, id);
  if (earlier.none()) return false;
  Entry& known = entries_[earlier.slot];
  if (known.state != KeyState::Active) {
    retireLocked(earlier.slot, Retire::Evicted);
    return false;
  }
  known.remaining += static_cast<int64_t>(uses);
  *serving = earlier;
  return true;
}

// From here on the key in the slot is found by its id.
Handle KeyTable::serve(uint32_t slot, Space& space, SpaceId id, std::string_view named, uint32_t kekVersion, uint64_t uses) {
  name(slot, space, id, named);
  Entry& entry = entries_[slot];
  entry.kekVersion = kekVersion;
  const auto remaining = static_cast<int64_t>(uses + space.rests.take(named));
  entry.remaining = remaining;
  entry.askBelow = remaining / 2;
  entry.asked = false;
  renew(slot);
  return handleOf(slot);
}

Handle KeyTable::findLocked(SpaceId space, std::string_view id) const {
  const auto found = ids_.find(IdKey{space, id});
  return found == ids_.end() ? Handle{} : handleOf(found->second);
}

Handle KeyTable::find(SpaceId space, std::string_view id) {
  const std::shared_lock<WritersFirst> hold(mutex_);
  const Handle found = findLocked(space, id);
  if (found.none()) missed();
  return found;
}

void KeyTable::retire(SpaceId space, std::string_view id, Retire how) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  const auto found = spaces_.find(space);
  if (found == spaces_.end()) return;
  const Handle known = findLocked(space, id);
  if (!known.none()) {
    retireLocked(known.slot, how);
    return;
  }
  if (how == Retire::Evicted || id.size() > kKeyIdBytes || !makeRoom(found->second, space)) return;
  const uint32_t slot = takeSlot();
  if (slot == UINT32_MAX) return;
  begin(slot, Kind::Dek, Arena::kNone, space);
  entries_[slot].state = how == Retire::Disabled ? KeyState::Disabled : KeyState::Destroyed;
  name(slot, found->second, space, id);
  renew(slot);
}

void KeyTable::retireLocked(uint32_t slot, Retire how) {
  Entry& entry = entries_[slot];
  const Handle dying = handleOf(slot);
  entry.generation.store(nextGeneration(dying.generation));
  const uint64_t credit = wipeContexts(dying);
  const uint64_t rest = credit + static_cast<uint64_t>(std::max<int64_t>(0, entry.remaining.exchange(0)));
  if (entry.cell != Arena::kNone) Arena::instance().release(entry.cell);
  entry.cell = Arena::kNone;
  if (!entry.published) {
    freeSlot(slot);
    return;
  }
  const auto space = spaces_.find(entry.space);
  if (space != spaces_.end()) {
    if (how == Retire::Destroyed) {
      space->second.rests.take(entry.name());
    } else {
      space->second.rests.add(entry.name(), rest);
    }
  }
  if (how == Retire::Evicted) {
    ids_.erase(IdKey{entry.space, entry.name()});
    if (space != spaces_.end()) --space->second.cached;
    freeSlot(slot);
    return;
  }
  entry.state = how == Retire::Disabled ? KeyState::Disabled : KeyState::Destroyed;
  renew(slot);
}

SpaceId KeyTable::fullest() const {
  SpaceId found = 0;
  uint32_t most = 0;
  for (const auto& [id, space] : spaces_) {
    if (space.cached <= most) continue;
    most = space.cached;
    found = id;
  }
  return found;
}

// The least lately used of the next few keys after the hand, as a clock would go round.
bool KeyTable::evictOne(SpaceId id) {
  const auto found = spaces_.find(id);
  if (found == spaces_.end() || found->second.cached == 0) return false;
  Space& space = found->second;
  const uint32_t now = sweeps_.load(std::memory_order_relaxed);
  uint32_t victim = UINT32_MAX;
  uint32_t oldest = 0;
  int seen = 0;
  size_t at = space.hand;
  for (size_t step = 0; step < space.slots.size() && seen < kEvictionSample; ++step) {
    at = at + 1 < space.slots.size() ? at + 1 : 0;
    const uint32_t slot = space.slots[at];
    const Entry& entry = entries_[slot];
    if (!entry.published) continue;
    ++seen;
    const uint32_t age = ageOf(entry.lastUse.load(std::memory_order_relaxed), now);
    if (victim == UINT32_MAX || age > oldest) {
      victim = slot;
      oldest = age;
      // The key that came last takes the victim's place in the list: the hand stays there, and comes to it after all others.
      space.hand = at;
    }
  }
  if (victim == UINT32_MAX) return false;
  retireLocked(victim, Retire::Evicted);
  ++evictedForRoom_;
  return true;
}

uint32_t KeyTable::cachedKeys(SpaceId space) {
  const std::shared_lock<WritersFirst> hold(mutex_);
  const auto found = spaces_.find(space);
  return found == spaces_.end() ? 0 : found->second.cached;
}

KeyTable::Counts KeyTable::counts() {
  const std::shared_lock<WritersFirst> hold(mutex_);
  Counts counts;
  for (uint32_t i = 0; i < Tally::kLength; ++i) counts.values[i] = ended_.at(i);
  for (const ThreadState* const thread : threads_) {
    for (uint32_t i = 0; i < Tally::kLength; ++i) counts.values[i] += thread->tally().at(i);
    counts.values[Counts::kContexts] += thread->keyedContexts();
  }
  counts.values[Counts::kMisses] = misses_.load(std::memory_order_relaxed);
  counts.values[Counts::kEvictedForRoom] = evictedForRoom_;
  counts.values[Counts::kEvictedIdle] = evictedIdle_;
  return counts;
}

uint32_t KeyTable::kekVersionOf(Handle dek) const {
  return dek.slot < capacity_ ? entries_[dek.slot].kekVersion.load(std::memory_order_relaxed) : 0;
}

}  // namespace kms

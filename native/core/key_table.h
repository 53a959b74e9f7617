#pragma once

#include <atomic>
#include <cstdint>
#include <mutex>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "core/arena.h"
#include "core/audit_groups.h"
#include "core/registers.h"
#include "core/slot_list.h"
#include "core/thread_state.h"
#include "core/use_rests.h"

namespace kms {

using SpaceId = uint32_t;

// What a key is for. An operation takes only its kinds, so that a data key cannot be made to unwrap a KEK. `Half` is what a client or the
// server has of a database's key: alone it is for nothing.
enum class Kind : uint8_t { Master, SlotKey, Root, Kek, Mac, Dek, Signing, Epoch, Half };
enum class KeyState : uint8_t { Active, Disabled, Destroyed };
enum class Retire : uint8_t { Evicted, Disabled, Destroyed };

// Sweeps since a use; a use that another thread noted for a sweep not yet counted here is none ago.
inline uint32_t ageOf(uint32_t lastUse, uint32_t now) {
  const auto age = static_cast<int32_t>(now - lastUse);
  return age < 0 ? 0 : static_cast<uint32_t>(age);
}

// A shared mutex on which writers go first: that of glibc lets readers pass for ever.
class WritersFirst {
 public:
  void lock() {
    waiting_.fetch_add(1);
    mutex_.lock();
    waiting_.fetch_sub(1);
  }
  void unlock() { mutex_.unlock(); }
  void lock_shared() {
    while (waiting_.load(std::memory_order_relaxed) != 0) std::this_thread::yield();
    mutex_.lock_shared();
  }
  void unlock_shared() { mutex_.unlock_shared(); }

 private:
  std::shared_mutex mutex_;
  std::atomic<uint32_t> waiting_{0};
};

// All unwrapped keys of the process: slots with generations over the arena, and the map from key ids to the DEKs among
// them. One for all threads.
//
// How a retired key is never used again, without a lock on the hot path: a user takes its thread's context (Free → Owner),
// then reads the slot's generation; a wiper raises the generation, then takes every thread's context of the slot
// (Free → Wiper, waiting for an owner to leave). Both steps are sequentially consistent, so either the user sees the new
// generation and turns away, or the wiper waits until the user is done; only then does the wiper answer. Key bytes are
// read from the arena only under the shared lock and wiped under the exclusive one. Lock order: table, then context; an
// owner never takes the table's lock while it holds a context.
class KeyTable {
 public:
  static KeyTable& instance();

  // Once per process, before any key; `keptContexts` per thread.
  Failure open(size_t arenaBytes, uint32_t keptContexts);
  uint32_t keptContexts() const { return keptContexts_; }

  SpaceId openSpace(uint32_t cachedKeys);
  // Evicts all of its cached keys. What had been begun with them is done, and told, when it returns; nothing begins afterwards.
  void retireAll(SpaceId space);
  // Wipes all of its keys and forgets its counters.
  void closeSpace(SpaceId space);
  bool hasSpace(SpaceId space);

  // Loose keys: known by handle only. `fill` writes the key straight into the arena.
  template <typename Fill>
  Failure add(SpaceId space, Kind kind, Fill&& fill, Handle* handle);
  void release(Handle key);
  // Runs `use` with the key's bytes under the shared lock. InvalidArgument for a stale handle or another kind.
  template <typename Use>
  Status with(Handle key, uint32_t kinds, Use&& use);
  template <typename Use>
  Status withTwo(Handle a, uint32_t kindsA, Handle b, uint32_t kindsB, Use&& use);
  // The same with several keys, in an array of their bytes.
  struct Asked {
    Handle key;
    uint32_t kinds = 0;
  };
  template <size_t N, typename Use>
  Status withAll(const Asked (&asked)[N], Use&& use);
  // Runs `use` with bytes it may change. For a kind that nobody else reads, by the one owner of the key, a call at a time: the
  // shared lock keeps it from being wiped meanwhile, and from nothing else.
  template <typename Use>
  Status withOwn(Handle key, Kind kind, Use&& use);
  static constexpr uint32_t bit(Kind kind) { return 1u << static_cast<uint32_t>(kind); }
  bool spaceOf(Handle key, SpaceId* space);

  // DEKs by id. `dek` is a loose key of the space.
  Failure publish(SpaceId space, Handle dek, std::string_view id, uint32_t kekVersion, uint64_t uses, Handle* serving);
  // The same for a key that `fill` writes straight into the arena: nothing of it is left if either fails. No uses come with it.
  template <typename Fill>
  Failure load(SpaceId space, std::string_view id, uint32_t kekVersion, Fill&& fill, Handle* serving);
  // The handle of a cached id, none if it is not cached. A disabled or destroyed id has one too: its use says so.
  Handle find(SpaceId space, std::string_view id);
  void retire(SpaceId space, std::string_view id, Retire how);
  void grantUses(SpaceId space, std::string_view id, uint64_t uses);
  std::vector<std::string> takeUseRequests(SpaceId space);
  // Takes back what was granted and not used, so that it can be returned to the records.
  std::vector<std::pair<std::string, uint64_t>> takeUnusedUses(SpaceId space);
  uint32_t cachedKeys(SpaceId space);
  uint32_t kekVersionOf(Handle dek) const;

  // Policies: who is for some keys only has a number, and a cached key remembers the numbers that were found to be for it.
  // What makes a key covered, its thread and its maker, never changes, so that a number once given to it stays right.
  static constexpr uint32_t kMaxPolicies = (1u << 23) - 1;
  // A number that no policy of the process had before, for no number may mean two; 0 when all are used up.
  uint32_t newPolicy();
  // From here on the cached key serves the policy. A key that is not cached is left alone: it comes back without any.
  void cover(SpaceId space, std::string_view id, uint32_t policy);

  // Wipes what was not used for that many sweeps; 0 leaves that kind of thing alone.
  void sweep(uint32_t contextSweeps, uint32_t keySweeps);
  bool hasUseRequests() const { return useRequestCount_.load(std::memory_order_relaxed) != 0; }

  // A thread's context with the DEK's key in it, held until `leave`. With `uses` > 0 that many encryptions are taken from
  // the key's reserved uses first. On failure nothing is held: a negative status, kNotCached for a stale handle.
  HotResult enter(ThreadState& thread, Handle dek, uint32_t uses, Context** context);
  // For a `policy` that is not 0 only if the key is known to be covered: kNotCovered otherwise, and nothing is held.
  HotResult enterById(ThreadState& thread, SpaceId space, std::string_view id, uint32_t policy, uint32_t uses, Context** context);
  void leave(Context* context);
  // Returns uses that an entered context took and that will not be made of it.
  void giveBack(const Context& context, uint32_t uses) { entries_[Handle(context.key).slot].remaining += uses; }
  // Of an entered context's key: a slot does not change while it is held.
  SpaceId spaceOf(const Context& context) const { return entries_[Handle(context.key).slot].space; }
  AuditedKey keyOf(const Context& context) const {
    const Handle key = context.key;
    return AuditedKey{key, entries_[key.slot].name()};
  }
  // Space and id of a cached key that may not be entered, as a copy; false for a handle that is stale or of no cached key.
  bool describe(Handle dek, SpaceId* space, std::string* id);
  // The same for one id all the process's life, and not to be foreseen.
  uint64_t hashOf(SpaceId space, std::string_view id) const { return IdHash{seed_}(IdKey{space, id}); }

  // At exit: every key of every space.
  void wipeAll();

  // What all threads, those that ended included, have counted, and what the table has.
  struct Counts {
    static constexpr uint32_t kMisses = Tally::kLength, kEvictedForRoom = kMisses + 1, kEvictedIdle = kMisses + 2;
    static constexpr uint32_t kContexts = kMisses + 3, kLength = kMisses + 4;
    uint64_t values[kLength] = {};
  };
  Counts counts();
  // A use that found its key missing.
  void missed() { misses_.fetch_add(1, std::memory_order_relaxed); }

  void addThread(ThreadState* thread);
  void removeThread(ThreadState* thread);

 private:
  // Beyond that many for one key, the one that came first is asked about again: correct, only slower.
  static constexpr int kCovering = 4;

  struct alignas(128) Entry {
    // Odd while the slot holds a key or a marker.
    std::atomic<uint32_t> generation{0};
    std::atomic<uint32_t> lastUse{0};
    std::atomic<int64_t> remaining{0};
    std::atomic<int64_t> askBelow{0};
    std::atomic<bool> asked{false};
    std::atomic<KeyState> state{KeyState::Active};
    Kind kind = Kind::Dek;
    bool published = false;
    uint8_t idLength = 0;
    Arena::Cell cell = Arena::kNone;
    SpaceId space = 0;
    std::atomic<uint32_t> kekVersion{0};
    // Policies that cover the key, the latest first; 0 is none. They end with the slot's life, so that a key that is loaded
    // again, or another one in its place, begins without.
    std::atomic<uint32_t> covering[kCovering] = {};
    char id[kKeyIdBytes] = {};

    std::string_view name() const { return {id, idLength}; }
  };
  static_assert(sizeof(Entry) == 128, "an entry is two cache lines");

  struct Space {
    uint32_t cachedKeys = 0;
    uint32_t cached = 0;
    size_t hand = 0;
    // Live ones: loose keys, cached ones, and what stands for keys that are disabled or destroyed.
    SlotList slots;
    UseRests rests;
  };

  struct IdKey {
    SpaceId space;
    std::string_view id;
    bool operator==(const IdKey& other) const { return space == other.space && id == other.id; }
  };
  struct IdHash {
    uint64_t seed;
    size_t operator()(const IdKey& key) const;
  };

  KeyTable() = default;

  Entry* entryOf(Handle key);
  Failure adopt(SpaceId space, Kind kind, Arena::Cell cell, Handle* handle);
  bool takeCell(Arena::Cell* cell);
  Failure publishCell(SpaceId space, Arena::Cell cell, std::string_view id, uint32_t kekVersion, Handle* serving);
  bool serves(SpaceId space, std::string_view id, uint64_t uses, Handle* serving);
  void begin(uint32_t slot, Kind kind, Arena::Cell cell, SpaceId space);
  Handle serve(uint32_t slot, Space& space, SpaceId id, std::string_view name, uint32_t kekVersion, uint64_t uses);
  uint32_t takeSlot();
  void freeSlot(uint32_t slot);
  Handle handleOf(uint32_t slot) const;
  void renew(uint32_t slot);
  Handle findLocked(SpaceId space, std::string_view id) const;
  bool covers(uint32_t policy, Handle key);
  void name(uint32_t slot, Space& space, SpaceId spaceId, std::string_view id);
  void retireLocked(uint32_t slot, Retire how);
  uint64_t wipeContexts(Handle key);
  bool evictOne(SpaceId space);
  // The space with the most cached keys: who has many gives way, not who comes with a first one.
  SpaceId fullest() const;
  bool makeRoom(Space& space, SpaceId id);
  HotResult bind(ThreadState& thread, Handle dek, uint32_t uses, Context* context);
  bool takeUses(ThreadState& thread, Entry& entry, Context& context, uint32_t uses);
  // Brings the numbers of spaces to their end, which takes billions of them.
  friend struct SpaceNumbers;

  void ask(ThreadState& thread, Entry& entry);
  void unbindLocked(Context& context);

  WritersFirst mutex_;
  Entry* entries_ = nullptr;
  uint32_t capacity_ = 0;
  uint32_t fresh_ = 0;
  std::vector<uint32_t> freeSlots_;
  std::vector<uint32_t> places_;
  std::unordered_map<IdKey, uint32_t, IdHash> ids_{0, IdHash{0}};
  std::unordered_map<SpaceId, Space> spaces_;
  SpaceId nextSpace_ = 1;
  std::vector<ThreadState*> threads_;
  Tally ended_;
  std::atomic<uint64_t> misses_{0};
  uint64_t evictedForRoom_ = 0;
  uint64_t evictedIdle_ = 0;
  std::mutex useRequestMutex_;
  std::vector<std::pair<SpaceId, std::string>> useRequests_;
  std::atomic<uint32_t> useRequestCount_{0};
  std::atomic<uint32_t> sweeps_{1};
  std::atomic<uint32_t> keptContexts_{0};
  std::atomic<uint32_t> policies_{0};
  uint64_t seed_ = 0;
};

template <typename Fill>
Failure KeyTable::add(SpaceId space, Kind kind, Fill&& fill, Handle* handle) {
  const RegisterGuard registers;
  // Filled in a cell that nobody knows yet; the lock is not held while `fill` reads a file or draws random bytes.
  Arena& arena = Arena::instance();
  Arena::Cell cell = Arena::kNone;
  if (!takeCell(&cell)) return Failure(Status::Busy, "the key arena is full");
  Failure failure = fill(arena.key(cell));
  if (failure.ok()) failure = adopt(space, kind, cell, handle);
  if (!failure.ok()) arena.release(cell);
  return failure;
}

template <typename Fill>
Failure KeyTable::load(SpaceId space, std::string_view id, uint32_t kekVersion, Fill&& fill, Handle* serving) {
  const RegisterGuard registers;
  Arena::Cell cell = Arena::kNone;
  if (!takeCell(&cell)) return Failure(Status::Busy, "the key arena is full");
  Failure failure = fill(Arena::instance().key(cell));
  if (failure.ok()) failure = publishCell(space, cell, id, kekVersion, serving);
  if (!failure.ok()) Arena::instance().release(cell);
  return failure;
}

template <size_t N, typename Use>
Status KeyTable::withAll(const Asked (&asked)[N], Use&& use) {
  const RegisterGuard registers;
  const std::shared_lock<WritersFirst> hold(mutex_);
  const uint8_t* keys[N];
  for (size_t i = 0; i < N; ++i) {
    const Entry* const entry = entryOf(asked[i].key);
    if (entry == nullptr || entry->cell == Arena::kNone || (asked[i].kinds & bit(entry->kind)) == 0) return Status::InvalidArgument;
    keys[i] = Arena::instance().key(entry->cell);
  }
  return use(keys);
}

template <typename Use>
Status KeyTable::with(Handle key, uint32_t kinds, Use&& use) {
  const Asked asked[] = {{key, kinds}};
  return withAll(asked, [&](const uint8_t* const (&keys)[1]) { return use(keys[0]); });
}

template <typename Use>
Status KeyTable::withTwo(Handle a, uint32_t kindsA, Handle b, uint32_t kindsB, Use&& use) {
  const Asked asked[] = {{a, kindsA}, {b, kindsB}};
  return withAll(asked, [&](const uint8_t* const (&keys)[2]) { return use(keys[0], keys[1]); });
}

template <typename Use>
Status KeyTable::withOwn(Handle key, Kind kind, Use&& use) {
  const RegisterGuard registers;
  const std::shared_lock<WritersFirst> hold(mutex_);
  const Entry* const entry = entryOf(key);
  if (entry == nullptr || entry->cell == Arena::kNone || entry->kind != kind) return Status::InvalidArgument;
  return use(Arena::instance().key(entry->cell));
}

}  // namespace kms

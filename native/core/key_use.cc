#include <algorithm>
#include <cstring>
#include <thread>

#include "core/key_table.h"

// The other half of the key table: how threads use its keys, and how their contexts are wiped.
namespace kms {

namespace {

// Uses a thread takes from a key's counter at once, so that threads do not fight for its cache line.
constexpr uint32_t kSubBlock = 64;

void hold(Context& context, Hold by) {
  for (Hold free = Hold::Free; !context.hold.compare_exchange_weak(free, by); free = Hold::Free) std::this_thread::yield();
}

bool tryHold(Context& context, Hold by) {
  Hold free = Hold::Free;
  return context.hold.compare_exchange_strong(free, by);
}

void letGo(Context& context) { context.hold.store(Hold::Free, std::memory_order_release); }

}  // namespace

// Wipes every thread's context of the key and returns the uses they had not used. Waits for operations under way.
uint64_t KeyTable::wipeContexts(Handle key) {
  uint64_t credit = 0;
  for (ThreadState* const thread : threads_) {
    for (Context* const context : {thread->contextOf(key.slot), &thread->passing()}) {
      if (context == nullptr || !(context->key == key)) continue;
      hold(*context, Hold::Wiper);
      if (context->key == key) {
        credit += context->credit;
        context->credit = 0;
        context->cipher.forget();
        context->key = Handle{};
      }
      letGo(*context);
    }
  }
  return credit;
}

void KeyTable::sweep(uint32_t contextSweeps, uint32_t keySweeps) {
  const uint32_t now = sweeps_.fetch_add(1) + 1;
  if (contextSweeps != 0) {
    const std::shared_lock<WritersFirst> shared(mutex_);
    for (ThreadState* const thread : threads_) {
      for (uint32_t i = 0; i < thread->contextCount(); ++i) {
        Context& context = thread->contexts()[i];
        // One in use is not idle.
        if (!tryHold(context, Hold::Wiper)) continue;
        if (!context.key.none() && ageOf(context.lastUse, now) > contextSweeps) unbindLocked(context);
        letGo(context);
      }
    }
  }
  if (keySweeps == 0) return;
  const std::unique_lock<WritersFirst> hold(mutex_);
  for (uint32_t slot = 0; slot < fresh_; ++slot) {
    Entry& entry = entries_[slot];
    if (!entry.published || ageOf(entry.lastUse.load(std::memory_order_relaxed), now) <= keySweeps) continue;
    retireLocked(slot, Retire::Evicted);
    ++evictedIdle_;
  }
}

// Wipes a context that is held, under either lock, and gives its uses back while the key is still the one it took them from.
void KeyTable::unbindLocked(Context& context) {
  if (Entry* const entry = entryOf(context.key)) entry->remaining += context.credit;
  context.credit = 0;
  context.cipher.forget();
  context.key = Handle{};
}

void KeyTable::ask(ThreadState& thread, Entry& entry) {
  const std::lock_guard<std::mutex> hold(useRequestMutex_);
  useRequests_.emplace_back(entry.space, std::string(entry.name()));
  useRequestCount_ = static_cast<uint32_t>(useRequests_.size());
  thread.ring();
}

bool KeyTable::takeUses(ThreadState& thread, Entry& entry, Context& context, uint32_t uses) {
  if (uses <= context.credit) {
    context.credit -= uses;
    return true;
  }
  const uint32_t missing = uses - context.credit;
  int64_t remaining = entry.remaining.load();
  int64_t taken = 0;
  do {
    if (remaining < missing) return false;
    taken = std::min<int64_t>(remaining, missing + (context.kept ? kSubBlock : 0));
  } while (!entry.remaining.compare_exchange_weak(remaining, remaining - taken));
  context.credit = static_cast<uint32_t>(taken) - missing;
  if (remaining - taken <= entry.askBelow.load(std::memory_order_relaxed) && !entry.asked.exchange(true)) ask(thread, entry);
  return true;
}

void KeyTable::grantUses(SpaceId space, std::string_view id, uint64_t uses) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  const auto found = spaces_.find(space);
  if (found == spaces_.end()) return;
  const Handle known = findLocked(space, id);
  if (known.none() || entries_[known.slot].state != KeyState::Active) {
    found->second.rests.add(id, uses);
    return;
  }
  Entry& entry = entries_[known.slot];
  const int64_t remaining = entry.remaining.fetch_add(static_cast<int64_t>(uses)) + static_cast<int64_t>(uses);
  entry.askBelow = remaining / 2;
  entry.asked = false;
}

std::vector<std::string> KeyTable::takeUseRequests(SpaceId space) {
  const std::lock_guard<std::mutex> hold(useRequestMutex_);
  std::vector<std::string> taken;
  const auto mine = std::stable_partition(useRequests_.begin(), useRequests_.end(), [&](const auto& one) { return one.first != space; });
  for (auto one = mine; one != useRequests_.end(); ++one) taken.push_back(std::move(one->second));
  useRequests_.erase(mine, useRequests_.end());
  useRequestCount_ = static_cast<uint32_t>(useRequests_.size());
  return taken;
}

std::vector<std::pair<std::string, uint64_t>> KeyTable::takeUnusedUses(SpaceId space) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  const auto found = spaces_.find(space);
  if (found == spaces_.end()) return {};
  const SlotList& slots = found->second.slots;
  for (size_t at = 0; at < slots.size(); ++at) {
    const uint32_t slot = slots[at];
    Entry& entry = entries_[slot];
    if (!entry.published) continue;
    const uint64_t rest = wipeContexts(handleOf(slot)) + static_cast<uint64_t>(std::max<int64_t>(0, entry.remaining.exchange(0)));
    found->second.rests.add(entry.name(), rest);
  }
  return found->second.rests.takeAll();
}

// The slow way in: under the shared lock, which no retirement can be under, the thread's context is keyed anew.
HotResult KeyTable::bind(ThreadState& thread, Handle dek, uint32_t uses, Context* context) {
  const std::shared_lock<WritersFirst> shared(mutex_);
  Entry* const entry = entryOf(dek);
  if (entry == nullptr) return kNotCached;
  if (entry->kind != Kind::Dek || !entry->published) return hotFailure(Status::InvalidArgument);
  const KeyState state = entry->state.load(std::memory_order_relaxed);
  if (state == KeyState::Disabled) return hotFailure(Status::KeyDisabled);
  if (state == KeyState::Destroyed) return hotFailure(Status::KeyDestroyed);
  hold(*context, Hold::Owner);
  if (!(context->key == dek)) {
    if (Entry* const before = entryOf(context->key)) before->remaining += context->credit;
    context->credit = 0;
    context->key = dek;
    if (!context->cipher.setKey(Arena::instance().key(entry->cell))) {
      unbindLocked(*context);
      letGo(*context);
      return hotFailure(Status::Internal);
    }
  }
  const uint32_t now = sweeps_.load(std::memory_order_relaxed);
  context->lastUse = now;
  entry->lastUse.store(now, std::memory_order_relaxed);
  if (uses == 0 || takeUses(thread, *entry, *context, uses)) {
    thread.tally().hit();
    return 0;
  }
  if (!context->kept) unbindLocked(*context);
  letGo(*context);
  return kNeedsUses;
}

HotResult KeyTable::enter(ThreadState& thread, Handle dek, uint32_t uses, Context** context) {
  Context* const kept = thread.contextOf(dek.slot);
  *context = kept != nullptr ? kept : &thread.passing();
  if (kept != nullptr && tryHold(*kept, Hold::Owner)) {
    // The generation is read after the hold: see the class comment.
    Entry* const entry = entryOf(dek);
    if (entry != nullptr && kept->key == dek) {
      const uint32_t now = sweeps_.load(std::memory_order_relaxed);
      kept->lastUse = now;
      if (entry->lastUse.load(std::memory_order_relaxed) != now) entry->lastUse.store(now, std::memory_order_relaxed);
      if (uses == 0 || takeUses(thread, *entry, *kept, uses)) {
        thread.tally().hit();
        return 0;
      }
      letGo(*kept);
      return kNeedsUses;
    }
    letGo(*kept);
  }
  return bind(thread, dek, uses, *context);
}

HotResult KeyTable::enterById(ThreadState& thread, SpaceId space, std::string_view id, uint32_t policy, uint32_t uses,
                              Context** context) {
  if (id.empty() || id.size() > kKeyIdBytes) return kNotCached;
  const bool isLast = thread.lastRemembered().names(space, id);
  RememberedId& memory = isLast ? thread.lastRemembered() : thread.remembered(IdHash{seed_}(IdKey{space, id}));
  // A remembered handle may be stale, and then nothing covers it.
  if ((isLast || memory.names(space, id)) && covers(policy, memory.key)) {
    const HotResult result = enter(thread, memory.key, uses, context);
    if (result != kNotCached) return result;
  }
  const Handle key = find(space, id);
  if (key.none()) return kNotCached;
  memory.space = space;
  memory.key = key;
  memory.length = static_cast<uint8_t>(id.size());
  memcpy(memory.id, id.data(), id.size());
  return covers(policy, key) ? enter(thread, key, uses, context) : kNotCovered;
}

void KeyTable::leave(Context* context) {
  if (!context->kept) {
    // Nothing is left of it: uses beyond the operation were not taken.
    context->cipher.forget();
    context->key = Handle{};
  }
  letGo(*context);
}

bool KeyTable::describe(Handle dek, SpaceId* space, std::string* id) {
  const std::shared_lock<WritersFirst> hold(mutex_);
  const Entry* const entry = entryOf(dek);
  if (entry == nullptr || entry->kind != Kind::Dek || !entry->published) return false;
  *space = entry->space;
  id->assign(entry->name());
  return true;
}

void KeyTable::addThread(ThreadState* thread) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  threads_.push_back(thread);
}

void KeyTable::removeThread(ThreadState* thread) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  for (uint32_t i = 0; i < thread->contextCount(); ++i) unbindLocked(thread->contexts()[i]);
  ended_.absorb(thread->tally());
  threads_.erase(std::remove(threads_.begin(), threads_.end(), thread), threads_.end());
}

}  // namespace kms

#include "core/key_table.h"

// Which policies a cached key serves.
namespace kms {

uint32_t KeyTable::newPolicy() {
  uint32_t last = policies_.load();
  do {
    if (last == kMaxPolicies) return 0;
  } while (!policies_.compare_exchange_weak(last, last + 1));
  return last + 1;
}

void KeyTable::cover(SpaceId space, std::string_view id, uint32_t policy) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  const Handle key = findLocked(space, id);
  if (key.none() || policy == 0) return;
  std::atomic<uint32_t>* const covering = entries_[key.slot].covering;
  for (int i = 0; i < kCovering; ++i) {
    if (covering[i].load(std::memory_order_relaxed) == policy) return;
  }
  // Whoever reads meanwhile may miss one, and never finds one that does not belong there.
  for (int i = kCovering - 1; i > 0; --i) covering[i].store(covering[i - 1].load(std::memory_order_relaxed), std::memory_order_release);
  covering[0].store(policy, std::memory_order_release);
}

// Without the lock. `key` was live when it was found, and a slot is cleared before its next life begins: what is read here
// is of that life or of a later one. In the second case reading it (acquire) makes the later generation visible, and `enter`,
// which comes next and reads that, turns the handle away.
bool KeyTable::covers(uint32_t policy, Handle key) {
  if (policy == 0) return true;
  const Entry* const entry = entryOf(key);
  if (entry == nullptr) return false;
  for (const std::atomic<uint32_t>& one : entry->covering) {
    if (one.load(std::memory_order_acquire) == policy) return true;
  }
  return false;
}

}  // namespace kms

#include "core/audit_events.h"

namespace kms {

namespace {

constexpr uint32_t kHalf = EventQueue::kCapacity / 2;
// Above the half the bell rings again, in case whoever heard it could not come.
constexpr uint32_t kRingEvery = 1024;

}  // namespace

bool EventQueue::reserve(int32_t places) {
  if (free_.fetch_sub(places, std::memory_order_relaxed) >= places) return true;
  giveBack(places);
  return false;
}

bool EventQueue::push(const DataEvent& event, const AuditedKey& key) {
  const std::lock_guard<std::mutex> hold(mutex_);
  if (closed_) return false;
  if (ring_.empty()) ring_.resize(kCapacity);
  Event& place = ring_[(head_ + count_) % kCapacity];
  place.bytes = event.bytes;
  place.actor = event.actor;
  place.items = event.items;
  place.outcome = static_cast<uint8_t>(event.outcome);
  place.encrypts = event.encrypts;
  place.batch = event.batch;
  place.idLength = static_cast<uint8_t>(key.id.size());
  memcpy(place.id, key.id.data(), key.id.size());
  ++count_;
  return count_ >= kHalf && count_ % kRingEvery == 0;
}

uint32_t EventQueue::waiting() {
  const std::lock_guard<std::mutex> hold(mutex_);
  return count_;
}

void EventQueue::close() {
  const std::lock_guard<std::mutex> hold(mutex_);
  closed_ = true;
  count_ = 0;
  std::vector<Event>().swap(ring_);
}

void EventQueue::drop(uint32_t count) {
  {
    const std::lock_guard<std::mutex> hold(mutex_);
    head_ = (head_ + count) % kCapacity;
    count_ -= count;
  }
  giveBack(static_cast<int32_t>(count));
}

}  // namespace kms

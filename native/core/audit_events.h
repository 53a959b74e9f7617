#pragma once

#include <atomic>
#include <mutex>
#include <vector>

#include "core/audit_groups.h"

namespace kms {

// Operations that each get a line, in the order they were done, until the line is made. Bounded: who cannot reserve a place does not
// begin, so that nothing is ever dropped. Many threads push, one takes.
class EventQueue {
 public:
  static constexpr int32_t kCapacity = 65536;

  struct Event {
    uint64_t bytes = 0;
    uint32_t actor = 0;
    uint32_t items = 0;
    uint8_t outcome = 0;
    bool encrypts = false;
    bool batch = false;
    uint8_t idLength = 0;
    char id[kKeyIdBytes] = {};
  };

  // False when there are not so many places.
  bool reserve(int32_t places);
  void giveBack(int32_t places) { free_.fetch_add(places, std::memory_order_relaxed); }
  // Into a reserved place. Whether it is time that somebody took some.
  bool push(const DataEvent& event, const AuditedKey& key);

  // How many there are to take; they stay where they are until `drop`.
  uint32_t waiting();
  // The one so many after the first that waits.
  const Event& at(uint32_t index) const { return ring_[(head_ + index) % kCapacity]; }
  // Gives the places of the first `count` back.
  void drop(uint32_t count);
  // The space is gone: events that wait, and that still come, go with it.
  void close();

 private:
  std::mutex mutex_;
  // Made with the first event: most spaces never have one.
  std::vector<Event> ring_;
  std::atomic<int32_t> free_{kCapacity};
  // Changed by the taker alone, and by the end.
  uint32_t head_ = 0;
  uint32_t count_ = 0;
  bool closed_ = false;
};

}  // namespace kms

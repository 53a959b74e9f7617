#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace kms {

// The slots of one space, in no order: one is added or removed without a search, and the end of a space, or a space that is full, looks
// at its own slots and not at those of all others. `places` says where each slot of the table stands in the list that it is in.
class SlotList {
 public:
  size_t size() const { return slots_.size(); }
  uint32_t operator[](size_t at) const { return slots_[at]; }

  void add(uint32_t slot, std::vector<uint32_t>& places) {
    places[slot] = static_cast<uint32_t>(slots_.size());
    slots_.push_back(slot);
  }
  // The last one takes its place.
  void remove(uint32_t slot, std::vector<uint32_t>& places) {
    const uint32_t at = places[slot];
    slots_[at] = slots_.back();
    places[slots_[at]] = at;
    slots_.pop_back();
  }

 private:
  std::vector<uint32_t> slots_;
};

}  // namespace kms

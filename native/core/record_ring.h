#pragma once

#include <cstdint>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/key_table.h"

namespace kms {

// What the records of one store are read and written with: its id, the key of their MACs, and the KEKs, the active one first.
struct RecordRing {
  struct Kek {
    std::string id;
    uint32_t version = 0;
    Handle key;
  };

  std::string storeId;
  Handle recordMac;
  std::vector<Kek> keks;

  const Kek& active() const { return keks.front(); }
  // Null for one that the keyring does not hold. There are two of them during a rotation, else one.
  const Kek* find(std::string_view kekId) const;
};

// The rings of the process by space. One for all threads: a ring is replaced as a whole and never changed, and it holds handles, so
// that a KEK that is wiped while a ring still names it is refused by the key table. Lock order: rings, then table.
class RecordRings {
 public:
  static RecordRings& instance();

  // Sealed for a space that is gone; InvalidArgument for ids that are none, and for keys of another space.
  Failure set(SpaceId space, RecordRing ring);
  void forget(SpaceId space);
  // Runs `use` with the ring, which stays until it returns. Sealed where there is none.
  template <typename Use>
  HotResult with(SpaceId space, Use&& use);

 private:
  WritersFirst mutex_;
  std::unordered_map<SpaceId, RecordRing> rings_;
};

template <typename Use>
HotResult RecordRings::with(SpaceId space, Use&& use) {
  const std::shared_lock<WritersFirst> hold(mutex_);
  const auto found = rings_.find(space);
  return found == rings_.end() ? hotFailure(Status::Sealed) : use(static_cast<const RecordRing&>(found->second));
}

}  // namespace kms

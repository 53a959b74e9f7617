#include "core/record_ring.h"

#include <utility>

#include "core/document_rules.h"

namespace kms {

namespace {

bool isOf(SpaceId space, Handle key) {
  SpaceId own = 0;
  return KeyTable::instance().spaceOf(key, &own) && own == space;
}

}  // namespace

const RecordRing::Kek* RecordRing::find(std::string_view kekId) const {
  for (const Kek& kek : keks) {
    if (kek.id == kekId) return &kek;
  }
  return nullptr;
}

// Never destroyed, as the key table.
RecordRings& RecordRings::instance() {
  static RecordRings* const rings = new RecordRings();
  return *rings;
}

Failure RecordRings::set(SpaceId space, RecordRing ring) {
  if (!KeyTable::instance().hasSpace(space)) return Failure(Status::Sealed);
  bool good = isStoreId(ring.storeId) && isOf(space, ring.recordMac) && !ring.keks.empty() && ring.keks.size() <= kMaxKeks;
  for (const RecordRing::Kek& kek : ring.keks) good = good && isKekId(kek.id) && kek.version != 0 && isOf(space, kek.key);
  if (!good) return Failure(Status::InvalidArgument, "not a ring of this space");
  const std::unique_lock<WritersFirst> hold(mutex_);
  rings_[space] = std::move(ring);
  return Failure();
}

void RecordRings::forget(SpaceId space) {
  const std::unique_lock<WritersFirst> hold(mutex_);
  rings_.erase(space);
}

}  // namespace kms

#include "core/record_keys.h"

#include <openssl/crypto.h>

#include <cstring>

#include "core/record_ring.h"
#include "core/sha256.h"

namespace kms {
namespace {

constexpr uint32_t kMac = KeyTable::bit(Kind::Mac);
constexpr uint32_t kKek = KeyTable::bit(Kind::Kek);
constexpr uint32_t kDek = KeyTable::bit(Kind::Dek);

using TwoKeys = const uint8_t* const (&)[2];
using ThreeKeys = const uint8_t* const (&)[3];

// What hashes and ciphers leave on the stack goes when the call is over, however it ends.
class StackGuard {
 public:
  StackGuard() = default;
  ~StackGuard() { wipeStack(); }
  StackGuard(const StackGuard&) = delete;
  StackGuard& operator=(const StackGuard&) = delete;
};

// Locked memory for a key that is on its way from one KEK to another.
class PassingKey {
 public:
  PassingKey() : cell_(Arena::instance().allocate()) {}
  ~PassingKey() {
    if (cell_ != Arena::kNone) Arena::instance().release(cell_);
  }
  PassingKey(const PassingKey&) = delete;
  PassingKey& operator=(const PassingKey&) = delete;
  bool good() const { return cell_ != Arena::kNone; }
  uint8_t* bytes() const { return Arena::instance().key(cell_); }

 private:
  const Arena::Cell cell_;
};

// A record in memory of its own: it may come from a file that is mapped, and what was checked must be what is used.
class Held {
 public:
  // Whether it is a record of the store; its MAC is not checked.
  bool take(const RecordRing& ring, Bytes packed) {
    if (packed.length > sizeof bytes_) return false;
    if (packed.length != 0) memcpy(bytes_, packed.data, packed.length);
    PackedFault fault;
    return unpack(Bytes{bytes_, packed.length}, &record, &fault) && record.storeId == ring.storeId;
  }
  bool take(const RecordRing& ring, Bytes packed, std::string_view keyId) { return take(ring, packed) && record.keyId == keyId; }

  PackedRecord record;

 private:
  uint8_t bytes_[kMaxPackedBytes];
};

void macOf(const uint8_t* key, Bytes canonical, uint8_t mac[kMacBytes]) { hmacSha256(Bytes{key, kKeyBytes}, {canonical}, mac); }

bool isGenuine(const uint8_t* macKey, const PackedRecord& record) {
  uint8_t mac[kMacBytes];
  macOf(macKey, record.canonical, mac);
  return CRYPTO_memcmp(mac, record.mac.data, kMacBytes) == 0;
}

Status unwrapOf(Cipher& cipher, const uint8_t* kek, const PackedRecord& record, uint8_t* key) {
  uint8_t aad[kMaxDekAadBytes];
  return unwrapIn(cipher, kek, record.wrapped.data, dekAadOf(record, aad), key);
}

// The record with `key` under the KEK that it names: its length in `out`. `record.wrapped` is not read.
HotResult seal(ThreadState& thread, Cipher& cipher, const uint8_t* macKey, const uint8_t* kek, const uint8_t* key, PackedRecord record,
               uint8_t* out) {
  uint8_t wrapped[kWrappedBytes], aad[kMaxDekAadBytes];
  thread.nonces().expire();
  if (!thread.nonces().next(wrapped)) return hotFailure(Status::Internal);
  const Status status = wrapIn(cipher, kek, key, dekAadOf(record, aad), wrapped);
  if (status != Status::Ok) return hotFailure(status);
  record.wrapped = Bytes{wrapped, sizeof wrapped};
  const Bytes canonical = canonicalOf(record, out);
  macOf(macKey, canonical, out + canonical.length);
  return static_cast<HotResult>(canonical.length + kMacBytes);
}

bool isSound(const NewRecord& made) {
  return isKeyId(made.keyId) && isThreadIdOrEmpty(made.threadId) && isActor(made.createdBy) && isTime(made.at) && made.uses <= kMaxUses;
}

// A key of a record that has none to load: it is disabled or destroyed, and its use says so.
HotResult leaveState(SpaceId space, const RecordRing& ring, const PackedRecord& record, Handle* serving) {
  KeyTable& table = KeyTable::instance();
  const Status status = table.with(ring.recordMac, kMac, [&](const uint8_t* macKey) {
    return isGenuine(macKey, record) ? Status::Ok : Status::StoreUnavailable;
  });
  if (status != Status::Ok) return hotFailure(status);
  table.retire(space, record.keyId, record.isDestroyed() ? Retire::Destroyed : Retire::Disabled);
  *serving = table.find(space, record.keyId);
  return serving->none() ? hotFailure(Status::Busy) : 0;
}

}  // namespace

HotResult makeRecord(ThreadState& thread, SpaceId space, const NewRecord& made, Handle dek, uint8_t* out) {
  if (!isSound(made)) return hotFailure(Status::InvalidArgument);
  const StackGuard stack;
  return RecordRings::instance().with(space, [&](const RecordRing& ring) {
    PackedRecord record;
    record.storeId = ring.storeId;
    record.keyId = made.keyId;
    record.threadId = made.threadId;
    record.state = "active";
    record.version = 1;
    record.kekId = ring.active().id;
    record.kekVersion = ring.active().version;
    record.usesReserved = made.uses;
    record.createdAt = record.updatedAt = made.at;
    record.createdBy = made.createdBy;
    HotResult result = 0;
    const KeyTable::Asked asked[] = {{ring.recordMac, kMac}, {ring.active().key, kKek}, {dek, kDek}};
    const Status status = KeyTable::instance().withAll(asked, [&](ThreeKeys keys) {
      Cipher cipher;
      result = seal(thread, cipher, keys[0], keys[1], keys[2], record, out);
      return Status::Ok;
    });
    return status == Status::Ok ? result : hotFailure(status);
  });
}

HotResult loadRecord(SpaceId space, std::string_view keyId, Bytes packed, Handle* serving) {
  const StackGuard stack;
  return RecordRings::instance().with(space, [&](const RecordRing& ring) -> HotResult {
    Held held;
    if (!held.take(ring, packed, keyId)) return hotFailure(Status::StoreUnavailable);
    const PackedRecord& record = held.record;
    if (record.state != "active") return leaveState(space, ring, record, serving);
    if (record.usesReserved >= kSoftUses) return hotFailure(Status::KeyExhausted);
    const RecordRing::Kek* const kek = ring.find(record.kekId);
    if (kek == nullptr) return hotFailure(Status::StoreUnavailable);
    const KeyTable::Asked asked[] = {{ring.recordMac, kMac}, {kek->key, kKek}};
    const auto fill = [&](uint8_t* key) {
      return Failure(KeyTable::instance().withAll(asked, [&](TwoKeys keys) {
        if (!isGenuine(keys[0], record)) return Status::StoreUnavailable;
        Cipher cipher;
        return unwrapOf(cipher, keys[1], record, key);
      }));
    };
    const auto kekVersion = static_cast<uint32_t>(record.kekVersion);
    return hotFailure(KeyTable::instance().load(space, keyId, kekVersion, fill, serving).status);
  });
}

HotResult moveRecord(ThreadState& thread, SpaceId space, std::string_view keyId, Bytes packed, std::string_view at, uint8_t* out) {
  if (!isTime(at)) return hotFailure(Status::InvalidArgument);
  const StackGuard stack;
  return RecordRings::instance().with(space, [&](const RecordRing& ring) -> HotResult {
    Held held;
    if (!held.take(ring, packed, keyId)) return hotFailure(Status::StoreUnavailable);
    const PackedRecord& record = held.record;
    const RecordRing::Kek& to = ring.active();
    const bool stays = record.isDestroyed() || record.kekId == to.id;
    // The KEK of a key that is destroyed may be gone.
    const RecordRing::Kek* const from = stays ? &to : ring.find(record.kekId);
    if (from == nullptr) return hotFailure(Status::StoreUnavailable);
    if (!stays && record.version == kMaxInteger) return hotFailure(Status::InvalidArgument);
    PassingKey key;
    if (!key.good()) return hotFailure(Status::Busy);
    HotResult result = 0;
    const KeyTable::Asked asked[] = {{ring.recordMac, kMac}, {from->key, kKek}, {to.key, kKek}};
    const Status status = KeyTable::instance().withAll(asked, [&](ThreeKeys keys) {
      if (!isGenuine(keys[0], record)) return Status::StoreUnavailable;
      if (stays) return Status::Ok;
      Cipher cipher;
      const Status opened = unwrapOf(cipher, keys[1], record, key.bytes());
      if (opened != Status::Ok) return opened;
      PackedRecord moved = record;
      moved.version += 1;
      moved.kekId = to.id;
      moved.kekVersion = to.version;
      moved.updatedAt = at;
      result = seal(thread, cipher, keys[0], keys[2], key.bytes(), moved, out);
      return Status::Ok;
    });
    return status == Status::Ok ? result : hotFailure(status);
  });
}

HotResult holdSameKey(SpaceId space, Bytes one, Bytes other) {
  const StackGuard stack;
  return RecordRings::instance().with(space, [&](const RecordRing& ring) -> HotResult {
    Held first, second;
    if (!first.take(ring, one) || !second.take(ring, other, first.record.keyId)) return hotFailure(Status::StoreUnavailable);
    const RecordRing::Kek* const firstKek = ring.find(first.record.kekId);
    const RecordRing::Kek* const secondKek = ring.find(second.record.kekId);
    if (firstKek == nullptr || secondKek == nullptr) return hotFailure(Status::StoreUnavailable);
    if (first.record.isDestroyed() || second.record.isDestroyed()) return hotFailure(Status::KeyDestroyed);
    PassingKey firstKey, secondKey;
    if (!firstKey.good() || !secondKey.good()) return hotFailure(Status::Busy);
    const KeyTable::Asked asked[] = {{ring.recordMac, kMac}, {firstKek->key, kKek}, {secondKek->key, kKek}};
    const Status status = KeyTable::instance().withAll(asked, [&](ThreeKeys keys) {
      if (!isGenuine(keys[0], first.record) || !isGenuine(keys[0], second.record)) return Status::StoreUnavailable;
      Cipher cipher;
      const Status opened = unwrapOf(cipher, keys[1], first.record, firstKey.bytes());
      return opened == Status::Ok ? unwrapOf(cipher, keys[2], second.record, secondKey.bytes()) : opened;
    });
    if (status != Status::Ok) return hotFailure(status);
    return CRYPTO_memcmp(firstKey.bytes(), secondKey.bytes(), kKeyBytes) == 0 ? 1 : 0;
  });
}

}  // namespace kms

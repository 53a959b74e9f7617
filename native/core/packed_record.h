#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "core/cipher.h"
#include "core/document_rules.h"
#include "core/documents.h"
#include "core/kdf.h"

namespace kms {

// A record as LMDB and PostgreSQL keep it: the bytes that its MAC is over, then the MAC (docs/FORMATS.md). The members stand where
// those bytes are, which have to outlive them; reading one allocates nothing, because it is done for every key that is loaded.
struct PackedRecord {
  std::string_view storeId;
  std::string_view keyId;
  // Empty for a key without a thread.
  std::string_view threadId;
  std::string_view state;
  uint64_t version = 0;
  // Empty exactly when destroyed.
  Bytes wrapped;
  std::string_view kekId;
  uint64_t kekVersion = 0;
  uint64_t usesReserved = 0;
  std::string_view createdAt;
  std::string_view updatedAt;
  std::string_view createdBy;
  // All but the MAC.
  Bytes canonical;
  Bytes mac;

  bool isDestroyed() const { return wrapped.length == 0; }
};

constexpr std::string_view kAlg = "A256GCM";
constexpr std::string_view kRecordTag = "progressdb-kms/record/v1";
constexpr std::string_view kDekTag = "progressdb-kms/dek/v1";

constexpr size_t kLengthBytes = 4;
// Digits of the longest numbers: a version, of a KEK, and of uses; the longest state.
constexpr size_t kIntegerDigits = 16, kKekVersionDigits = 10, kUsesDigits = 10, kStateBytes = 9;
constexpr size_t kMaxCanonicalBytes = 15 * kLengthBytes + kRecordTag.size() + 1 + kStoreIdBytes + kKeyIdBytes + kMaxThreadIdBytes +
                                      kAlg.size() + kStateBytes + kIntegerDigits + kWrappedBytes + kKekIdBytes + kKekVersionDigits +
                                      kUsesDigits + 2 * kTimeBytes + kMaxActorBytes;
constexpr size_t kMaxPackedBytes = kMaxCanonicalBytes + kMacBytes;
constexpr size_t kMaxDekAadBytes = 9 * kLengthBytes + kDekTag.size() + kStoreIdBytes + kKeyIdBytes + kMaxThreadIdBytes + kAlg.size() +
                                   kTimeBytes + kMaxActorBytes + kKekIdBytes + kKekVersionDigits;

// What is wrong with a record: the member, null where it is the record as a whole, and a text without its content.
struct PackedFault {
  const char* member = nullptr;
  const char* what = nullptr;
};

// Reads one, held to every rule of a record. The MAC is not checked. False, and then `*out` is of no use.
bool unpack(Bytes packed, PackedRecord* out, PackedFault* fault);

// The same with members that stand for themselves, as `readRecord` reads a file.
Failure readPackedRecord(const uint8_t* packed, size_t length, Record* out);

// What the MAC of a record is over, written to kMaxCanonicalBytes.
Bytes canonicalOf(const PackedRecord& record, uint8_t* out);
// What its wrapped key is bound to, written to kMaxDekAadBytes.
Bytes dekAadOf(const PackedRecord& record, uint8_t* out);

}  // namespace kms

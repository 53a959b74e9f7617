#include "core/documents.h"

#include "core/cipher.h"
#include "core/document_rules.h"
#include "core/encoding.h"
#include "core/json.h"
#include "core/kdf.h"

namespace kms {
namespace {

constexpr uint64_t kKeyringFormat = 2;
constexpr size_t kMaxRecordBytes = 4096;
constexpr size_t kMaxKeyringBytes = 1 << 20;
constexpr size_t kMaxSlots = 64;
constexpr size_t kMaxAuditKeys = 2;
constexpr size_t kSaltBytes = 32;
constexpr size_t kPublicKeyBytes = 32;
constexpr size_t kShaBytes = 32;

// A document being read: where it is, and what is wrong with it once something is.
struct Reading {
  JsonReader json;
  std::string detail;
};

bool text(Reading& in, std::string* value, bool (*rule)(std::string_view)) {
  return in.json.readString(value) && rule(*value);
}

bool number(Reading& in, uint64_t* value, uint64_t least, uint64_t most) {
  return in.json.readInteger(value) && *value >= least && *value <= most;
}

const uint8_t* bytesOf(const std::string& value) { return reinterpret_cast<const uint8_t*>(value.data()); }

bool base64(Reading& in, std::vector<uint8_t>* value, size_t length) {
  std::string encoded;
  if (!in.json.readString(&encoded) || encoded.size() != base64Length(length)) return false;
  value->resize(length);
  return decodeBase64(bytesOf(encoded), encoded.size(), value->data(), length);
}

bool base64OrEmpty(Reading& in, std::vector<uint8_t>* value, size_t length) {
  std::string encoded;
  if (!in.json.readString(&encoded)) return false;
  if (encoded.empty()) return true;
  if (encoded.size() != base64Length(length)) return false;
  value->resize(length);
  return decodeBase64(bytesOf(encoded), encoded.size(), value->data(), length);
}

bool lowerHex(Reading& in, std::vector<uint8_t>* value, size_t length) {
  std::string encoded;
  if (!in.json.readString(&encoded) || !isLowerHex(encoded, 2 * length)) return false;
  value->resize(length);
  return decodeHex(bytesOf(encoded), encoded.size(), value->data(), length);
}

// One row of a document's table.
template <typename Document>
struct Member {
  const char* name;
  bool (*read)(Reading& in, Document& out);
};

template <typename Document, size_t N>
bool readMembers(Reading& in, const Member<Document> (&members)[N], Document* out) {
  static_assert(N <= 32, "one bit per member");
  if (!in.json.openObject()) return false;
  uint32_t seen = 0;
  std::string name;
  while (in.json.nextMember(&name)) {
    size_t i = 0;
    while (i < N && name != members[i].name) i++;
    if (i == N) {
      in.detail = "has an unknown member";  // its name is content
      return false;
    }
    if ((seen & 1u << i) != 0) {
      in.detail = name + " stands twice";
      return false;
    }
    seen |= 1u << i;
    if (!members[i].read(in, *out)) {
      if (in.detail.empty()) in.detail = name + " does not follow its rule";
      return false;
    }
  }
  for (size_t i = 0; i < N && !in.json.failed(); i++) {
    if ((seen & 1u << i) != 0) continue;
    in.detail = std::string(members[i].name) + " is missing";
    return false;
  }
  return !in.json.failed();
}

template <typename Item, size_t N>
bool readListOrNone(Reading& in, const char* name, const Member<Item> (&members)[N], size_t most, std::vector<Item>* items) {
  if (!in.json.openArray()) return false;
  while (in.json.nextElement()) {
    if (items->size() == most) return false;
    const size_t index = items->size();
    if (!readMembers(in, members, &items->emplace_back())) {
      in.detail = std::string(name) + "[" + std::to_string(index) + "]" +
                  (in.detail.empty() ? " is not valid" : ": " + in.detail);
      return false;
    }
  }
  return !in.json.failed();
}

template <typename Item, size_t N>
bool readList(Reading& in, const char* name, const Member<Item> (&members)[N], size_t most, std::vector<Item>* items) {
  return readListOrNone(in, name, members, most, items) && !items->empty();
}

const Member<Record> kRecordMembers[] = {
    {"format", [](Reading& in, Record& r) { return number(in, &r.format, kRecordFormat, kRecordFormat); }},
    {"store_id", [](Reading& in, Record& r) { return text(in, &r.storeId, isStoreId); }},
    {"key_id", [](Reading& in, Record& r) { return text(in, &r.keyId, isKeyId); }},
    {"thread_id", [](Reading& in, Record& r) { return text(in, &r.threadId, isThreadIdOrEmpty); }},
    {"alg", [](Reading& in, Record& r) { return text(in, &r.alg, isAlg); }},
    {"state", [](Reading& in, Record& r) { return text(in, &r.state, isKeyState); }},
    {"version", [](Reading& in, Record& r) { return number(in, &r.version, 1, kMaxInteger); }},
    {"wrapped", [](Reading& in, Record& r) { return base64OrEmpty(in, &r.wrapped, kWrappedBytes); }},
    {"kek_id", [](Reading& in, Record& r) { return text(in, &r.kekId, isKekId); }},
    {"kek_version", [](Reading& in, Record& r) { return number(in, &r.kekVersion, 1, kMaxKekVersion); }},
    {"uses_reserved", [](Reading& in, Record& r) { return number(in, &r.usesReserved, 0, kMaxUses); }},
    {"created_at", [](Reading& in, Record& r) { return text(in, &r.createdAt, isTime); }},
    {"updated_at", [](Reading& in, Record& r) { return text(in, &r.updatedAt, isTime); }},
    {"created_by", [](Reading& in, Record& r) { return text(in, &r.createdBy, isActor); }},
    {"mac", [](Reading& in, Record& r) { return base64(in, &r.mac, kMacBytes); }},
};

const Member<KeyringSlot> kFirstSlotMembers[] = {
    {"slot_id", [](Reading& in, KeyringSlot& s) { return text(in, &s.slotId, isSlotId); }},
    {"salt", [](Reading& in, KeyringSlot& s) { return base64(in, &s.salt, kSaltBytes); }},
    {"root", [](Reading& in, KeyringSlot& s) { return base64(in, &s.root, kWrappedBytes); }},
    {"slot_key", [](Reading& in, KeyringSlot& s) { return base64(in, &s.slotKey, kWrappedBytes); }},
    {"created_at", [](Reading& in, KeyringSlot& s) { return text(in, &s.createdAt, isTime); }},
};

const Member<KeyringSlot> kSlotMembers[] = {
    {"slot_id", [](Reading& in, KeyringSlot& s) { return text(in, &s.slotId, isSlotId); }},
    {"kind", [](Reading& in, KeyringSlot& s) { return text(in, &s.kind, isSlotKind); }},
    {"state", [](Reading& in, KeyringSlot& s) { return text(in, &s.state, isSlotState); }},
    {"expires_at", [](Reading& in, KeyringSlot& s) { return text(in, &s.expiresAt, isTimeOrEmpty); }},
    {"salt", [](Reading& in, KeyringSlot& s) { return base64(in, &s.salt, kSaltBytes); }},
    {"root", [](Reading& in, KeyringSlot& s) { return base64(in, &s.root, kWrappedBytes); }},
    {"slot_key", [](Reading& in, KeyringSlot& s) { return base64(in, &s.slotKey, kWrappedBytes); }},
    {"created_at", [](Reading& in, KeyringSlot& s) { return text(in, &s.createdAt, isTime); }},
};

const Member<KeyringKek> kKekMembers[] = {
    {"kek_id", [](Reading& in, KeyringKek& k) { return text(in, &k.kekId, isKekId); }},
    {"kek_version", [](Reading& in, KeyringKek& k) { return number(in, &k.kekVersion, 1, kMaxKekVersion); }},
    {"state", [](Reading& in, KeyringKek& k) { return text(in, &k.state, isKekState); }},
    {"wrapped", [](Reading& in, KeyringKek& k) { return base64(in, &k.wrapped, kWrappedBytes); }},
    {"wraps_reserved", [](Reading& in, KeyringKek& k) { return number(in, &k.wrapsReserved, 0, kMaxUses); }},
    {"created_at", [](Reading& in, KeyringKek& k) { return text(in, &k.createdAt, isTime); }},
};

const Member<AuditKey> kAuditKeyMembers[] = {
    {"public", [](Reading& in, AuditKey& a) { return base64(in, &a.publicKey, kPublicKeyBytes); }},
    {"wrapped", [](Reading& in, AuditKey& a) { return base64(in, &a.wrapped, kWrappedBytes); }},
    {"created_at", [](Reading& in, AuditKey& a) { return text(in, &a.createdAt, isTime); }},
};

const Member<Keyring> kFirstKeyringMembers[] = {
    {"format", [](Reading& in, Keyring& k) { return number(in, &k.format, 1, 1); }},
    {"store_id", [](Reading& in, Keyring& k) { return text(in, &k.storeId, isStoreId); }},
    {"generation", [](Reading& in, Keyring& k) { return number(in, &k.generation, 1, kMaxInteger); }},
    {"slots", [](Reading& in, Keyring& k) { return readList(in, "slots", kFirstSlotMembers, kMaxSlots, &k.slots); }},
    {"keks", [](Reading& in, Keyring& k) { return readList(in, "keks", kKekMembers, kMaxKeks, &k.keks); }},
    {"default_key_id", [](Reading& in, Keyring& k) { return text(in, &k.defaultKeyId, isKeyIdOrEmpty); }},
    {"sha256", [](Reading& in, Keyring& k) { return lowerHex(in, &k.sha256, kShaBytes); }},
    {"mac", [](Reading& in, Keyring& k) { return base64(in, &k.mac, kMacBytes); }},
};

const Member<Keyring> kKeyringMembers[] = {
    {"format", [](Reading& in, Keyring& k) { return number(in, &k.format, kKeyringFormat, kKeyringFormat); }},
    {"store_id", [](Reading& in, Keyring& k) { return text(in, &k.storeId, isStoreId); }},
    {"generation", [](Reading& in, Keyring& k) { return number(in, &k.generation, 1, kMaxInteger); }},
    {"slots", [](Reading& in, Keyring& k) { return readList(in, "slots", kSlotMembers, kMaxSlots, &k.slots); }},
    {"keks", [](Reading& in, Keyring& k) { return readList(in, "keks", kKekMembers, kMaxKeks, &k.keks); }},
    {"record_mac", [](Reading& in, Keyring& k) { return base64(in, &k.recordMac, kWrappedBytes); }},
    {"audit_keys",
     [](Reading& in, Keyring& k) { return readListOrNone(in, "audit_keys", kAuditKeyMembers, kMaxAuditKeys, &k.auditKeys); }},
    {"default_key_id", [](Reading& in, Keyring& k) { return text(in, &k.defaultKeyId, isKeyIdOrEmpty); }},
    {"sha256", [](Reading& in, Keyring& k) { return lowerHex(in, &k.sha256, kShaBytes); }},
    {"mac", [](Reading& in, Keyring& k) { return base64(in, &k.mac, kMacBytes); }},
};

// The format a refused document claims, 0 if it claims none: a newer one may have any members of any shape.
uint64_t claimedFormat(const uint8_t* json, size_t length) {
  JsonReader in(json, length);
  std::string name;
  if (!in.openObject()) return 0;
  while (in.nextMember(&name)) {
    uint64_t format = 0;
    if (name == "format") return in.readInteger(&format) ? format : 0;
    if (!in.skipValue()) return 0;
  }
  return 0;
}

template <typename Document, size_t N>
Failure readDocument(const char* what, const uint8_t* json, size_t length, size_t most, uint64_t newest,
                     const Member<Document> (&members)[N], Document* out) {
  *out = Document();
  Reading in{JsonReader(json, length), ""};
  if (length > most) {
    in.detail = "is too long";
  } else if (readMembers(in, members, out)) {
    if (in.json.finish()) return Failure();
    in.detail = "goes on after its end";
  }
  *out = Document();
  const uint64_t format = claimedFormat(json, length);
  if (format > newest) {
    return Failure{Status::Unsupported, "format " + std::to_string(format) + " is newer than this version knows"};
  }
  return Failure{Status::StoreUnavailable, std::string(what) + ": " + (in.detail.empty() ? "is not valid JSON" : in.detail)};
}

}  // namespace

Failure readRecord(const uint8_t* json, size_t length, Record* out) {
  const Failure failure = readDocument("record", json, length, kMaxRecordBytes, kRecordFormat, kRecordMembers, out);
  if (!failure.ok()) return failure;
  if (out->wrapped.empty() != (out->state == "destroyed")) {
    *out = Record();
    return Failure{Status::StoreUnavailable, "record: wrapped must be empty exactly when destroyed"};
  }
  return failure;
}

Failure readKeyring(const uint8_t* json, size_t length, Keyring* out) {
  const bool isFirst = length <= kMaxKeyringBytes && claimedFormat(json, length) == 1;
  return isFirst ? readDocument("keyring", json, length, kMaxKeyringBytes, kKeyringFormat, kFirstKeyringMembers, out)
                 : readDocument("keyring", json, length, kMaxKeyringBytes, kKeyringFormat, kKeyringMembers, out);
}

}  // namespace kms

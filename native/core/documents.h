#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"

namespace kms {

// A key's record, member for member as docs/FORMATS.md has it. Its MAC is checked elsewhere: that needs keys.
struct Record {
  uint64_t format = 0;
  std::string storeId;
  std::string keyId;
  // Empty for a key without a thread.
  std::string threadId;
  std::string alg;
  // `active`, `disabled` or `destroyed`.
  std::string state;
  uint64_t version = 0;
  // Empty exactly when destroyed.
  std::vector<uint8_t> wrapped;
  std::string kekId;
  uint64_t kekVersion = 0;
  uint64_t usesReserved = 0;
  std::string createdAt;
  std::string updatedAt;
  std::string createdBy;
  std::vector<uint8_t> mac;
};

struct KeyringSlot {
  std::string slotId;
  // `master` or `recovery`.
  std::string kind = "master";
  // `active`, `pending` or `successor`.
  std::string state = "active";
  // Empty for never.
  std::string expiresAt;
  std::vector<uint8_t> salt;
  std::vector<uint8_t> root;
  std::vector<uint8_t> slotKey;
  std::string createdAt;
};

struct KeyringKek {
  std::string kekId;
  uint64_t kekVersion = 0;
  // `active` or `decrypt-only`.
  std::string state;
  std::vector<uint8_t> wrapped;
  uint64_t wrapsReserved = 0;
  std::string createdAt;
};

// An Ed25519 key that signs the audit log's checkpoints.
struct AuditKey {
  std::vector<uint8_t> publicKey;
  std::vector<uint8_t> wrapped;
  std::string createdAt;
};

// Format 1 has no audit keys, no record MAC key (it is derived from the root key), and slots of master keys only.
struct Keyring {
  uint64_t format = 0;
  std::string storeId;
  uint64_t generation = 0;
  std::vector<KeyringSlot> slots;
  std::vector<KeyringKek> keks;
  // Empty in format 1.
  std::vector<uint8_t> recordMac;
  // The one in use, then its successor while that is being announced.
  std::vector<AuditKey> auditKeys;
  // Empty before the first use of the default key.
  std::string defaultKeyId;
  std::vector<uint8_t> sha256;
  std::vector<uint8_t> mac;
};

// Read one document and hold it to every rule of its format. UNSUPPORTED for a newer format, whatever else is in it;
// STORE_UNAVAILABLE for everything else, with a detail that names the member and never its content. `*out` is empty
// unless the answer is Ok.
Failure readRecord(const uint8_t* json, size_t length, Record* out);
Failure readKeyring(const uint8_t* json, size_t length, Keyring* out);

}  // namespace kms

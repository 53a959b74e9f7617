#pragma once

#include <cstdint>

#include "core/cipher.h"

namespace kms {

// The secret of a client-sealed database, docs/FORMATS.md: base64 of {"group_id":<128-bit number>,"key":"<64 hex digits>"}, in this
// form and no other, so that there is one text for one secret.
constexpr size_t kGroupIdBytes = 16;
constexpr size_t kMaxSecretJsonBytes = 128;
constexpr size_t kMaxSecretBytes = (kMaxSecretJsonBytes + 2) / 3 * 4;

// `work` is locked memory of kMaxSecretJsonBytes, wiped at the end. False for what is no secret; then nothing is in `key`.
bool readDatabaseSecret(Bytes secret, uint8_t* work, uint8_t groupId[kGroupIdBytes], uint8_t key[kKeyBytes]);

// Writes at most kMaxSecretBytes, and returns how many. `work` as above.
size_t writeDatabaseSecret(const uint8_t groupId[kGroupIdBytes], const uint8_t key[kKeyBytes], uint8_t* work, uint8_t* secret);

}  // namespace kms

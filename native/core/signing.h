#pragma once

#include "core/cipher.h"

namespace kms {

constexpr size_t kSignatureBytes = 64;

// Ed25519 (RFC 8032). A private key is its 32-byte seed, as it stands in the arena.
//
// OpenSSL copies the seed to the ordinary heap and expands it there: for one call, some fifty microseconds. No key object is kept;
// freeing it wipes both, and the stack and the registers are cleared before the call returns.
bool publicKeyOf(const uint8_t seed[kKeyBytes], uint8_t key[kKeyBytes]);
bool sign(const uint8_t seed[kKeyBytes], Bytes message, uint8_t signature[kSignatureBytes]);

}  // namespace kms

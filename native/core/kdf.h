#pragma once

#include <cstdint>

#include "core/cipher.h"

namespace kms {

constexpr size_t kMacBytes = 32;

// HMAC-SHA256 (RFC 2104, FIPS 198-1).
void hmacSha256(const uint8_t key[kKeyBytes], Bytes data, uint8_t mac[kMacBytes]);

// HKDF-SHA256 (RFC 5869) of a 32-byte key to 32 bytes. `out` and `work` are locked memory; `work` is wiped.
void hkdfSha256(const uint8_t key[kKeyBytes], Bytes salt, Bytes info, uint8_t work[kKeyBytes], uint8_t out[kKeyBytes]);

}  // namespace kms

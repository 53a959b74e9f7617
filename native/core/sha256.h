#pragma once

#include <cstdint>
#include <initializer_list>

#include "core/cipher.h"

namespace kms {

constexpr size_t kSha256Bytes = 32;

// SHA-256 (FIPS 180-4) of the parts, one after the other. `digest` may be one of the parts.
void sha256(std::initializer_list<Bytes> parts, uint8_t digest[kSha256Bytes]);

// HMAC-SHA256 (RFC 2104, FIPS 198-1) of the parts. What it works on stands on the stack alone, where the caller wipes it
// (`wipeStack`), once for many.
void hmacSha256(Bytes key, std::initializer_list<Bytes> parts, uint8_t mac[kSha256Bytes]);

}  // namespace kms

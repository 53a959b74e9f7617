#pragma once

#include <cstddef>
#include <cstdint>

namespace kms {

// Hex and base64 (RFC 4648) whose time and memory accesses depend on lengths alone: key files pass through them.
// A table look-up or an early return per character would tell a neighbour on the same core about the key.

// Decodes exactly 2 * `outLength` hex digits of either case. On false `out` holds nothing of use.
bool decodeHex(const uint8_t* text, size_t textLength, uint8_t* out, size_t outLength);

// Writes 2 * `length` lower-case digits.
void encodeHex(const uint8_t* data, size_t length, uint8_t* text);

constexpr size_t base64Length(size_t bytes) { return (bytes + 2) / 3 * 4; }

// Decodes exactly `outLength` bytes: the standard alphabet, padded, no stray bits (one text for one value).
bool decodeBase64(const uint8_t* text, size_t textLength, uint8_t* out, size_t outLength);

// Writes base64Length(length) characters.
void encodeBase64(const uint8_t* data, size_t length, uint8_t* text);

}  // namespace kms

#include "core/encoding.h"

namespace kms {
namespace {

// All ones if first <= c <= last, else zero; without a branch: either difference borrows into the top bit if not.
uint32_t between(uint32_t c, uint32_t first, uint32_t last) { return (((c - first) | (last - c)) >> 31) - 1; }

uint32_t hexDigit(uint32_t c, uint32_t* bad) {
  const uint32_t digit = between(c, '0', '9');
  const uint32_t lower = between(c, 'a', 'f');
  const uint32_t upper = between(c, 'A', 'F');
  *bad |= ~(digit | lower | upper);
  return (digit & (c - '0')) | (lower & (c - 'a' + 10)) | (upper & (c - 'A' + 10));
}

uint32_t base64Digit(uint32_t c, uint32_t* bad) {
  const uint32_t upper = between(c, 'A', 'Z');
  const uint32_t lower = between(c, 'a', 'z');
  const uint32_t digit = between(c, '0', '9');
  const uint32_t plus = between(c, '+', '+');
  const uint32_t slash = between(c, '/', '/');
  *bad |= ~(upper | lower | digit | plus | slash);
  return (upper & (c - 'A')) | (lower & (c - 'a' + 26)) | (digit & (c - '0' + 52)) | (plus & 62) | (slash & 63);
}

// Each range of values lies at another distance from its characters.
uint8_t base64Character(uint32_t value) {
  const uint32_t upper = between(value, 0, 25) & (value + 'A');
  const uint32_t lower = between(value, 26, 51) & (value - 26 + 'a');
  const uint32_t digit = between(value, 52, 61) & (value - 52 + '0');
  const uint32_t plus = between(value, 62, 62) & '+';
  const uint32_t slash = between(value, 63, 63) & '/';
  return static_cast<uint8_t>(upper | lower | digit | plus | slash);
}

}  // namespace

bool decodeHex(const uint8_t* text, size_t textLength, uint8_t* out, size_t outLength) {
  if (textLength != outLength * 2) return false;
  uint32_t bad = 0;
  for (size_t i = 0; i < outLength; i++) {
    const uint32_t high = hexDigit(text[2 * i], &bad);
    out[i] = static_cast<uint8_t>(high << 4 | hexDigit(text[2 * i + 1], &bad));
  }
  return bad == 0;
}

void encodeHex(const uint8_t* data, size_t length, uint8_t* text) {
  for (size_t i = 0; i < 2 * length; i++) {
    const uint32_t value = (i % 2 == 0 ? data[i / 2] >> 4 : data[i / 2]) & 15u;
    text[i] = static_cast<uint8_t>('0' + value + (between(value, 10, 15) & ('a' - '0' - 10)));
  }
}

bool decodeBase64(const uint8_t* text, size_t textLength, uint8_t* out, size_t outLength) {
  if (textLength != base64Length(outLength)) return false;
  uint32_t bad = 0;
  size_t written = 0;
  for (size_t i = 0; i < textLength; i += 4) {
    const size_t left = outLength - written;
    const size_t bytes = left < 3 ? left : 3;
    uint32_t group = 0;
    for (size_t j = 0; j < 4; j++) {
      const uint32_t c = text[i + j];
      if (j <= bytes) {
        group = group << 6 | base64Digit(c, &bad);
      } else {
        group <<= 6;
        bad |= ~between(c, '=', '=');
      }
    }
    for (size_t j = 0; j < bytes; j++) out[written++] = static_cast<uint8_t>(group >> (16 - 8 * j));
    bad |= group & ((1u << (8 * (3 - bytes))) - 1);  // stray bits below the last whole byte
  }
  return bad == 0;
}

void encodeBase64(const uint8_t* data, size_t length, uint8_t* text) {
  for (size_t i = 0; i < length; i += 3) {
    const size_t bytes = length - i < 3 ? length - i : 3;
    uint32_t group = 0;
    for (size_t j = 0; j < 3; j++) group = group << 8 | (j < bytes ? data[i + j] : 0u);
    for (size_t j = 0; j < 4; j++) *text++ = j <= bytes ? base64Character(group >> (18 - 6 * j) & 63) : '=';
  }
}

}  // namespace kms

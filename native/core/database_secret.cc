#include "core/database_secret.h"

#include <cstring>

#include "core/encoding.h"

namespace kms {

namespace {

constexpr char kBegin[] = "{\"group_id\":", kMiddle[] = ",\"key\":\"", kEnd[] = "\"}";
constexpr size_t kBeginBytes = sizeof kBegin - 1, kMiddleBytes = sizeof kMiddle - 1, kEndBytes = sizeof kEnd - 1;
// 2^128 - 1 has as many.
constexpr size_t kMaxDigits = 39;
static_assert(kBeginBytes + kMaxDigits + kMiddleBytes + 2 * kKeyBytes + kEndBytes <= kMaxSecretJsonBytes, "the longest one fits");

// A cursor over the text; what does not fit stays false.
struct Text {
  const uint8_t* at;
  const uint8_t* end;

  bool take(const char* expected, size_t length) {
    if (static_cast<size_t>(end - at) < length || memcmp(at, expected, length) != 0) return false;
    at += length;
    return true;
  }
};

// groupId = 10 groupId + digit; false beyond 128 bits.
bool push(uint8_t groupId[kGroupIdBytes], uint8_t digit) {
  uint32_t carry = digit;
  for (size_t i = kGroupIdBytes; i-- > 0;) {
    const uint32_t value = groupId[i] * 10u + carry;
    groupId[i] = static_cast<uint8_t>(value);
    carry = value >> 8;
  }
  return carry == 0;
}

bool readGroupId(Text* text, uint8_t groupId[kGroupIdBytes]) {
  memset(groupId, 0, kGroupIdBytes);
  const uint8_t* const first = text->at;
  for (; text->at < text->end && *text->at >= '0' && *text->at <= '9'; ++text->at) {
    if (!push(groupId, static_cast<uint8_t>(*text->at - '0'))) return false;
  }
  const auto digits = static_cast<size_t>(text->at - first);
  return digits > 0 && (digits == 1 || *first != '0');
}

size_t writeGroupId(const uint8_t groupId[kGroupIdBytes], uint8_t* out) {
  uint8_t rest[kGroupIdBytes], digits[kMaxDigits];
  memcpy(rest, groupId, sizeof rest);
  size_t count = 0;
  for (bool isZero = false; !isZero;) {
    uint32_t remainder = 0;
    isZero = true;
    for (uint8_t& byte : rest) {
      const uint32_t value = remainder << 8 | byte;
      byte = static_cast<uint8_t>(value / 10);
      remainder = value % 10;
      isZero = isZero && byte == 0;
    }
    digits[count++] = static_cast<uint8_t>('0' + remainder);
  }
  for (size_t i = 0; i < count; ++i) out[i] = digits[count - 1 - i];
  return count;
}

// How many bytes canonical base64 of this length and end stands for; 0 for what is none.
size_t decodedLength(Bytes text) {
  if (text.length == 0 || text.length % 4 != 0 || text.length > kMaxSecretBytes) return 0;
  const size_t padding = text.data[text.length - 1] != '=' ? 0u : text.data[text.length - 2] != '=' ? 1u : 2u;
  return text.length / 4 * 3 - padding;
}

bool readJson(Text text, uint8_t groupId[kGroupIdBytes], uint8_t key[kKeyBytes]) {
  if (!text.take(kBegin, kBeginBytes) || !readGroupId(&text, groupId) || !text.take(kMiddle, kMiddleBytes)) return false;
  if (static_cast<size_t>(text.end - text.at) != 2 * kKeyBytes + kEndBytes) return false;
  for (size_t i = 0; i < 2 * kKeyBytes; ++i) {
    // Of one case: each letter that may be either is another text for the same secret. Which it is says nothing of its value.
    if ((text.at[i] & 0x60) == 0x40) return false;
  }
  const uint8_t* const hex = text.at;
  text.at += 2 * kKeyBytes;
  return text.take(kEnd, kEndBytes) && decodeHex(hex, 2 * kKeyBytes, key, kKeyBytes);
}

}  // namespace

bool readDatabaseSecret(Bytes secret, uint8_t* work, uint8_t groupId[kGroupIdBytes], uint8_t key[kKeyBytes]) {
  const size_t length = decodedLength(secret);
  const bool good = length != 0 && length <= kMaxSecretJsonBytes && decodeBase64(secret.data, secret.length, work, length) &&
                    readJson(Text{work, work + length}, groupId, key);
  wipe(work, kMaxSecretJsonBytes);
  if (!good) wipe(key, kKeyBytes);
  wipeStack();
  return good;
}

size_t writeDatabaseSecret(const uint8_t groupId[kGroupIdBytes], const uint8_t key[kKeyBytes], uint8_t* work, uint8_t* secret) {
  uint8_t* at = work;
  const auto put = [&at](const char* text, size_t length) {
    memcpy(at, text, length);
    at += length;
  };
  put(kBegin, kBeginBytes);
  at += writeGroupId(groupId, at);
  put(kMiddle, kMiddleBytes);
  encodeHex(key, kKeyBytes, at);
  at += 2 * kKeyBytes;
  put(kEnd, kEndBytes);
  const auto length = static_cast<size_t>(at - work);
  encodeBase64(work, length, secret);
  wipe(work, kMaxSecretJsonBytes);
  wipeStack();
  return base64Length(length);
}

}  // namespace kms

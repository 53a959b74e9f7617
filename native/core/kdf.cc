#include "core/kdf.h"

#include "core/sha256.h"

namespace kms {

static_assert(kMacBytes == kSha256Bytes, "a MAC is a hash long");

void hmacSha256(const uint8_t key[kKeyBytes], Bytes data, uint8_t mac[kMacBytes]) {
  hmacSha256(Bytes{key, kKeyBytes}, {data}, mac);
  wipeStack();
}

// RFC 5869: extract with the salt as HMAC key, then one block of expand, since the output is one hash long.
void hkdfSha256(const uint8_t key[kKeyBytes], Bytes salt, Bytes info, uint8_t work[kKeyBytes], uint8_t out[kKeyBytes]) {
  constexpr uint8_t kFirst = 1;
  hmacSha256(salt, {Bytes{key, kKeyBytes}}, work);
  hmacSha256(Bytes{work, kKeyBytes}, {info, Bytes{&kFirst, 1}}, out);
  wipe(work, kKeyBytes);
  wipeStack();
}

}  // namespace kms

#include "core/kdf.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <string>

namespace kms {

namespace {

bool hmac(const uint8_t* key, size_t keyLength, Bytes data, uint8_t mac[kMacBytes]) {
  unsigned int length = 0;
  const bool good =
      HMAC(EVP_sha256(), key, static_cast<int>(keyLength), data.data, data.length, mac, &length) != nullptr && length == kMacBytes;
  wipeStack();
  return good;
}

}  // namespace

bool hmacSha256(const uint8_t key[kKeyBytes], Bytes data, uint8_t mac[kMacBytes]) { return hmac(key, kKeyBytes, data, mac); }

// RFC 5869: extract with the salt as HMAC key, then one block of expand, since the output is one hash long.
bool hkdfSha256(const uint8_t key[kKeyBytes], Bytes salt, Bytes info, uint8_t work[kKeyBytes], uint8_t out[kKeyBytes]) {
  std::string block(reinterpret_cast<const char*>(info.data), info.length);
  block.push_back('\x01');
  const bool good = hmac(salt.data, salt.length, Bytes{key, kKeyBytes}, work) &&
                    hmac(work, kKeyBytes, Bytes{reinterpret_cast<const uint8_t*>(block.data()), block.size()}, out);
  wipe(work, kKeyBytes);
  return good;
}

}  // namespace kms

#include "core/signing.h"

#include <openssl/evp.h>

#include <memory>

namespace kms {

namespace {

struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct FreeDigest {
  void operator()(EVP_MD_CTX* context) const { EVP_MD_CTX_free(context); }
};
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;

Key keyOf(const uint8_t seed[kKeyBytes]) {
  return Key(EVP_PKEY_new_raw_private_key_ex(nullptr, "ED25519", nullptr, seed, kKeyBytes));
}

bool readPublic(const uint8_t seed[kKeyBytes], uint8_t key[kKeyBytes]) {
  const Key pair = keyOf(seed);
  size_t length = kKeyBytes;
  return pair != nullptr && EVP_PKEY_get_raw_public_key(pair.get(), key, &length) == 1 && length == kKeyBytes;
}

bool makeSignature(const uint8_t seed[kKeyBytes], Bytes message, uint8_t signature[kSignatureBytes]) {
  const Key pair = keyOf(seed);
  const std::unique_ptr<EVP_MD_CTX, FreeDigest> context(EVP_MD_CTX_new());
  size_t length = kSignatureBytes;
  return pair != nullptr && context != nullptr && EVP_DigestSignInit(context.get(), nullptr, nullptr, nullptr, pair.get()) == 1 &&
         EVP_DigestSign(context.get(), signature, &length, message.data, message.length) == 1 && length == kSignatureBytes;
}

}  // namespace

bool publicKeyOf(const uint8_t seed[kKeyBytes], uint8_t key[kKeyBytes]) {
  const bool good = readPublic(seed, key);
  wipeStack();
  return good;
}

bool sign(const uint8_t seed[kKeyBytes], Bytes message, uint8_t signature[kSignatureBytes]) {
  const bool good = makeSignature(seed, message, signature);
  wipeStack();
  return good;
}

}  // namespace kms

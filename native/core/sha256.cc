// The functions of before OpenSSL 3: their state stands where the caller puts it, on the stack, while a context of EVP keeps what it
// hashed of a key on the ordinary heap until it is freed, and takes several times as long to set up as a line to hash (measured).
// They use the processor's own instructions as EVP does.
#define OPENSSL_SUPPRESS_DEPRECATED
#include "core/sha256.h"

#include <openssl/sha.h>

#include <cstring>

namespace kms {

namespace {

constexpr size_t kBlockBytes = 64;

void add(SHA256_CTX* state, std::initializer_list<Bytes> parts) {
  for (const Bytes& part : parts) {
    if (part.length != 0) SHA256_Update(state, part.data, part.length);
  }
}

void begin(SHA256_CTX* state, const uint8_t key[kBlockBytes], uint8_t with) {
  uint8_t pad[kBlockBytes];
  for (size_t i = 0; i < kBlockBytes; ++i) pad[i] = key[i] ^ with;
  SHA256_Init(state);
  SHA256_Update(state, pad, sizeof pad);
  wipe(pad, sizeof pad);
}

}  // namespace

void sha256(std::initializer_list<Bytes> parts, uint8_t digest[kSha256Bytes]) {
  SHA256_CTX state;
  SHA256_Init(&state);
  add(&state, parts);
  SHA256_Final(digest, &state);
  wipe(&state, sizeof state);
}

void hmacSha256(Bytes key, std::initializer_list<Bytes> parts, uint8_t mac[kSha256Bytes]) {
  uint8_t block[kBlockBytes] = {};
  if (key.length > kBlockBytes) {
    sha256({key}, block);
  } else if (key.length != 0) {
    memcpy(block, key.data, key.length);
  }
  SHA256_CTX state;
  uint8_t inner[kSha256Bytes];
  begin(&state, block, 0x36);
  add(&state, parts);
  SHA256_Final(inner, &state);
  begin(&state, block, 0x5c);
  SHA256_Update(&state, inner, sizeof inner);
  SHA256_Final(mac, &state);
  wipe(&state, sizeof state);
  wipe(block, sizeof block);
}

}  // namespace kms

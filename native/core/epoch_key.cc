#include "core/epoch_key.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <cstring>
#include <memory>
#include <string>

#include "core/kdf.h"

namespace kms {

namespace {

constexpr char kLabel[] = "progressdb-kms/audit-epoch/v1";

struct FreeKey {
  void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
struct FreeContext {
  void operator()(EVP_PKEY_CTX* context) const { EVP_PKEY_CTX_free(context); }
};
using Key = std::unique_ptr<EVP_PKEY, FreeKey>;

// Places in the scratch: locked memory, wiped when its user leaves.
struct Places {
  uint8_t* ephemeral;
  uint8_t* shared;
  uint8_t* work;
  uint8_t* wrapping;

  explicit Places(uint8_t* at) : ephemeral(at), shared(at + kKeyBytes), work(at + 2 * kKeyBytes), wrapping(at + 3 * kKeyBytes) {}
};

Bytes label() { return {reinterpret_cast<const uint8_t*>(kLabel), sizeof kLabel - 1}; }

// lp of docs/FORMATS.md.
void append(std::string* out, Bytes field) {
  const auto length = static_cast<uint32_t>(field.length);
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<char>(length >> shift & 0xff));
  out->append(reinterpret_cast<const char*>(field.data), field.length);
}

// X25519 (RFC 7748) of a fresh pair with the auditor's key; `e` is the fresh public half. OpenSSL keeps the private one on the heap
// while the pair lives, which is until here, and wipes it as it frees it.
Status agree(Bytes auditor, const Places& places, uint8_t e[kKeyBytes]) {
  if (!fillRandom(places.ephemeral, kKeyBytes)) return Status::Internal;
  const Key own(EVP_PKEY_new_raw_private_key_ex(nullptr, "X25519", nullptr, places.ephemeral, kKeyBytes));
  const Key peer(EVP_PKEY_new_raw_public_key_ex(nullptr, "X25519", nullptr, auditor.data, auditor.length));
  size_t length = kKeyBytes;
  if (own == nullptr || peer == nullptr || EVP_PKEY_get_raw_public_key(own.get(), e, &length) != 1) return Status::Internal;
  const std::unique_ptr<EVP_PKEY_CTX, FreeContext> context(EVP_PKEY_CTX_new_from_pkey(nullptr, own.get(), nullptr));
  if (context == nullptr || EVP_PKEY_derive_init(context.get()) != 1 || EVP_PKEY_derive_set_peer(context.get(), peer.get()) != 1) {
    return Status::Internal;
  }
  // RFC 7748, section 6.1: a secret of zeros is what a public key of low order gives, whatever the private one is.
  constexpr uint8_t kZeros[kKeyBytes] = {};
  const bool good = EVP_PKEY_derive(context.get(), places.shared, &length) == 1 && length == kKeyBytes &&
                    CRYPTO_memcmp(places.shared, kZeros, kKeyBytes) != 0;
  return good ? Status::Ok : Status::InvalidArgument;
}

}  // namespace

Status sealEpochKey(Handle epoch, Bytes auditor, Bytes storeId, Bytes boot, uint8_t out[kSealedEpochKeyBytes]) {
  if (auditor.length != kKeyBytes) return Status::InvalidArgument;
  // Before the table's lock, as everywhere.
  Arena::Scratch scratch(Arena::instance());
  const Places places(scratch.data());
  const Status agreed = agree(auditor, places, out);
  wipeStack();
  if (agreed != Status::Ok) return agreed;
  uint8_t salt[2 * kKeyBytes];
  memcpy(salt, out, kKeyBytes);
  memcpy(salt + kKeyBytes, auditor.data, kKeyBytes);
  hkdfSha256(places.shared, Bytes{salt, sizeof salt}, label(), places.work, places.wrapping);
  std::string aad;
  for (const Bytes& field : {label(), storeId, boot}) append(&aad, field);
  const Bytes bound{reinterpret_cast<const uint8_t*>(aad.data()), aad.size()};
  return KeyTable::instance().withOwn(epoch, Kind::Epoch, [&](uint8_t* key) { return wrapKey(places.wrapping, key, bound, out + kKeyBytes); });
}

}  // namespace kms

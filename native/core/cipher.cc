#include "core/cipher.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include <cstring>

namespace kms {

namespace {

const EVP_CIPHER* aes256Gcm() {
  static const EVP_CIPHER* const fetched = EVP_CIPHER_fetch(nullptr, "AES-256-GCM", nullptr);
  return fetched;
}

bool getTag(EVP_CIPHER_CTX* context, uint8_t* tag) {
  OSSL_PARAM params[2] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, kTagBytes), OSSL_PARAM_construct_end()};
  return EVP_CIPHER_CTX_get_params(context, params) == 1;
}

bool setTag(EVP_CIPHER_CTX* context, const uint8_t* tag) {
  OSSL_PARAM params[2] = {OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, const_cast<uint8_t*>(tag), kTagBytes),
                          OSSL_PARAM_construct_end()};
  return EVP_CIPHER_CTX_set_params(context, params) == 1;
}

}  // namespace

bool Cipher::available() { return aes256Gcm() != nullptr; }

Cipher::~Cipher() { EVP_CIPHER_CTX_free(context_); }

bool Cipher::setKey(const uint8_t key[kKeyBytes]) {
  if (context_ == nullptr && (context_ = EVP_CIPHER_CTX_new()) == nullptr) return false;
  // The same context serves both directions: GCM needs only the forward cipher, and the direction is given with each nonce.
  const EVP_CIPHER* const type = EVP_CIPHER_CTX_get0_cipher(context_) == nullptr ? aes256Gcm() : nullptr;
  return EVP_CipherInit_ex(context_, type, nullptr, key, nullptr, 1) == 1;
}

void Cipher::forget() {
  if (context_ != nullptr) EVP_CIPHER_CTX_reset(context_);
}

bool Cipher::seal(const uint8_t nonce[kNonceBytes], Bytes aad, Bytes plaintext, uint8_t* out) {
  int written = 0;
  if (EVP_CipherInit_ex(context_, nullptr, nullptr, nullptr, nonce, 1) != 1) return false;
  if (aad.length != 0 && EVP_CipherUpdate(context_, nullptr, &written, aad.data, static_cast<int>(aad.length)) != 1) return false;
  if (plaintext.length != 0 &&
      EVP_CipherUpdate(context_, out, &written, plaintext.data, static_cast<int>(plaintext.length)) != 1) {
    return false;
  }
  return EVP_CipherFinal_ex(context_, out + plaintext.length, &written) == 1 && getTag(context_, out + plaintext.length);
}

bool Cipher::open(const uint8_t nonce[kNonceBytes], Bytes aad, Bytes in, uint8_t* out) {
  const size_t length = in.length - kTagBytes;
  int written = 0;
  uint8_t none = 0;
  bool good = EVP_CipherInit_ex(context_, nullptr, nullptr, nullptr, nonce, 0) == 1 && setTag(context_, in.data + length);
  if (good && aad.length != 0) good = EVP_CipherUpdate(context_, nullptr, &written, aad.data, static_cast<int>(aad.length)) == 1;
  if (good && length != 0) good = EVP_CipherUpdate(context_, out, &written, in.data, static_cast<int>(length)) == 1;
  good = good && EVP_CipherFinal_ex(context_, length == 0 ? &none : out + length, &written) == 1;
  if (!good && length != 0) wipe(out, length);
  return good;
}

Status wrapKey(const uint8_t under[kKeyBytes], const uint8_t key[kKeyBytes], Bytes aad, uint8_t wrapped[kWrappedBytes]) {
  bool good = false;
  {
    Cipher cipher;
    good = fillRandom(wrapped, kNonceBytes) && cipher.setKey(under) &&
           cipher.seal(wrapped, aad, Bytes{key, kKeyBytes}, wrapped + kNonceBytes);
  }
  wipeStack();
  return good ? Status::Ok : Status::Internal;
}

Status unwrapKey(const uint8_t under[kKeyBytes], Bytes wrapped, Bytes aad, uint8_t key[kKeyBytes]) {
  if (wrapped.length != kWrappedBytes) return Status::AuthenticationFailed;
  bool good = false;
  {
    Cipher cipher;
    const Bytes sealed{wrapped.data + kNonceBytes, kKeyBytes + kTagBytes};
    if (!cipher.setKey(under)) return Status::Internal;
    good = cipher.open(wrapped.data, aad, sealed, key);
  }
  wipeStack();
  return good ? Status::Ok : Status::AuthenticationFailed;
}

namespace {

struct TestCase {
  const char* key;
  const char* nonce;
  const char* aad;
  const char* plaintext;
  const char* sealed;
};

constexpr TestCase kCases[] = {
    {"0000000000000000000000000000000000000000000000000000000000000000", "000000000000000000000000", "",
     "00000000000000000000000000000000", "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"},
    {"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308", "cafebabefacedbaddecaf888",
     "feedfacedeadbeeffeedfacedeadbeefabaddad2",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
     "76fc6ece0f4e1768cddf8853bb2d551b"},
};

size_t fromHex(const char* hex, uint8_t* out) {
  const auto digit = [](char c) { return static_cast<uint8_t>(c <= '9' ? c - '0' : c - 'a' + 10); };
  const size_t length = strlen(hex) / 2;
  for (size_t i = 0; i < length; ++i) out[i] = static_cast<uint8_t>(digit(hex[2 * i]) << 4 | digit(hex[2 * i + 1]));
  return length;
}

bool passes(const TestCase& test) {
  uint8_t key[kKeyBytes], nonce[kNonceBytes], aad[32], plaintext[64], sealed[80], out[80];
  fromHex(test.key, key);
  fromHex(test.nonce, nonce);
  const Bytes extra{aad, fromHex(test.aad, aad)};
  const Bytes plain{plaintext, fromHex(test.plaintext, plaintext)};
  const Bytes expected{sealed, fromHex(test.sealed, sealed)};
  Cipher cipher;
  if (!cipher.setKey(key) || !cipher.seal(nonce, extra, plain, out)) return false;
  if (CRYPTO_memcmp(out, sealed, expected.length) != 0) return false;
  if (!cipher.open(nonce, extra, expected, out) || CRYPTO_memcmp(out, plaintext, plain.length) != 0) return false;
  sealed[expected.length - 1] ^= 1;
  return !cipher.open(nonce, extra, expected, out);
}

}  // namespace

Failure selfTest() {
  if (OPENSSL_version_major() != 3) return Failure(Status::Unsupported, "needs OpenSSL 3");
  if (!Cipher::available()) return Failure(Status::Unsupported, "this OpenSSL has no AES-256-GCM");
  for (const TestCase& test : kCases) {
    if (!passes(test)) return Failure(Status::Internal, "the AES-256-GCM self-test failed");
  }
  return Failure();
}

}  // namespace kms

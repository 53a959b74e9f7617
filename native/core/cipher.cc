#include "core/cipher.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include <cstring>

namespace kms {

namespace {

// One parameter and the end of the list. A provider reads what it is to set, and `bytes` of those is not written to.
struct TagParameter {
  explicit TagParameter(const uint8_t* tag)
      : list{OSSL_PARAM_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, const_cast<uint8_t*>(tag), kTagBytes), OSSL_PARAM_END} {}
  OSSL_PARAM list[2];
};

}  // namespace

bool Cipher::available() { return GcmProvider::instance().complete(); }

Cipher::~Cipher() { forget(); }

bool Cipher::setKey(const uint8_t key[kKeyBytes]) {
  if (context_ == nullptr && (context_ = gcm_.newContext(gcm_.context)) == nullptr) return false;
  // The same context serves both directions: GCM needs only the forward cipher, and the direction is given with each nonce.
  return gcm_.beginSeal(context_, key, kKeyBytes, nullptr, 0, nullptr) == 1;
}

void Cipher::forget() {
  if (context_ != nullptr) gcm_.freeContext(context_);
  context_ = nullptr;
}

bool Cipher::update(uint8_t* out, Bytes in) {
  size_t written = 0;
  if (in.length == 0) return true;
  // Nothing is asked for what was held back: a provider that does would leave a part of `out` as it was.
  return gcm_.update(context_, out, &written, in.length, in.data, in.length) == 1 && (out == nullptr || written == in.length);
}

bool Cipher::finish() {
  // GCM has nothing left to write at the end.
  uint8_t none = 0;
  size_t written = 0;
  return gcm_.final(context_, &none, &written, 0) == 1;
}

bool Cipher::seal(const uint8_t nonce[kNonceBytes], Bytes aad, Bytes plaintext, uint8_t* out) {
  TagParameter tag(out + plaintext.length);
  return gcm_.beginSeal(context_, nullptr, 0, nonce, kNonceBytes, nullptr) == 1 && update(nullptr, aad) && update(out, plaintext) &&
         finish() && gcm_.get(context_, tag.list) == 1;
}

bool Cipher::open(const uint8_t nonce[kNonceBytes], Bytes aad, Bytes in, uint8_t* out) {
  const Bytes sealed{in.data, in.length - kTagBytes};
  const TagParameter tag(in.data + sealed.length);
  const bool good = gcm_.beginOpen(context_, nullptr, 0, nonce, kNonceBytes, tag.list) == 1 && update(nullptr, aad) &&
                    update(out, sealed) && finish();
  if (!good && sealed.length != 0) wipe(out, sealed.length);
  return good;
}

Status wrapIn(Cipher& cipher, const uint8_t under[kKeyBytes], const uint8_t key[kKeyBytes], Bytes aad, uint8_t wrapped[kWrappedBytes]) {
  const bool good = cipher.setKey(under) && cipher.seal(wrapped, aad, Bytes{key, kKeyBytes}, wrapped + kNonceBytes);
  return good ? Status::Ok : Status::Internal;
}

Status unwrapIn(Cipher& cipher, const uint8_t under[kKeyBytes], const uint8_t wrapped[kWrappedBytes], Bytes aad, uint8_t key[kKeyBytes]) {
  if (!cipher.setKey(under)) return Status::Internal;
  const Bytes sealed{wrapped + kNonceBytes, kKeyBytes + kTagBytes};
  return cipher.open(wrapped, aad, sealed, key) ? Status::Ok : Status::AuthenticationFailed;
}

Status wrapKey(const uint8_t under[kKeyBytes], const uint8_t key[kKeyBytes], Bytes aad, uint8_t wrapped[kWrappedBytes]) {
  if (!fillRandom(wrapped, kNonceBytes)) return Status::Internal;
  Status status = Status::Internal;
  {
    Cipher cipher;
    status = wrapIn(cipher, under, key, aad, wrapped);
  }
  wipeStack();
  return status;
}

Status unwrapKey(const uint8_t under[kKeyBytes], Bytes wrapped, Bytes aad, uint8_t key[kKeyBytes]) {
  if (wrapped.length != kWrappedBytes) return Status::AuthenticationFailed;
  Status status = Status::Internal;
  {
    Cipher cipher;
    status = unwrapIn(cipher, under, wrapped.data, aad, key);
  }
  wipeStack();
  return status;
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

struct Published {
  explicit Published(const TestCase& test) {
    fromHex(test.key, key);
    fromHex(test.nonce, nonce);
    aad.length = fromHex(test.aad, aadBytes);
    plaintext.length = fromHex(test.plaintext, plaintextBytes);
    sealed.length = fromHex(test.sealed, sealedBytes);
  }
  uint8_t key[kKeyBytes], nonce[kNonceBytes], aadBytes[32], plaintextBytes[64], sealedBytes[80];
  Bytes aad{aadBytes, 0}, plaintext{plaintextBytes, 0}, sealed{sealedBytes, 0};
};

bool seals(Cipher& cipher, const Published& known) {
  uint8_t out[80] = {}, inPlace[80] = {};
  memcpy(inPlace, known.plaintextBytes, known.plaintext.length);
  return cipher.seal(known.nonce, known.aad, known.plaintext, out) && memcmp(out, known.sealedBytes, known.sealed.length) == 0 &&
         cipher.seal(known.nonce, known.aad, Bytes{inPlace, known.plaintext.length}, inPlace) &&
         memcmp(inPlace, known.sealedBytes, known.sealed.length) == 0;
}

bool opens(Cipher& cipher, const Published& known) {
  uint8_t out[80] = {}, inPlace[80] = {};
  memcpy(inPlace, known.sealedBytes, known.sealed.length);
  return cipher.open(known.nonce, known.aad, known.sealed, out) && memcmp(out, known.plaintextBytes, known.plaintext.length) == 0 &&
         cipher.open(known.nonce, known.aad, Bytes{inPlace, known.sealed.length}, inPlace) &&
         memcmp(inPlace, known.plaintextBytes, known.plaintext.length) == 0;
}

// With a nonce of its own, the bytes of another one's message never come again, and it is not opened.
bool tellsNoncesApart(Cipher& cipher, const Published& known) {
  uint8_t other[kNonceBytes], out[80] = {};
  memcpy(other, known.nonce, sizeof other);
  other[0] ^= 1;
  return cipher.seal(other, known.aad, known.plaintext, out) && memcmp(out, known.sealedBytes, known.plaintext.length) != 0 &&
         !cipher.open(other, known.aad, known.sealed, out);
}

bool refuses(Cipher& cipher, Published& known) {
  uint8_t out[80] = {};
  uint8_t& last = known.sealedBytes[known.sealed.length - 1];
  last ^= 1;
  const bool tagOpened = cipher.open(known.nonce, known.aad, known.sealed, out);
  last ^= 1;
  return !tagOpened && !cipher.open(known.nonce, Bytes{known.nonce, kNonceBytes}, known.sealed, out);
}

bool sealsNothing(Cipher& cipher, const Published& known) {
  uint8_t tag[kTagBytes] = {}, none = 0;
  if (!cipher.seal(known.nonce, known.aad, Bytes{}, tag) || !cipher.open(known.nonce, known.aad, Bytes{tag, kTagBytes}, &none)) return false;
  tag[0] ^= 1;
  return !cipher.open(known.nonce, known.aad, Bytes{tag, kTagBytes}, &none);
}

// All on one context, as keys use theirs: what came before, a refusal too, must leave nothing behind.
bool passes(const TestCase& test) {
  Published known(test);
  Cipher cipher;
  for (int round = 0; round < 2; ++round) {
    known.key[0] ^= 1;
    if (!cipher.setKey(known.key) || seals(cipher, known)) return false;
    known.key[0] ^= 1;
    if (!cipher.setKey(known.key) || !seals(cipher, known) || !opens(cipher, known)) return false;
    if (!tellsNoncesApart(cipher, known) || !seals(cipher, known)) return false;
    if (!refuses(cipher, known) || !opens(cipher, known) || !sealsNothing(cipher, known)) return false;
  }
  return true;
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

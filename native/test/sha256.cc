#include "core/sha256.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "check.h"
#include "core/encoding.h"
#include "core/kdf.h"

using namespace kms;

namespace {

Bytes view(const std::string& text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

std::string hex(const uint8_t* data, size_t length) {
  std::string text(2 * length, '\0');
  encodeHex(data, length, reinterpret_cast<uint8_t*>(text.data()));
  return text;
}

std::string hashOf(std::initializer_list<Bytes> parts) {
  uint8_t digest[kSha256Bytes];
  sha256(parts, digest);
  return hex(digest, sizeof digest);
}

std::string macOf(const std::string& key, std::initializer_list<Bytes> parts) {
  uint8_t mac[kSha256Bytes];
  hmacSha256(view(key), parts, mac);
  return hex(mac, sizeof mac);
}

}  // namespace

TEST("the hash of FIPS 180-4's examples, whole and in parts") {
  CHECK_EQUAL(hashOf({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK_EQUAL(hashOf({view("abc")}), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK_EQUAL(hashOf({view("a"), view(""), view("bc")}), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  const std::string two = "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq";
  CHECK_EQUAL(hashOf({view(two)}), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
}

TEST("a hash may be written over what is hashed") {
  uint8_t key[kSha256Bytes] = {1, 2, 3};
  const std::string expected = hashOf({view("evolve"), Bytes{key, sizeof key}});
  sha256({view("evolve"), Bytes{key, sizeof key}}, key);
  CHECK_EQUAL(hex(key, sizeof key), expected);
}

TEST("the MACs of RFC 4231, of keys longer than a block too") {
  CHECK_EQUAL(macOf(std::string(20, '\x0b'), {view("Hi There")}), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7");
  CHECK_EQUAL(macOf("Jefe", {view("what do ya want "), view("for nothing?")}),
              "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
  CHECK_EQUAL(macOf(std::string(131, '\xaa'), {view("Test Using Larger Than Block-Size Key - Hash Key First")}),
              "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

TEST("the MAC is OpenSSL's, for every length of key and message") {
  for (size_t length = 0; length < 200; ++length) {
    std::string key(length, '\0'), message(length * 3 % 257, '\0');
    CHECK(fillRandom(key.data(), key.size()) && fillRandom(message.data(), message.size()));
    uint8_t expected[kSha256Bytes];
    unsigned int written = 0;
    CHECK(HMAC(EVP_sha256(), key.data(), static_cast<int>(length), view(message).data, message.size(), expected, &written) != nullptr);
    CHECK_EQUAL(macOf(key, {view(message)}), hex(expected, sizeof expected));
  }
}

TEST("the derived key is the one of RFC 5869's way") {
  // Of a 32-byte key; independently: Python's hmac.
  uint8_t key[kKeyBytes], work[kKeyBytes], out[kKeyBytes];
  for (size_t i = 0; i < kKeyBytes; ++i) key[i] = static_cast<uint8_t>(i);
  hkdfSha256(key, view("salt"), view("info"), work, out);
  CHECK_EQUAL(hex(out, sizeof out), "64cc2a23b7a1da4310420350405fdf5d632cb9bda3700d753e96cbcfeb81d449");
  CHECK_EQUAL(hex(work, sizeof work), std::string(64, '0'));
}

MAIN

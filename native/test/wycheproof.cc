#include <fstream>
#include <sstream>

#include "check.h"
#include "core/encoding.h"
#include "keys.h"

using namespace kms;

// The AES-GCM vectors of Project Wycheproof, as scripts/wycheproof.js writes them: a line each of
// `key iv aad msg ct tag result`, in hex, "-" for nothing. The environment variable KMS_WYCHEPROOF names the file.

namespace {

using Buffer = std::vector<uint8_t>;

struct Vector {
  Buffer key, nonce, aad, plaintext, sealed;
  bool valid = false;
};

Buffer hex(const std::string& text) {
  if (text == "-") return {};
  Buffer bytes(text.size() / 2);
  const bool decoded = decodeHex(reinterpret_cast<const uint8_t*>(text.data()), text.size(), bytes.data(), bytes.size());
  CHECK(decoded);
  return bytes;
}

Bytes view(const Buffer& bytes) { return {bytes.data(), bytes.size()}; }

const std::vector<Vector>& vectors() {
  static const std::vector<Vector> all = [] {
    std::vector<Vector> read;
    const char* const path = getenv("KMS_WYCHEPROOF");
    if (path == nullptr) {
      printf("SKIPPED: KMS_WYCHEPROOF names no file of vectors (scripts/wycheproof.js writes one)\n");
      return read;
    }
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
      std::istringstream fields(line);
      std::string key, nonce, aad, plaintext, ciphertext, tag, result;
      fields >> key >> nonce >> aad >> plaintext >> ciphertext >> tag >> result;
      CHECK(result == "valid" || result == "invalid");
      Vector vector{hex(key), hex(nonce), hex(aad), hex(plaintext), hex(ciphertext), result == "valid"};
      const Buffer end = hex(tag);
      vector.sealed.insert(vector.sealed.end(), end.begin(), end.end());
      CHECK(vector.key.size() == kKeyBytes && vector.nonce.size() == kNonceBytes && end.size() == kTagBytes);
      read.push_back(vector);
    }
    size_t valid = 0;
    for (const Vector& each : read) valid += each.valid ? 1 : 0;
    printf("%zu vectors, %zu of them valid\n", read.size(), valid);
    // A file that was not found or is cut short must not pass for one that holds.
    CHECK(valid >= 30 && read.size() - valid >= 20);
    return read;
  }();
  return all;
}

bool wiped(const Buffer& bytes) {
  for (const uint8_t byte : bytes) {
    if (byte != 0) return false;
  }
  return true;
}

}  // namespace

TEST("the cipher opens every valid vector, and releases nothing of an invalid one") {
  for (const Vector& each : vectors()) {
    Cipher cipher;
    CHECK(cipher.setKey(each.key.data()));
    Buffer out(each.sealed.size() - kTagBytes, 0xaa);
    CHECK_EQUAL(cipher.open(each.nonce.data(), view(each.aad), view(each.sealed), out.data()), each.valid);
    CHECK(each.valid ? out == each.plaintext : wiped(out));
  }
}

TEST("the cipher seals to the bytes of every valid vector") {
  for (const Vector& each : vectors()) {
    if (!each.valid) continue;
    Cipher cipher;
    CHECK(cipher.setKey(each.key.data()));
    Buffer out(each.plaintext.size() + kTagBytes);
    CHECK(cipher.seal(each.nonce.data(), view(each.aad), view(each.plaintext), out.data()));
    CHECK(out == each.sealed);
  }
}

TEST("a data key in the table decrypts every valid vector, and fails alike for every invalid one") {
  KeyTable& table = KeyTable::instance();
  CHECK_OK(table.open(256 * 1024, 16));
  const SpaceId space = table.openSpace(1024);
  int number = 0;
  for (const Vector& each : vectors()) {
    Handle loose, key;
    const auto fill = [&each](uint8_t* bytes) {
      std::copy(each.key.begin(), each.key.end(), bytes);
      return Failure();
    };
    CHECK_OK(table.add(space, Kind::Dek, fill, &loose));
    CHECK_OK(table.publish(space, loose, "k_" + std::to_string(number++), 1, 0, &key));
    Buffer ciphertext = each.nonce;
    ciphertext.insert(ciphertext.end(), each.sealed.begin(), each.sealed.end());
    Buffer out(each.plaintext.size(), 0xaa);
    const HotResult result = decryptWith(thisThread(), key, view(ciphertext), view(each.aad), out.data());
    CHECK_EQUAL(result, each.valid ? static_cast<HotResult>(out.size()) : hotFailure(Status::AuthenticationFailed));
    CHECK(each.valid ? out == each.plaintext : wiped(out));
  }
  table.closeSpace(space);
}

MAIN

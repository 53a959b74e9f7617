#include "core/database_secret.h"

#include <string>

#include "core/encoding.h"
#include "test/check.h"

using kms::Bytes;

// That of seeds/single-server-mode.md.
static const char kExample[] =
    "eyJncm91cF9pZCI6MzE0ODQ3NTQzOTU4OTM2Mjk5OTY2ODU4MTY1NzE0MTk0MjU5NjUyLCJrZXkiOiIzZDAyNzg3YjUyZGY5OTYzNGNkOTVmM2QxODEyNDk4YTRiZWU1"
    "Nzc1NmM5NDI0NjdhZDI5ZTYxZjFmMmM0OWViIn0=";
static const char kKeyHex[] = "3d02787b52df99634cd95f3d1812498a4bee57756c942467ad29e61f1f2c49eb";

static std::string encoded(const std::string& json) {
  std::string text(kms::base64Length(json.size()), '\0');
  kms::encodeBase64(reinterpret_cast<const uint8_t*>(json.data()), json.size(), reinterpret_cast<uint8_t*>(text.data()));
  return text;
}

static std::string jsonOf(const std::string& groupId, const std::string& key = kKeyHex) {
  return "{\"group_id\":" + groupId + ",\"key\":\"" + key + "\"}";
}

struct Read {
  bool good;
  uint8_t groupId[kms::kGroupIdBytes], key[kms::kKeyBytes];
};

static Read read(const std::string& secret) {
  const check::Exact text(secret), work(std::string(kms::kMaxSecretJsonBytes, 'w'));
  Read result{};
  memset(result.key, 0xff, sizeof result.key);
  result.good = kms::readDatabaseSecret(Bytes{text.data(), text.size()}, work.data(), result.groupId, result.key);
  for (const uint8_t byte : work) CHECK(byte == 0);
  return result;
}

static std::string written(const Read& secret) {
  uint8_t work[kms::kMaxSecretJsonBytes], text[kms::kMaxSecretBytes];
  const size_t length = kms::writeDatabaseSecret(secret.groupId, secret.key, work, text);
  for (const uint8_t byte : work) CHECK(byte == 0);
  return std::string(reinterpret_cast<char*>(text), length);
}

TEST("the secret of the documentation is read, and written the same") {
  const Read secret = read(kExample);
  CHECK(secret.good);
  uint8_t key[kms::kKeyBytes];
  CHECK(kms::decodeHex(reinterpret_cast<const uint8_t*>(kKeyHex), 64, key, sizeof key));
  CHECK(memcmp(key, secret.key, sizeof key) == 0);
  CHECK_EQUAL(written(secret), std::string(kExample));
}

TEST("every group id of 128 bits goes both ways, beyond what a double holds") {
  for (const char* groupId : {"0", "9", "10", "255", "256", "9007199254740993", "18446744073709551616", "340282366920938463463374607431768211455"}) {
    const Read secret = read(encoded(jsonOf(groupId)));
    CHECK(secret.good);
    CHECK_EQUAL(written(secret), encoded(jsonOf(groupId)));
  }
  const Read largest = read(encoded(jsonOf("340282366920938463463374607431768211455")));
  for (const uint8_t byte : largest.groupId) CHECK(byte == 0xff);
}

TEST("what is not in this very form is refused, and leaves no key behind") {
  const std::string upper = "3D02787b52df99634cd95f3d1812498a4bee57756c942467ad29e61f1f2c49eb";
  const std::string short1(kKeyHex, 63), wrong = "g" + std::string(kKeyHex + 1);
  const std::string good = jsonOf("7");
  const std::string texts[] = {
      "", "=", "====", "abc", "e30=", encoded(jsonOf("340282366920938463463374607431768211456")), encoded(jsonOf("01")), encoded(jsonOf("-1")),
      encoded(jsonOf("")), encoded(jsonOf("1e3")), encoded(jsonOf("7", upper)), encoded(jsonOf("7", short1)), encoded(jsonOf("7", wrong)),
      encoded(jsonOf("7", std::string(kKeyHex) + "0")), encoded(" " + good), encoded(good + " "), encoded(good + "}"),
      encoded("{\"key\":\"" + std::string(kKeyHex) + "\",\"group_id\":7}"), encoded(good).substr(1), encoded(good) + "\n",
      std::string(kms::kMaxSecretBytes + 4, 'A'), std::string(4096, '{')};
  for (const std::string& text : texts) {
    const Read secret = read(text);
    CHECK(!secret.good);
    for (const uint8_t byte : secret.key) CHECK(byte == 0);
  }
}

MAIN

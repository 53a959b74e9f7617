#include "core/encoding.h"

#include <string.h>

#include <string>
#include <vector>

#include "test/check.h"

static bool base64(const std::string& text, size_t length, std::string* out) {
  const check::Exact in(text), decoded(std::string(length, '\0'));
  const bool good = kms::decodeBase64(in.data(), in.size(), decoded.data(), length);
  out->assign(decoded.begin(), decoded.end());
  return good;
}

TEST("base64 goes both ways for the vectors of RFC 4648") {
  const char* vectors[][2] = {{"", ""},           {"Zg==", "f"},         {"Zm8=", "fo"},        {"Zm9v", "foo"},
                              {"Zm9vYg==", "foob"}, {"Zm9vYmE=", "fooba"}, {"Zm9vYmFy", "foobar"}, {"+/+/", "\xfb\xff\xbf"}};
  for (const auto& vector : vectors) {
    std::string decoded;
    CHECK(base64(vector[0], strlen(vector[1]), &decoded));
    CHECK_EQUAL(decoded, std::string(vector[1]));
    std::string encoded(kms::base64Length(decoded.size()), '\0');
    kms::encodeBase64(reinterpret_cast<const uint8_t*>(decoded.data()), decoded.size(), reinterpret_cast<uint8_t*>(encoded.data()));
    CHECK_EQUAL(encoded, std::string(vector[0]));
  }
}

TEST("every byte goes through base64 and back") {
  std::string all(256, '\0'), encoded(kms::base64Length(256), '\0'), decoded;
  for (size_t i = 0; i < all.size(); ++i) all[i] = static_cast<char>(i);
  kms::encodeBase64(reinterpret_cast<const uint8_t*>(all.data()), all.size(), reinterpret_cast<uint8_t*>(encoded.data()));
  CHECK(base64(encoded, all.size(), &decoded));
  CHECK(decoded == all);
}

TEST("base64 that is not canonical is refused") {
  std::string decoded;
  for (const char* text : {"Zh==", "Zm9=", "Z===", "Zg=", "Zg", "Zg==\n", "Z g=", "Zg=A", "====", "-_==", "Zm9v", "Z\xc3=="}) {
    CHECK(!base64(text, 1, &decoded));
  }
  CHECK(!base64("Zm9=", 2, &decoded));
  CHECK(!base64("Zm8=", 3, &decoded));
}

TEST("hex goes both ways, in either case, for every byte") {
  for (unsigned value = 0; value < 256; value++) {
    const uint8_t byte = static_cast<uint8_t>(value);
    uint8_t text[2], decoded = 0;
    char expected[3];
    snprintf(expected, sizeof expected, "%02x", value);
    kms::encodeHex(&byte, 1, text);
    CHECK_EQUAL(std::string(text, text + 2), std::string(expected));
    CHECK(kms::decodeHex(text, 2, &decoded, 1));
    CHECK_EQUAL(decoded, byte);
    snprintf(expected, sizeof expected, "%02X", value);
    CHECK(kms::decodeHex(reinterpret_cast<const uint8_t*>(expected), 2, &decoded, 1));
    CHECK_EQUAL(decoded, byte);
  }
}

TEST("every character that is no digit is refused by hex and by base64") {
  const std::string hexDigits = "0123456789abcdefABCDEF";
  const std::string base64Digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (unsigned value = 0; value < 256; value++) {
    const char c = static_cast<char>(value);
    const uint8_t hex[2] = {'0', static_cast<uint8_t>(value)};
    const uint8_t four[4] = {'A', static_cast<uint8_t>(value), 'A', 'A'};
    uint8_t out[3];
    CHECK_EQUAL(kms::decodeHex(hex, 2, out, 1), hexDigits.find(c) != std::string::npos);
    CHECK_EQUAL(kms::decodeBase64(four, 4, out, 3), base64Digits.find(c) != std::string::npos);
  }
}

TEST("a length that does not fit is refused") {
  uint8_t out[2];
  const uint8_t text[] = {'a', 'b', 'c', 'd'};
  CHECK(!kms::decodeHex(text, 3, out, 1));
  CHECK(!kms::decodeHex(text, 2, out, 2));
  CHECK(!kms::decodeBase64(text, 0, out, 1));
}

MAIN

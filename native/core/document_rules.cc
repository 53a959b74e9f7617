#include "core/document_rules.h"

#include <array>

namespace kms {
namespace {

enum Class : uint8_t { kDigit = 1, kHexLetter = 2, kLower = 4, kUpper = 8, kMark = 16 };
constexpr uint8_t kHex = kDigit | kHexLetter;
constexpr uint8_t kName = kDigit | kLower | kUpper | kMark;

// One look-up for each character: every record that is loaded goes through here.
constexpr std::array<uint8_t, 256> kClasses = [] {
  std::array<uint8_t, 256> classes{};
  for (size_t c = '0'; c <= '9'; ++c) classes[c] = kDigit;
  for (size_t c = 'a'; c <= 'z'; ++c) classes[c] = c <= 'f' ? kLower | kHexLetter : kLower;
  for (size_t c = 'A'; c <= 'Z'; ++c) classes[c] = kUpper;
  for (const char c : {'.', '_', ':', '@', '/', '-'}) classes[static_cast<size_t>(c)] = kMark;
  return classes;
}();

bool is(char c, uint8_t classes) { return (kClasses[static_cast<uint8_t>(c)] & classes) != 0; }

bool all(std::string_view text, uint8_t classes, size_t least, size_t most) {
  if (text.size() < least || text.size() > most) return false;
  bool good = true;
  for (const char c : text) good &= is(c, classes);
  return good;
}

bool prefixed(std::string_view text, std::string_view prefix, uint8_t classes, size_t least, size_t most) {
  return text.substr(0, prefix.size()) == prefix && all(text.substr(prefix.size()), classes, least, most);
}

int decimal(std::string_view digits) {
  int value = 0;
  for (const char c : digits) value = value * 10 + (c - '0');
  return value;
}

}  // namespace

bool isKeyId(std::string_view id) { return prefixed(id, "k_", kDigit | kLower, 1, 64); }
bool isKeyIdOrEmpty(std::string_view text) { return text.empty() || isKeyId(text); }
bool isThreadId(std::string_view id) { return all(id, kName, 1, kMaxThreadIdBytes); }
bool isThreadIdOrEmpty(std::string_view text) { return text.empty() || isThreadId(text); }
bool isStoreId(std::string_view text) { return isLowerHex(text, kStoreIdBytes); }
bool isKekId(std::string_view text) { return prefixed(text, "kek_", kHex, 32, 32); }
bool isSlotId(std::string_view text) { return prefixed(text, "s_", kHex, 32, 32); }
bool isActor(std::string_view text) { return all(text, kName, 1, kMaxActorBytes); }
bool isAlg(std::string_view text) { return text == "A256GCM"; }
bool isKeyState(std::string_view text) { return text == "active" || text == "disabled" || text == "destroyed"; }
bool isKekState(std::string_view text) { return text == "active" || text == "decrypt-only"; }
bool isSlotKind(std::string_view text) { return text == "master" || text == "recovery"; }
bool isSlotState(std::string_view text) { return text == "active" || text == "pending" || text == "successor"; }
bool isLowerHex(std::string_view text, size_t length) { return all(text, kHex, length, length); }

bool isTime(std::string_view text) {
  constexpr std::string_view kShape = "0000-00-00T00:00:00.000Z";
  static_assert(kShape.size() == kTimeBytes, "a time is as long as it is said to be");
  if (text.size() != kShape.size()) return false;
  for (size_t i = 0; i < kShape.size(); i++) {
    if (kShape[i] == '0' ? !is(text[i], kDigit) : text[i] != kShape[i]) return false;
  }
  const int year = decimal(text.substr(0, 4));
  const int month = decimal(text.substr(5, 2));
  const int day = decimal(text.substr(8, 2));
  if (month < 1 || month > 12) return false;
  const bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
  const int days = month == 2 ? (leap ? 29 : 28) : (month == 4 || month == 6 || month == 9 || month == 11) ? 30 : 31;
  return day >= 1 && day <= days && decimal(text.substr(11, 2)) < 24 && decimal(text.substr(14, 2)) < 60 &&
         decimal(text.substr(17, 2)) < 60;
}

bool isTimeOrEmpty(std::string_view text) { return text.empty() || isTime(text); }

}  // namespace kms

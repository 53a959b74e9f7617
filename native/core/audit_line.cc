#include "core/audit_line.h"

#include <cstring>

#include "core/encoding.h"

namespace kms {

namespace {

// What stands in a line is no secret: plain tables, which are faster than what key files need.
constexpr char kHex[] = "0123456789abcdef";
constexpr char kBase64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

uint8_t* digits(uint8_t* at, uint32_t value, int count) {
  for (int i = count - 1; i >= 0; --i, value /= 10) at[i] = static_cast<uint8_t>('0' + value % 10);
  return at + count;
}

struct Date {
  uint32_t year, month, day;
};

// The civil date of a day since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date algorithms"): eras of 400 years that
// begin in March, so that the leap day is the last one.
Date dateOf(int64_t day) {
  const int64_t shifted = day + 719468;
  const int64_t era = shifted / 146097;
  const auto ofEra = static_cast<uint32_t>(shifted - era * 146097);
  const uint32_t yearOfEra = (ofEra - ofEra / 1460 + ofEra / 36524 - ofEra / 146096) / 365;
  const uint32_t ofYear = ofEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100);
  const uint32_t shiftedMonth = (5 * ofYear + 2) / 153;
  const uint32_t month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9;
  const uint32_t year = yearOfEra + static_cast<uint32_t>(era) * 400 + (month <= 2 ? 1 : 0);
  return {year, month, ofYear - (153 * shiftedMonth + 2) / 5 + 1};
}

}  // namespace

uint8_t* AuditLine::extend(size_t bytes) {
  if (overflowed_ || bytes > kMaxLineBytes - length_) {
    overflowed_ = true;
    return nullptr;
  }
  uint8_t* const at = bytes_ + length_;
  length_ += bytes;
  return at;
}

void AuditLine::text(std::string_view text) {
  if (uint8_t* const at = extend(text.size())) memcpy(at, text.data(), text.size());
}

void AuditLine::number(uint64_t value) {
  char reversed[20];
  size_t at = sizeof reversed;
  do {
    reversed[--at] = static_cast<char>('0' + value % 10);
    value /= 10;
  } while (value != 0);
  text({reversed + at, sizeof reversed - at});
}

void AuditLine::time(int64_t milliseconds) {
  uint8_t* at = extend(kTimeBytes);
  if (at == nullptr) return;
  // A clock before 1970 or after 9999 is one that was never set.
  constexpr int64_t kLast = 253402300799999;
  const int64_t known = milliseconds < 0 ? 0 : milliseconds > kLast ? kLast : milliseconds;
  const Date date = dateOf(known / 86400000);
  const auto ofDay = static_cast<uint32_t>(known % 86400000);
  const auto put = [&at](uint32_t value, int count, char after) {
    at = digits(at, value, count);
    *at++ = static_cast<uint8_t>(after);
  };
  put(date.year, 4, '-');
  put(date.month, 2, '-');
  put(date.day, 2, 'T');
  put(ofDay / 3600000, 2, ':');
  put(ofDay / 60000 % 60, 2, ':');
  put(ofDay / 1000 % 60, 2, '.');
  put(ofDay % 1000, 3, 'Z');
}

void AuditLine::hex(const uint8_t* data, size_t length) {
  uint8_t* at = extend(2 * length);
  if (at == nullptr) return;
  for (size_t i = 0; i < length; ++i) {
    *at++ = static_cast<uint8_t>(kHex[data[i] >> 4]);
    *at++ = static_cast<uint8_t>(kHex[data[i] & 15]);
  }
}

void AuditLine::base64(const uint8_t* data, size_t length) {
  uint8_t* at = extend(base64Length(length));
  if (at == nullptr) return;
  for (size_t i = 0; i < length; i += 3) {
    const size_t left = length - i;
    const uint32_t group = uint32_t{data[i]} << 16 | (left > 1 ? uint32_t{data[i + 1]} << 8 : 0) | (left > 2 ? data[i + 2] : 0u);
    *at++ = static_cast<uint8_t>(kBase64[group >> 18]);
    *at++ = static_cast<uint8_t>(kBase64[group >> 12 & 63]);
    *at++ = static_cast<uint8_t>(left > 1 ? kBase64[group >> 6 & 63] : '=');
    *at++ = static_cast<uint8_t>(left > 2 ? kBase64[group & 63] : '=');
  }
}

bool isMembers(std::string_view text) {
  if (text.rfind("\"type\":\"", 0) != 0) return false;
  bool inString = false, escaped = false;
  int depth = 0;
  for (const char c : text) {
    if (static_cast<uint8_t>(c) < 0x20) return false;
    if (inString) {
      if (escaped) {
        escaped = false;
      } else if (c == '\\') {
        escaped = true;
      } else if (c == '"') {
        inString = false;
      }
      continue;
    }
    if (c == ' ') return false;
    if (c == '"') inString = true;
    if (c == '{' || c == '[') ++depth;
    if ((c == '}' || c == ']') && --depth < 0) return false;
  }
  return !inString && depth == 0;
}

}  // namespace kms

#include "core/json.h"

namespace kms {
namespace {

constexpr uint64_t kMaxInteger = (uint64_t{1} << 53) - 1;

bool isDigit(uint8_t c) { return c >= '0' && c <= '9'; }

void appendUtf8(uint32_t point, std::string* value) {
  const auto put = [value](uint32_t byte) { value->push_back(static_cast<char>(byte)); };
  if (point < 0x80) {
    put(point);
  } else if (point < 0x800) {
    put(0xc0 | point >> 6);
    put(0x80 | (point & 0x3f));
  } else if (point < 0x10000) {
    put(0xe0 | point >> 12);
    put(0x80 | (point >> 6 & 0x3f));
    put(0x80 | (point & 0x3f));
  } else {
    put(0xf0 | point >> 18);
    put(0x80 | (point >> 12 & 0x3f));
    put(0x80 | (point >> 6 & 0x3f));
    put(0x80 | (point & 0x3f));
  }
}

}  // namespace

bool JsonReader::open(char opening, char closing) {
  skipSpace();
  if (failed_ || depth_ == kMaxDepth || !take(opening)) return fail();
  levels_[depth_++] = {closing, true};
  return true;
}

bool JsonReader::more(char close) {
  if (failed_ || depth_ == 0 || levels_[depth_ - 1].close != close) return fail();
  Level& level = levels_[depth_ - 1];
  skipSpace();
  if (take(close)) {
    depth_--;
    return false;
  }
  // A comma before the end is caught by whoever reads the value that is not there.
  if (!level.first && !take(',')) return fail();
  level.first = false;
  return true;
}

bool JsonReader::nextMember(std::string* name) {
  if (!more('}')) return false;
  if (!readString(name)) return false;
  skipSpace();
  return take(':') || fail();
}

bool JsonReader::readString(std::string* value) {
  value->clear();
  skipSpace();
  if (failed_ || !take('"')) return fail();
  while (at_ < end_) {
    const uint8_t c = *at_;
    if (c == '"') {
      at_++;
      return true;
    }
    if (c < 0x20) break;
    if (c == '\\') {
      if (!readEscape(value)) break;
    } else if (c < 0x80) {
      value->push_back(static_cast<char>(c));
      at_++;
    } else if (!readMultibyte(value)) {
      break;
    }
  }
  return fail();
}

bool JsonReader::readEscape(std::string* value) {
  at_++;
  if (at_ == end_) return false;
  static constexpr char kNames[] = "\"\\/bfnrt";
  static constexpr char kValues[] = "\"\\/\b\f\n\r\t";
  const char c = static_cast<char>(*at_++);
  for (size_t i = 0; i < sizeof kNames - 1; i++) {
    if (c == kNames[i]) {
      value->push_back(kValues[i]);
      return true;
    }
  }
  uint32_t point = 0;
  if (c != 'u' || !readUnicodeEscape(&point)) return false;
  if (point >= 0xdc00 && point <= 0xdfff) return false;  // a low surrogate without its high one
  if (point >= 0xd800 && point <= 0xdbff) {
    uint32_t low = 0;
    if (!take('\\') || !take('u') || !readUnicodeEscape(&low) || low < 0xdc00 || low > 0xdfff) return false;
    point = 0x10000 + ((point - 0xd800) << 10) + (low - 0xdc00);
  }
  appendUtf8(point, value);
  return true;
}

bool JsonReader::readUnicodeEscape(uint32_t* unit) {
  if (end_ - at_ < 4) return false;
  uint32_t value = 0;
  for (int i = 0; i < 4; i++) {
    const uint8_t c = *at_++;
    const uint8_t lower = c | 0x20;
    if (isDigit(c)) {
      value = value << 4 | static_cast<uint32_t>(c - '0');
    } else if (lower >= 'a' && lower <= 'f') {
      value = value << 4 | static_cast<uint32_t>(lower - 'a' + 10);
    } else {
      return false;
    }
  }
  *unit = value;
  return true;
}

// RFC 3629, section 4: the second byte's range excludes overlong forms, surrogates and what lies above U+10FFFF.
bool JsonReader::readMultibyte(std::string* value) {
  const uint8_t lead = *at_;
  if (lead < 0xc2 || lead > 0xf4) return false;
  const ptrdiff_t length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  if (end_ - at_ < length) return false;
  const uint8_t least = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
  const uint8_t most = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
  if (at_[1] < least || at_[1] > most) return false;
  for (ptrdiff_t i = 2; i < length; i++) {
    if (at_[i] < 0x80 || at_[i] > 0xbf) return false;
  }
  for (ptrdiff_t i = 0; i < length; i++) value->push_back(static_cast<char>(*at_++));
  return true;
}

bool JsonReader::readInteger(uint64_t* value) {
  skipSpace();
  if (failed_ || at_ == end_ || !isDigit(*at_)) return fail();
  const bool leadingZero = *at_ == '0';
  uint64_t number = 0;
  size_t digits = 0;
  for (; at_ < end_ && isDigit(*at_); at_++, digits++) {
    if (digits == 16) return fail();  // 2^53 - 1 has 16 digits
    number = number * 10 + static_cast<uint64_t>(*at_ - '0');
  }
  if (number > kMaxInteger || (leadingZero && digits > 1)) return fail();
  if (at_ < end_ && (*at_ == '.' || *at_ == 'e' || *at_ == 'E')) return fail();
  *value = number;
  return true;
}

bool JsonReader::skipValue() {
  std::string ignored;
  size_t nesting = 0;
  do {
    skipSpace();
    if (failed_ || at_ == end_) return fail();
    const uint8_t c = *at_;
    if (c == '"') {
      if (!readString(&ignored)) return false;
    } else if (c == '{' || c == '[') {
      nesting++;
      at_++;
    } else if (nesting > 0 && (c == '}' || c == ']')) {
      nesting--;
      at_++;
    } else if (nesting > 0 && (c == ',' || c == ':')) {
      at_++;
    } else if (!skipWord()) {
      return fail();
    }
  } while (nesting > 0);
  return true;
}

// A number or a literal; at least one byte, so that skipValue always moves.
bool JsonReader::skipWord() {
  const uint8_t* start = at_;
  while (at_ < end_) {
    const uint8_t c = *at_;
    const uint8_t lower = c | 0x20;
    if (!isDigit(c) && !(lower >= 'a' && lower <= 'z') && c != '+' && c != '-' && c != '.') break;
    at_++;
  }
  return at_ > start;
}

bool JsonReader::finish() {
  skipSpace();
  return !failed_ && depth_ == 0 && at_ == end_;
}

bool JsonReader::take(char c) {
  if (at_ == end_ || *at_ != static_cast<uint8_t>(c)) return false;
  at_++;
  return true;
}

void JsonReader::skipSpace() {
  while (at_ < end_ && (*at_ == ' ' || *at_ == '\t' || *at_ == '\n' || *at_ == '\r')) at_++;
}

}  // namespace kms

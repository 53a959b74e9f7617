#pragma once

#include <cstdint>
#include <string_view>

#include "core/cipher.h"
#include "core/document_rules.h"

namespace kms {

// A line of the audit log with its line feed, docs/FORMATS.md.
constexpr size_t kMaxLineBytes = 8192;

// One line as it is being written. What does not fit is left out, and `overflowed` says so once at the end.
class AuditLine {
 public:
  void clear() { length_ = 0; overflowed_ = false; }
  void text(std::string_view text);
  void number(uint64_t value);
  // RFC 3339 in UTC with milliseconds, of milliseconds since 1970.
  void time(int64_t milliseconds);
  void hex(const uint8_t* data, size_t length);
  void base64(const uint8_t* data, size_t length);

  bool overflowed() const { return overflowed_; }
  size_t length() const { return length_; }
  const uint8_t* data() const { return bytes_; }
  Bytes from(size_t place) const { return {bytes_ + place, length_ - place}; }

 private:
  // Room for so many more, null if there is none.
  uint8_t* extend(size_t bytes);

  size_t length_ = 0;
  bool overflowed_ = false;
  uint8_t bytes_[kMaxLineBytes];
};

// Whether the text is the members of one JSON object without its braces, first of them `type`, with nothing between its tokens:
// nothing in it ends the object, or the line, before its time.
bool isMembers(std::string_view text);

}  // namespace kms

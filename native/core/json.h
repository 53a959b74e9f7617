#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace kms {

// A strict pull reader for the JSON (RFC 8259) that the service writes itself: objects, arrays, strings and
// non-negative integers up to 2^53 - 1. Anything else in the grammar is refused. The first failure sticks: every later
// call returns false, so that a reader of a document may check once. It never recurses and holds no copy of the input.
// Duplicate members are the caller's to reject: only it knows the members.
class JsonReader {
 public:
  JsonReader(const uint8_t* data, size_t length) : at_(data), end_(data + length) {}

  bool openObject() { return open('{', '}'); }
  // The next member's name, its value being next to read; false at the end of the object, or on failure.
  bool nextMember(std::string* name);
  bool openArray() { return open('[', ']'); }
  // Whether another element is next to read; false at the end of the array, or on failure.
  bool nextElement() { return more(']'); }
  // The text as UTF-8, escapes decoded; it may hold NUL.
  bool readString(std::string* value);
  bool readInteger(uint64_t* value);
  // Passes over one value of any kind and depth. It only balances brackets: it serves to find out which format a
  // document claims that this version cannot read, never to accept one.
  bool skipValue();
  // Whether everything opened was read to its end and only white space follows.
  bool finish();
  bool failed() const { return failed_; }

 private:
  // A keyring nests an object in an array in an object; nothing nests deeper.
  static constexpr size_t kMaxDepth = 3;
  struct Level {
    char close;
    bool first;
  };

  bool open(char opening, char closing);
  bool more(char close);
  bool take(char c);
  void skipSpace();
  bool skipWord();
  bool readEscape(std::string* value);
  bool readUnicodeEscape(uint32_t* unit);
  bool readMultibyte(std::string* value);
  bool fail() {
    failed_ = true;
    return false;
  }

  const uint8_t* at_;
  const uint8_t* end_;
  Level levels_[kMaxDepth] = {};
  size_t depth_ = 0;
  bool failed_ = false;
};

}  // namespace kms

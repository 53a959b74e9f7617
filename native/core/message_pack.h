#pragma once

#include <cstdint>
#include <cstring>

#include "core/cipher.h"

namespace kms {

// The part of MessagePack that frames of the hot operations are made of (docs/PROTOCOL.md). Reads every valid encoding of
// an unsigned integer, nil, str, bin and array header; every read is bounded by `end`, and a failed one leaves the
// position where it was.
class PackReader {
 public:
  PackReader(const uint8_t* at, const uint8_t* end) : at_(at), end_(end) {}

  const uint8_t* at() const { return at_; }
  bool atEnd() const { return at_ == end_; }
  bool peekNil() const { return at_ < end_ && *at_ == 0xc0; }
  bool peekArray() const { return at_ < end_ && ((*at_ & 0xf0) == 0x90 || *at_ == 0xdc || *at_ == 0xdd); }

  bool nil() {
    if (!peekNil()) return false;
    ++at_;
    return true;
  }

  bool unsignedInteger(uint64_t* value) {
    if (at_ >= end_) return false;
    const uint8_t type = *at_;
    if (type < 0x80) {
      *value = type;
      ++at_;
      return true;
    }
    if (type >= 0xcc && type <= 0xcf) return bigEndian(1u << (type - 0xcc), value);
    // Signed encodings of a number that is not negative are valid too.
    if (type < 0xd0 || type > 0xd3) return false;
    const unsigned size = 1u << (type - 0xd0);
    const uint8_t* const before = at_;
    if (!bigEndian(size, value)) return false;
    if ((*value >> (8 * size - 1) & 1) == 0) return true;
    at_ = before;
    return false;
  }

  bool arrayHeader(uint32_t* count) {
    if (at_ >= end_) return false;
    if ((*at_ & 0xf0) == 0x90) {
      *count = *at_++ & 0x0f;
      return true;
    }
    return (*at_ == 0xdc && length(2, count)) || (*at_ == 0xdd && length(4, count));
  }

  bool string(Bytes* text) {
    if (at_ >= end_) return false;
    const uint8_t* const before = at_;
    uint32_t size = 0;
    if ((*at_ & 0xe0) == 0xa0) {
      size = *at_++ & 0x1f;
    } else if (*at_ < 0xd9 || *at_ > 0xdb || !length(1u << (*at_ - 0xd9), &size)) {
      return false;
    }
    return take(size, before, text);
  }

  bool binary(Bytes* bytes) {
    if (at_ >= end_ || *at_ < 0xc4 || *at_ > 0xc6) return false;
    const uint8_t* const before = at_;
    uint32_t size = 0;
    return length(1u << (*at_ - 0xc4), &size) && take(size, before, bytes);
  }

 private:
  bool bigEndian(unsigned size, uint64_t* value) {
    if (static_cast<size_t>(end_ - at_) < 1 + size_t{size}) return false;
    uint64_t read = 0;
    for (unsigned i = 1; i <= size; ++i) read = read << 8 | at_[i];
    at_ += 1 + size;
    *value = read;
    return true;
  }

  bool length(unsigned size, uint32_t* value) {
    uint64_t read = 0;
    if (!bigEndian(size, &read)) return false;
    *value = static_cast<uint32_t>(read);
    return true;
  }

  bool take(uint32_t size, const uint8_t* before, Bytes* bytes) {
    if (static_cast<size_t>(end_ - at_) < size) {
      at_ = before;
      return false;
    }
    *bytes = Bytes{at_, size};
    at_ += size;
    return true;
  }

  const uint8_t* at_;
  const uint8_t* end_;
};

// Writes into room the caller has measured.
class PackWriter {
 public:
  explicit PackWriter(uint8_t* at) : at_(at) {}

  uint8_t* at() const { return at_; }
  void skip(size_t bytes) { at_ += bytes; }

  void unsignedInteger(uint32_t value) {
    if (value < 0x80) {
      *at_++ = static_cast<uint8_t>(value);
    } else if (value <= 0xff) {
      head(0xcc, 1, value);
    } else if (value <= 0xffff) {
      head(0xcd, 2, value);
    } else {
      head(0xce, 4, value);
    }
  }

  void arrayHeader(uint32_t count) {
    if (count < 16) {
      *at_++ = static_cast<uint8_t>(0x90 | count);
    } else if (count <= 0xffff) {
      head(0xdc, 2, count);
    } else {
      head(0xdd, 4, count);
    }
  }

  void binaryHeader(uint32_t size) {
    if (size <= 0xff) {
      head(0xc4, 1, size);
    } else if (size <= 0xffff) {
      head(0xc5, 2, size);
    } else {
      head(0xc6, 4, size);
    }
  }

  // Texts of the service's own: shorter than 256 bytes.
  void string(const char* text, size_t size) {
    if (size < 32) {
      *at_++ = static_cast<uint8_t>(0xa0 | size);
    } else {
      head(0xd9, 1, static_cast<uint32_t>(size));
    }
    memcpy(at_, text, size);
    at_ += size;
  }

 private:
  void head(uint8_t type, unsigned size, uint32_t value) {
    *at_++ = type;
    for (unsigned i = size; i-- > 0;) *at_++ = static_cast<uint8_t>(value >> (8 * i));
  }

  uint8_t* at_;
};

}  // namespace kms

#include "core/packed_record.h"

#include <cstring>
#include <string>

namespace kms {
namespace {

constexpr std::string_view kRecordTagOfAny = "progressdb-kms/record/v";

// One number has one text: no sign, no leading zeros.
bool readDecimal(std::string_view text, uint64_t* value) {
  if (text.empty() || text.size() > kIntegerDigits || (text[0] == '0' && text.size() > 1)) return false;
  uint64_t read = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    read = read * 10 + static_cast<uint64_t>(c - '0');
  }
  *value = read;
  return true;
}

std::string_view textOf(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data), bytes.length}; }

// Fields one after the other, until one is not what it has to be.
class Reading {
 public:
  explicit Reading(Bytes in) : at_(in.data), left_(in.length) {}

  bool bytes(const char* member, Bytes* value) { return take(value) || fail(member); }
  bool is(const char* member, std::string_view expected) {
    Bytes field;
    return (take(&field) && textOf(field) == expected) || fail(member);
  }
  bool text(const char* member, std::string_view* value, bool (*rule)(std::string_view)) {
    Bytes field;
    if (!take(&field)) return fail(member);
    *value = textOf(field);
    return rule(*value) || fail(member);
  }
  bool number(const char* member, uint64_t* value, uint64_t least, uint64_t most) {
    Bytes field;
    return (take(&field) && readDecimal(textOf(field), value) && *value >= least && *value <= most) || fail(member);
  }
  bool atEnd() const { return left_ == 0; }
  const char* failed() const { return failed_; }

 private:
  bool take(Bytes* field) {
    if (left_ < kLengthBytes) return false;
    const size_t length = size_t{at_[0]} << 24 | size_t{at_[1]} << 16 | size_t{at_[2]} << 8 | size_t{at_[3]};
    if (length > left_ - kLengthBytes) return false;
    *field = Bytes{at_ + kLengthBytes, length};
    at_ += kLengthBytes + length;
    left_ -= kLengthBytes + length;
    return true;
  }
  bool fail(const char* member) {
    failed_ = member;
    return false;
  }

  const uint8_t* at_;
  size_t left_;
  const char* failed_ = nullptr;
};

bool readMembers(Reading& in, PackedRecord* out) {
  uint64_t format = 0;
  return in.is("its first field", kRecordTag) && in.number("format", &format, kRecordFormat, kRecordFormat) &&
         in.text("store_id", &out->storeId, isStoreId) && in.text("key_id", &out->keyId, isKeyId) &&
         in.text("thread_id", &out->threadId, isThreadIdOrEmpty) && in.is("alg", kAlg) && in.text("state", &out->state, isKeyState) &&
         in.number("version", &out->version, 1, kMaxInteger) && in.bytes("wrapped", &out->wrapped) &&
         in.text("kek_id", &out->kekId, isKekId) && in.number("kek_version", &out->kekVersion, 1, kMaxKekVersion) &&
         in.number("uses_reserved", &out->usesReserved, 0, kMaxUses) && in.text("created_at", &out->createdAt, isTime) &&
         in.text("updated_at", &out->updatedAt, isTime) && in.text("created_by", &out->createdBy, isActor);
}

// The format that a refused record claims, 0 if it claims none.
uint64_t claimedFormat(Bytes packed) {
  Reading in(packed);
  Bytes tag;
  uint64_t format = 0;
  if (!in.bytes("", &tag) || textOf(tag).substr(0, kRecordTagOfAny.size()) != kRecordTagOfAny) return 0;
  return in.number("", &format, 0, kMaxInteger) ? format : 0;
}

// The encoding `lp` of docs/FORMATS.md.
class Writing {
 public:
  explicit Writing(uint8_t* out) : begin_(out), at_(out) {}

  Writing& add(Bytes field) {
    for (int shift = 24; shift >= 0; shift -= 8) *at_++ = static_cast<uint8_t>(field.length >> shift);
    if (field.length != 0) memcpy(at_, field.data, field.length);
    at_ += field.length;
    return *this;
  }
  Writing& add(std::string_view text) { return add(Bytes{reinterpret_cast<const uint8_t*>(text.data()), text.size()}); }
  Writing& add(uint64_t number) {
    char digits[20];
    char* first = digits + sizeof digits;
    do *--first = static_cast<char>('0' + number % 10);
    while ((number /= 10) != 0);
    return add(std::string_view(first, static_cast<size_t>(digits + sizeof digits - first)));
  }
  Bytes bytes() const { return {begin_, static_cast<size_t>(at_ - begin_)}; }

 private:
  uint8_t* begin_;
  uint8_t* at_;
};

std::vector<uint8_t> copyOf(Bytes bytes) { return {bytes.data, bytes.data + bytes.length}; }

}  // namespace

bool unpack(Bytes packed, PackedRecord* out, PackedFault* fault) {
  if (packed.length > kMaxPackedBytes || packed.length < kMacBytes) {
    *fault = {nullptr, packed.length < kMacBytes ? "is too short" : "is too long"};
    return false;
  }
  out->canonical = Bytes{packed.data, packed.length - kMacBytes};
  out->mac = Bytes{packed.data + out->canonical.length, kMacBytes};
  Reading in(out->canonical);
  if (!readMembers(in, out) || (out->wrapped.length != 0 && out->wrapped.length != kWrappedBytes)) {
    *fault = {in.failed() == nullptr ? "wrapped" : in.failed(), "does not follow its rule"};
  } else if (!in.atEnd()) {
    *fault = {nullptr, "goes on after its end"};
  } else if (out->isDestroyed() != (out->state == "destroyed")) {
    *fault = {"wrapped", "must be empty exactly when destroyed"};
  } else {
    return true;
  }
  return false;
}

Failure readPackedRecord(const uint8_t* bytes, size_t length, Record* out) {
  *out = Record();
  PackedRecord packed;
  PackedFault fault;
  if (!unpack(Bytes{bytes, length}, &packed, &fault)) {
    const uint64_t format = claimedFormat(Bytes{bytes, length});
    if (format > kRecordFormat) {
      return Failure{Status::Unsupported, "format " + std::to_string(format) + " is newer than this version knows"};
    }
    const std::string member = fault.member == nullptr ? "" : std::string(fault.member) + " ";
    return Failure{Status::StoreUnavailable, "record: " + member + fault.what};
  }
  out->format = kRecordFormat;
  out->storeId = packed.storeId;
  out->keyId = packed.keyId;
  out->threadId = packed.threadId;
  out->alg = kAlg;
  out->state = packed.state;
  out->version = packed.version;
  out->wrapped = copyOf(packed.wrapped);
  out->kekId = packed.kekId;
  out->kekVersion = packed.kekVersion;
  out->usesReserved = packed.usesReserved;
  out->createdAt = packed.createdAt;
  out->updatedAt = packed.updatedAt;
  out->createdBy = packed.createdBy;
  out->mac = copyOf(packed.mac);
  return Failure();
}

Bytes canonicalOf(const PackedRecord& record, uint8_t* out) {
  return Writing(out)
      .add(kRecordTag)
      .add(kRecordFormat)
      .add(record.storeId)
      .add(record.keyId)
      .add(record.threadId)
      .add(kAlg)
      .add(record.state)
      .add(record.version)
      .add(record.wrapped)
      .add(record.kekId)
      .add(record.kekVersion)
      .add(record.usesReserved)
      .add(record.createdAt)
      .add(record.updatedAt)
      .add(record.createdBy)
      .bytes();
}

Bytes dekAadOf(const PackedRecord& record, uint8_t* out) {
  return Writing(out)
      .add(kDekTag)
      .add(record.storeId)
      .add(record.keyId)
      .add(record.threadId)
      .add(kAlg)
      .add(record.createdAt)
      .add(record.createdBy)
      .add(record.kekId)
      .add(record.kekVersion)
      .bytes();
}

}  // namespace kms

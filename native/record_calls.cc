#include <node_api.h>

#include <string>
#include <utility>

#include "core/record_keys.h"
#include "core/record_ring.h"
#include "environment.h"

namespace kms {

namespace {

// A text of at most N bytes, read without an allocation. One that is longer is cut off, and still longer than any rule allows: there is
// room for one more character of any length.
template <size_t N>
struct Text {
  char bytes[N + 5];
  size_t length = 0;

  std::string_view view() const { return {bytes, length}; }
};

// The arguments of one call, read one after the other; the first that does not fit spoils the rest. None is more than looked at.
class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    void* data = nullptr;
    napi_get_cb_info(env, info, &count_, values_, nullptr, &data);
    thread_ = static_cast<const Environment*>(data)->thread;
    good_ = thread_ != nullptr;
  }

  bool good() const { return good_; }
  // Where the arguments are good.
  ThreadState& thread() const { return *thread_; }

  Arguments& read(uint32_t* value) {
    double wide = 0;
    read(&wide);
    good_ = good_ && wide <= UINT32_MAX && wide == static_cast<double>(static_cast<uint32_t>(wide));
    if (good_) *value = static_cast<uint32_t>(wide);
    return *this;
  }
  Arguments& read(uint64_t* value) {
    double wide = 0;
    read(&wide);
    good_ = good_ && wide == static_cast<double>(static_cast<uint64_t>(wide));
    if (good_) *value = static_cast<uint64_t>(wide);
    return *this;
  }
  Arguments& read(Handle* value) {
    double wide = 0;
    read(&wide);
    if (good_) *value = Handle::of(wide);
    return *this;
  }
  template <size_t N>
  Arguments& read(Text<N>* value) {
    const napi_value argument = next();
    good_ = good_ && napi_get_value_string_utf8(env_, argument, value->bytes, sizeof value->bytes, &value->length) == napi_ok;
    return *this;
  }
  Arguments& read(Bytes* value) {
    uint8_t* data = nullptr;
    const napi_value argument = next();
    good_ = good_ && bytesOf(env_, argument, &data, &value->length);
    value->data = data;
    return *this;
  }
  // A place in an array, given as the array and an offset, with room for the longest record.
  Arguments& readPlace(uint8_t** out) {
    uint8_t* data = nullptr;
    size_t length = 0;
    uint32_t offset = 0;
    const napi_value argument = next();
    good_ = good_ && bytesOf(env_, argument, &data, &length);
    read(&offset);
    good_ = good_ && offset <= length && length - offset >= kMaxPackedBytes;
    if (good_) *out = data + offset;
    return *this;
  }

 private:
  static constexpr size_t kMost = 9;

  Arguments& read(double* value) {
    const napi_value argument = next();
    good_ = good_ && napi_get_value_double(env_, argument, value) == napi_ok && *value >= 0 && *value <= static_cast<double>(kMaxInteger);
    return *this;
  }
  napi_value next() {
    good_ = good_ && at_ < count_;
    return good_ ? values_[at_++] : nullptr;
  }

  napi_env env_;
  ThreadState* thread_ = nullptr;
  napi_value values_[kMost] = {};
  size_t count_ = kMost;
  size_t at_ = 0;
  bool good_ = true;
};

napi_value number(napi_env env, double value) {
  napi_value result = nullptr;
  napi_create_double(env, value, &result);
  return result;
}

napi_value number(napi_env env, HotResult value) { return number(env, static_cast<double>(value)); }

constexpr HotResult kRefused = hotFailure(Status::InvalidArgument);

// (space, dek, keyId, threadId, createdBy, at, uses, out, offset)
napi_value make(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  uint32_t space = 0;
  Handle dek;
  Text<kKeyIdBytes> keyId;
  Text<kMaxThreadIdBytes> threadId;
  Text<kMaxActorBytes> createdBy;
  Text<kTimeBytes> at;
  uint64_t uses = 0;
  uint8_t* out = nullptr;
  arguments.read(&space).read(&dek).read(&keyId).read(&threadId).read(&createdBy).read(&at).read(&uses).readPlace(&out);
  if (!arguments.good()) return number(env, kRefused);
  return number(env, makeRecord(arguments.thread(), space, {keyId.view(), threadId.view(), createdBy.view(), at.view(), uses}, dek, out));
}

// (space, keyId, packed): a handle, or a status.
napi_value load(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  uint32_t space = 0;
  Text<kKeyIdBytes> keyId;
  Bytes packed;
  arguments.read(&space).read(&keyId).read(&packed);
  if (!arguments.good()) return number(env, kRefused);
  Handle serving;
  const HotResult result = loadRecord(space, keyId.view(), packed, &serving);
  return result < 0 ? number(env, result) : number(env, serving.number());
}

// (space, keyId, packed, at, out, offset)
napi_value move(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  uint32_t space = 0;
  Text<kKeyIdBytes> keyId;
  Bytes packed;
  Text<kTimeBytes> at;
  uint8_t* out = nullptr;
  arguments.read(&space).read(&keyId).read(&packed).read(&at).readPlace(&out);
  if (!arguments.good()) return number(env, kRefused);
  return number(env, moveRecord(arguments.thread(), space, keyId.view(), packed, at.view(), out));
}

// (space, one, other)
napi_value holdSame(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  uint32_t space = 0;
  Bytes one, other;
  arguments.read(&space).read(&one).read(&other);
  return number(env, arguments.good() ? holdSameKey(space, one, other) : kRefused);
}

std::string stringOf(napi_env env, napi_value value) {
  Text<kMaxActorBytes> text;
  const bool good = napi_get_value_string_utf8(env, value, text.bytes, sizeof text.bytes, &text.length) == napi_ok;
  return good ? std::string(text.view()) : std::string();
}

double doubleOf(napi_env env, napi_value value) {
  double read = -1;
  return napi_get_value_double(env, value, &read) == napi_ok ? read : -1;
}

// One of [kekId, kekVersion, handle]; what is none has the version 0, which no ring takes.
RecordRing::Kek kekOf(napi_env env, napi_value triple) {
  RecordRing::Kek kek;
  napi_value id = nullptr, version = nullptr, handle = nullptr;
  bool isArray = false;
  if (napi_is_array(env, triple, &isArray) != napi_ok || !isArray || napi_get_element(env, triple, 0, &id) != napi_ok ||
      napi_get_element(env, triple, 1, &version) != napi_ok || napi_get_element(env, triple, 2, &handle) != napi_ok) {
    return kek;
  }
  kek.id = stringOf(env, id);
  if (const double read = doubleOf(env, version); read >= 1 && read <= UINT32_MAX) kek.version = static_cast<uint32_t>(read);
  if (const double read = doubleOf(env, handle); read >= 0) kek.key = Handle::of(read);
  return kek;
}

// (space, storeId, recordMac, keks)
napi_value setRing(napi_env env, napi_callback_info info) {
  size_t argc = 4;
  napi_value argv[4] = {};
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  RecordRing ring;
  uint32_t space = 0, count = 0;
  bool good = argc == 4 && napi_get_value_uint32(env, argv[0], &space) == napi_ok &&
              napi_get_array_length(env, argv[3], &count) == napi_ok && count <= kMaxKeks;
  if (good) {
    ring.storeId = stringOf(env, argv[1]);
    if (const double handle = doubleOf(env, argv[2]); handle >= 0) ring.recordMac = Handle::of(handle);
  }
  for (uint32_t i = 0; good && i < count; ++i) {
    napi_value triple = nullptr;
    good = napi_get_element(env, argv[3], i, &triple) == napi_ok;
    if (good) ring.keks.push_back(kekOf(env, triple));
  }
  const Failure failure = good ? RecordRings::instance().set(space, std::move(ring)) : Failure(Status::InvalidArgument, "setRing");
  if (!failure.ok()) throwFailure(env, *static_cast<const Environment*>(data), failure);
  return nullptr;
}

}  // namespace

napi_status defineRecordCalls(napi_env env, napi_value exports, Environment* environment) {
  const napi_property_descriptor calls[] = {
      {"setRing", nullptr, setRing, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"makeRecord", nullptr, make, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"loadRecord", nullptr, load, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"moveRecord", nullptr, move, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"holdSameKey", nullptr, holdSame, nullptr, nullptr, nullptr, napi_enumerable, environment},
  };
  return napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}

}  // namespace kms

#include <node_api.h>

#include "core/documents.h"
#include "core/message.h"
#include "core/serve_chunk.h"
#include "core/stream_socket.h"
#include "environment.h"

namespace kms {

bool bytesOf(napi_env env, napi_value value, uint8_t** data, size_t* length) {
  napi_typedarray_type type = napi_int8_array;
  void* at = nullptr;
  if (napi_get_typedarray_info(env, value, &type, length, &at, nullptr, nullptr) != napi_ok || type != napi_uint8_array) return false;
  *data = static_cast<uint8_t*>(at);
  return true;
}

bool textOf(napi_env env, napi_value value, std::string* text) {
  size_t length = 0;
  if (napi_get_value_string_utf8(env, value, nullptr, 0, &length) != napi_ok) return false;
  text->resize(length);
  return napi_get_value_string_utf8(env, value, text->data(), length + 1, &length) == napi_ok;
}

namespace {

// The same without a look at the type, which takes as long as all the rest: JavaScript has seen that it is a Uint8Array. Of
// another type's array the length in elements is never more than its bytes, so that what is read and written stays inside.
bool elementsOf(napi_env env, napi_value value, uint8_t** data, size_t* length) {
  void* at = nullptr;
  if (napi_get_typedarray_info(env, value, nullptr, length, &at, nullptr, nullptr) != napi_ok) return false;
  *data = static_cast<uint8_t*>(at);
  return true;
}

bool absent(napi_env env, napi_value value) {
  napi_valuetype type = napi_object;
  return napi_typeof(env, value, &type) == napi_ok && (type == napi_undefined || type == napi_null);
}

bool integersOf(napi_env env, napi_value value, size_t least, int32_t** integers) {
  napi_typedarray_type type = napi_uint8_array;
  size_t length = 0;
  void* at = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &length, &at, nullptr, nullptr) != napi_ok || type != napi_int32_array) return false;
  *integers = static_cast<int32_t*>(at);
  return length >= least;
}

bool overlap(Bytes a, const uint8_t* b, size_t length) { return a.length != 0 && a.data < b + length && b < a.data + a.length; }

napi_value number(napi_env env, HotResult value) {
  napi_value result = nullptr;
  napi_create_int32(env, static_cast<int32_t>(value), &result);
  return result;
}

// (handle, input, aad | undefined, out, offset, actor?) of encryptInto and decryptInto.
struct IntoArguments {
  Handle key;
  Bytes input;
  Bytes aad;
  uint8_t* out = nullptr;
  size_t room = 0;
  uint32_t actor = AuditActors::kOwn;

  bool read(napi_env env, const napi_value* argv, size_t argc) {
    if (argc > 5 && !absent(env, argv[5]) && napi_get_value_uint32(env, argv[5], &actor) != napi_ok) return false;
    double handle = 0, offset = 0;
    uint8_t *in = nullptr, *extra = nullptr;
    size_t inLength = 0, extraLength = 0, outLength = 0;
    if (napi_get_value_double(env, argv[0], &handle) != napi_ok || !elementsOf(env, argv[1], &in, &inLength) ||
        !elementsOf(env, argv[3], &out, &outLength) || napi_get_value_double(env, argv[4], &offset) != napi_ok) {
      return false;
    }
    // Not as a uint32, which would take 2^32 for 0. NaN is no place either.
    if (!(offset >= 0 && offset <= static_cast<double>(outLength)) || offset != static_cast<double>(static_cast<size_t>(offset))) {
      return false;
    }
    if (!elementsOf(env, argv[2], &extra, &extraLength) && !absent(env, argv[2])) return false;
    key = Handle::of(handle);
    input = Bytes{in, inLength};
    aad = Bytes{extra, extraLength};
    const auto at = static_cast<size_t>(offset);
    out += at;
    room = outLength - at;
    return true;
  }
};

// The result must fit and must not run over what is still being read.
bool fits(const IntoArguments& arguments, size_t result) {
  return result <= arguments.room && !overlap(arguments.input, arguments.out, result) && !overlap(arguments.aad, arguments.out, result);
}

template <bool kEncrypt>
napi_value into(napi_env env, napi_callback_info info) {
  size_t argc = 6;
  napi_value argv[6];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  ThreadState* const thread = static_cast<Environment*>(data)->thread;
  IntoArguments arguments;
  if (thread == nullptr || !arguments.read(env, argv, argc)) return number(env, hotFailure(Status::InvalidArgument));
  if (kEncrypt) {
    if (!fits(arguments, arguments.input.length + kOverheadBytes)) return number(env, hotFailure(Status::InvalidArgument));
    thread->nonces().expire();
    return number(env, encryptWith(*thread, arguments.key, arguments.input, arguments.aad, arguments.out, arguments.actor));
  }
  const size_t result = arguments.input.length < kOverheadBytes ? 0 : arguments.input.length - kOverheadBytes;
  if (!fits(arguments, result)) return number(env, hotFailure(Status::InvalidArgument));
  return number(env, decryptWith(*thread, arguments.key, arguments.input, arguments.aad, arguments.out, arguments.actor));
}

// What serveChunk and serveListed are given: (space, bits, actor, input, from, to, output, report, listed?).
struct ServeArguments {
  uint32_t space = 0, bits = 0, actor = 0, from = 0, to = 0;
  uint8_t* input = nullptr;
  uint8_t* output = nullptr;
  size_t inputLength = 0, capacity = 0;
  int32_t* report = nullptr;

  bool read(napi_env env, const napi_value* argv) {
    return napi_get_value_uint32(env, argv[0], &space) == napi_ok && napi_get_value_uint32(env, argv[1], &bits) == napi_ok &&
           napi_get_value_uint32(env, argv[2], &actor) == napi_ok && bytesOf(env, argv[3], &input, &inputLength) &&
           napi_get_value_uint32(env, argv[4], &from) == napi_ok && napi_get_value_uint32(env, argv[5], &to) == napi_ok &&
           bytesOf(env, argv[6], &output, &capacity) && integersOf(env, argv[7], Report::kLength, &report) && from <= to &&
           inputLength <= INT32_MAX && capacity <= INT32_MAX && !overlap(Bytes{input, inputLength}, output, capacity);
  }
};

napi_value refuse(napi_env env, const Environment& environment, const char* call) {
  throwFailure(env, environment, Failure(Status::InvalidArgument, call));
  return nullptr;
}

napi_value serve(napi_env env, napi_callback_info info) {
  size_t argc = 8;
  napi_value argv[8];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  const Environment& environment = *static_cast<Environment*>(data);
  ServeArguments given;
  if (environment.thread == nullptr || !given.read(env, argv) || given.to > given.inputLength) return refuse(env, environment, "serveChunk");
  serveChunk(*environment.thread, given.space, given.bits, given.actor, given.input, given.from, given.to, given.output,
             given.capacity, given.report);
  return nullptr;
}

// Entries of a report's list that lie in an input of that length.
bool areListed(const int32_t* listed, size_t count, size_t inputLength) {
  for (size_t i = 0; i < count; ++i) {
    const int32_t* const entry = listed + i * Report::kFields;
    if (entry[0] < 0 || entry[1] < 0 || static_cast<size_t>(entry[0]) + static_cast<size_t>(entry[1]) > inputLength) return false;
  }
  return true;
}

napi_value serveAgain(napi_env env, napi_callback_info info) {
  size_t argc = 9;
  napi_value argv[9];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  const Environment& environment = *static_cast<Environment*>(data);
  ServeArguments given;
  int32_t* listed = nullptr;
  if (environment.thread == nullptr || !given.read(env, argv) || given.to > Report::kMaxDeferred ||
      !integersOf(env, argv[8], size_t{given.to} * Report::kFields, &listed) || !areListed(listed, given.to, given.inputLength)) {
    return refuse(env, environment, "serveListed");
  }
  serveListed(*environment.thread, given.space, given.bits, given.actor, given.input, listed, given.from, given.to, given.output,
              given.capacity, given.report);
  return nullptr;
}

// (input, listed, count): the key ids of the frames, '' where it is none.
napi_value listedKeys(napi_env env, napi_callback_info info) {
  size_t argc = 3, length = 0;
  napi_value argv[3], ids = nullptr;
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  uint8_t* input = nullptr;
  int32_t* listed = nullptr;
  uint32_t count = 0;
  if (!bytesOf(env, argv[0], &input, &length) || napi_get_value_uint32(env, argv[2], &count) != napi_ok || count > Report::kMaxDeferred ||
      !integersOf(env, argv[1], size_t{count} * Report::kFields, &listed) || !areListed(listed, count, length) ||
      napi_create_array_with_length(env, count, &ids) != napi_ok) {
    return refuse(env, *static_cast<const Environment*>(data), "listedKeys");
  }
  for (uint32_t i = 0; i < count; ++i) {
    const int32_t* const entry = listed + i * Report::kFields;
    std::string_view id = keyIdOf(input + entry[0], static_cast<size_t>(entry[1]));
    if (!isKeyId(id)) id = "";
    napi_value text = nullptr;
    napi_create_string_latin1(env, id.data(), id.size(), &text);
    napi_set_element(env, ids, i, text);
  }
  return ids;
}

// (fd, bytes): how many of them the kernel took.
napi_value sendNow(napi_env env, napi_callback_info info) {
  size_t argc = 2, length = 0;
  napi_value argv[2];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  int32_t fd = -1;
  uint8_t* bytes = nullptr;
  if (napi_get_value_int32(env, argv[0], &fd) != napi_ok || fd < 0 || !bytesOf(env, argv[1], &bytes, &length) || length > INT32_MAX) {
    throwFailure(env, *static_cast<const Environment*>(data), Failure(Status::InvalidArgument, "sendNow"));
    return nullptr;
  }
  return number(env, static_cast<HotResult>(sendAtOnce(fd, bytes, length)));
}

}  // namespace

napi_status defineHotCalls(napi_env env, napi_value exports, Environment* environment) {
  const napi_property_descriptor calls[] = {
      {"encryptInto", nullptr, into<true>, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"decryptInto", nullptr, into<false>, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"serveChunk", nullptr, serve, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"serveListed", nullptr, serveAgain, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"listedKeys", nullptr, listedKeys, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"sendNow", nullptr, sendNow, nullptr, nullptr, nullptr, napi_enumerable, environment},
  };
  return napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}

}  // namespace kms

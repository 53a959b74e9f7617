#include <node_api.h>

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

// (space, bits, actor, input, start, end, output, report)
napi_value serve(napi_env env, napi_callback_info info) {
  size_t argc = 8;
  napi_value argv[8];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  const Environment* const environment = static_cast<Environment*>(data);
  uint32_t space = 0, bits = 0, actor = 0, start = 0, end = 0;
  uint8_t *input = nullptr, *output = nullptr;
  size_t inputLength = 0, capacity = 0, reportLength = 0;
  napi_typedarray_type type = napi_uint8_array;
  void* report = nullptr;
  const bool good = environment->thread != nullptr && napi_get_value_uint32(env, argv[0], &space) == napi_ok &&
                    napi_get_value_uint32(env, argv[1], &bits) == napi_ok && napi_get_value_uint32(env, argv[2], &actor) == napi_ok &&
                    bytesOf(env, argv[3], &input, &inputLength) && napi_get_value_uint32(env, argv[4], &start) == napi_ok &&
                    napi_get_value_uint32(env, argv[5], &end) == napi_ok && bytesOf(env, argv[6], &output, &capacity) &&
                    napi_get_typedarray_info(env, argv[7], &type, &reportLength, &report, nullptr, nullptr) == napi_ok &&
                    type == napi_int32_array && reportLength >= Report::kLength && start <= end && end <= inputLength &&
                    inputLength <= INT32_MAX && capacity <= INT32_MAX && !overlap(Bytes{input, inputLength}, output, capacity);
  if (!good) {
    throwFailure(env, *environment, Failure(Status::InvalidArgument, "serveChunk"));
    return nullptr;
  }
  serveChunk(*environment->thread, space, bits, actor, input, start, end, output, capacity, static_cast<int32_t*>(report));
  return nullptr;
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
      {"sendNow", nullptr, sendNow, nullptr, nullptr, nullptr, napi_enumerable, environment},
  };
  return napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}

}  // namespace kms

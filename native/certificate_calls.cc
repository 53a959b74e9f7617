#include <node_api.h>

#include <string>
#include <vector>

#include "core/certificate.h"
#include "environment.h"

namespace kms {

namespace {

bool readBytes(napi_env env, napi_value value, Bytes* bytes) {
  uint8_t* data = nullptr;
  if (!bytesOf(env, value, &data, &bytes->length)) return false;
  bytes->data = data;
  return true;
}

bool readChain(napi_env env, napi_value value, std::vector<Bytes>* chain) {
  uint32_t count = 0;
  if (napi_get_array_length(env, value, &count) != napi_ok) return false;
  chain->resize(count);
  for (uint32_t i = 0; i < count; ++i) {
    napi_value item = nullptr;
    if (napi_get_element(env, value, i, &item) != napi_ok || !readBytes(env, item, &(*chain)[i])) return false;
  }
  return true;
}

// (chain, authorities, revoked)
napi_value whyNotTrustedCall(napi_env env, napi_callback_info info) {
  size_t argc = 3;
  napi_value argv[3];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  std::vector<Bytes> chain;
  Bytes authorities, revoked;
  if (!readChain(env, argv[0], &chain) || !readBytes(env, argv[1], &authorities) || !readBytes(env, argv[2], &revoked)) {
    throwFailure(env, *static_cast<Environment*>(data), Failure(Status::InvalidArgument, "takes a chain, authorities and lists"));
    return nullptr;
  }
  const std::string why = whyNotTrusted(chain, authorities, revoked);
  napi_value text = nullptr;
  napi_create_string_utf8(env, why.data(), why.size(), &text);
  return text;
}

// (revoked)
napi_value firstNextUpdateCall(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argument = nullptr;
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, &argument, nullptr, &data);
  Bytes revoked;
  if (!readBytes(env, argument, &revoked)) {
    throwFailure(env, *static_cast<Environment*>(data), Failure(Status::InvalidArgument, "takes revocation lists"));
    return nullptr;
  }
  napi_value seconds = nullptr;
  napi_create_int64(env, firstNextUpdate(revoked), &seconds);
  return seconds;
}

}  // namespace

napi_status defineCertificateCalls(napi_env env, napi_value exports, Environment* environment) {
  const napi_property_descriptor calls[] = {
      {"whyNotTrusted", nullptr, whyNotTrustedCall, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"firstNextUpdate", nullptr, firstNextUpdateCall, nullptr, nullptr, nullptr, napi_enumerable, environment},
  };
  return napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}

}  // namespace kms

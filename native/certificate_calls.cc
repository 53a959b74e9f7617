#include <node_api.h>

#include <memory>
#include <string>
#include <vector>

#include "core/certificate.h"
#include "environment.h"

namespace kms {

namespace {

constexpr napi_type_tag kTrustTag = {0x6b6d732d74727573, 0x742d312d6f70656e};

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

napi_value refuse(napi_env env, void* data, const char* why) {
  throwFailure(env, *static_cast<Environment*>(data), Failure(Status::InvalidArgument, why));
  return nullptr;
}

// (authorities, revoked)
napi_value openTrust(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  Bytes authorities, revoked;
  if (!readBytes(env, argv[0], &authorities) || !readBytes(env, argv[1], &revoked)) {
    return refuse(env, data, "takes authorities and revocation lists");
  }
  std::unique_ptr<Trust> trust = Trust::open(authorities, revoked);
  if (trust == nullptr) return refuse(env, data, "unreadable authority or revocation list");
  napi_value handle = nullptr;
  const auto release = [](napi_env, void* opened, void*) { delete static_cast<Trust*>(opened); };
  if (napi_create_external(env, trust.get(), release, nullptr, &handle) != napi_ok) return nullptr;
  napi_type_tag_object(env, handle, &kTrustTag);
  static_cast<void>(trust.release());
  return handle;
}

// (trust, chain)
napi_value whyNotTrusted(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  void *data = nullptr, *trust = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  std::vector<Bytes> chain;
  bool isTrust = false;
  if (napi_check_object_type_tag(env, argv[0], &kTrustTag, &isTrust) != napi_ok || !isTrust ||
      napi_get_value_external(env, argv[0], &trust) != napi_ok || !readChain(env, argv[1], &chain)) {
    return refuse(env, data, "takes what openTrust gave, and a chain");
  }
  const std::string why = static_cast<Trust*>(trust)->whyNot(chain);
  napi_value text = nullptr;
  napi_create_string_utf8(env, why.data(), why.size(), &text);
  return text;
}

// The one argument of the calls below; false and an exception for anything but bytes.
bool readLists(napi_env env, napi_callback_info info, Bytes* revoked) {
  size_t argc = 1;
  napi_value argument = nullptr;
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, &argument, nullptr, &data);
  if (readBytes(env, argument, revoked)) return true;
  throwFailure(env, *static_cast<Environment*>(data), Failure(Status::InvalidArgument, "takes revocation lists"));
  return false;
}

// (revoked)
napi_value holdsDeltaCall(napi_env env, napi_callback_info info) {
  Bytes revoked;
  if (!readLists(env, info, &revoked)) return nullptr;
  napi_value found = nullptr;
  napi_get_boolean(env, holdsDelta(revoked), &found);
  return found;
}

// (revoked)
napi_value firstNextUpdateCall(napi_env env, napi_callback_info info) {
  Bytes revoked;
  if (!readLists(env, info, &revoked)) return nullptr;
  napi_value seconds = nullptr;
  napi_create_int64(env, firstNextUpdate(revoked), &seconds);
  return seconds;
}

}  // namespace

napi_status defineCertificateCalls(napi_env env, napi_value exports, Environment* environment) {
  const napi_property_descriptor calls[] = {
      {"openTrust", nullptr, openTrust, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"whyNotTrusted", nullptr, whyNotTrusted, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"holdsDelta", nullptr, holdsDeltaCall, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"firstNextUpdate", nullptr, firstNextUpdateCall, nullptr, nullptr, nullptr, napi_enumerable, environment},
  };
  return napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}

}  // namespace kms

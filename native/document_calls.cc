#include <node_api.h>

#include "core/documents.h"
#include "core/packed_record.h"
#include "environment.h"

namespace kms {

namespace {

// A JavaScript object in the making, one line per member.
class Members {
 public:
  explicit Members(napi_env env) : env_(env) { napi_create_object(env, &object_); }
  Members& add(const char* name, const std::string& text) {
    napi_value value = nullptr;
    napi_create_string_utf8(env_, text.data(), text.size(), &value);
    return set(name, value);
  }
  Members& add(const char* name, uint64_t number) {
    napi_value value = nullptr;
    napi_create_double(env_, static_cast<double>(number), &value);
    return set(name, value);
  }
  Members& add(const char* name, const std::vector<uint8_t>& bytes) {
    napi_value value = nullptr;
    napi_create_buffer_copy(env_, bytes.size(), bytes.data(), nullptr, &value);
    return set(name, value);
  }
  template <typename Each, typename Make>
  Members& add(const char* name, const std::vector<Each>& list, Make&& make) {
    napi_value array = nullptr;
    napi_create_array_with_length(env_, list.size(), &array);
    for (uint32_t i = 0; i < list.size(); ++i) napi_set_element(env_, array, i, make(env_, list[i]));
    return set(name, array);
  }
  napi_value object() const { return object_; }

 private:
  Members& set(const char* name, napi_value value) {
    napi_set_named_property(env_, object_, name, value);
    return *this;
  }

  napi_env env_;
  napi_value object_ = nullptr;
};

napi_value valueOf(napi_env env, const Record& record) {
  return Members(env)
      .add("format", record.format)
      .add("storeId", record.storeId)
      .add("keyId", record.keyId)
      .add("threadId", record.threadId)
      .add("alg", record.alg)
      .add("state", record.state)
      .add("version", record.version)
      .add("wrapped", record.wrapped)
      .add("kekId", record.kekId)
      .add("kekVersion", record.kekVersion)
      .add("usesReserved", record.usesReserved)
      .add("createdAt", record.createdAt)
      .add("updatedAt", record.updatedAt)
      .add("createdBy", record.createdBy)
      .add("mac", record.mac)
      .object();
}

napi_value slotValue(napi_env env, const KeyringSlot& slot) {
  return Members(env)
      .add("slotId", slot.slotId)
      .add("kind", slot.kind)
      .add("state", slot.state)
      .add("expiresAt", slot.expiresAt)
      .add("salt", slot.salt)
      .add("root", slot.root)
      .add("slotKey", slot.slotKey)
      .add("createdAt", slot.createdAt)
      .object();
}

napi_value kekValue(napi_env env, const KeyringKek& kek) {
  return Members(env)
      .add("kekId", kek.kekId)
      .add("kekVersion", kek.kekVersion)
      .add("state", kek.state)
      .add("wrapped", kek.wrapped)
      .add("wrapsReserved", kek.wrapsReserved)
      .add("createdAt", kek.createdAt)
      .object();
}

napi_value auditKeyValue(napi_env env, const AuditKey& key) {
  return Members(env).add("publicKey", key.publicKey).add("wrapped", key.wrapped).add("createdAt", key.createdAt).object();
}

napi_value valueOf(napi_env env, const Keyring& keyring) {
  return Members(env)
      .add("format", keyring.format)
      .add("storeId", keyring.storeId)
      .add("generation", keyring.generation)
      .add("slots", keyring.slots, slotValue)
      .add("keks", keyring.keks, kekValue)
      .add("recordMac", keyring.recordMac)
      .add("auditKeys", keyring.auditKeys, auditKeyValue)
      .add("defaultKeyId", keyring.defaultKeyId)
      .add("sha256", keyring.sha256)
      .add("mac", keyring.mac)
      .object();
}

// (bytes)
template <typename Document, Failure (*kRead)(const uint8_t*, size_t, Document*)>
napi_value parse(napi_env env, napi_callback_info info) {
  size_t argc = 1, length = 0;
  napi_value json = nullptr;
  void* data = nullptr;
  uint8_t* bytes = nullptr;
  napi_get_cb_info(env, info, &argc, &json, nullptr, &data);
  Document document;
  const Failure failure =
      bytesOf(env, json, &bytes, &length) ? kRead(bytes, length, &document) : Failure(Status::InvalidArgument, "takes bytes");
  if (failure.ok()) return valueOf(env, document);
  throwFailure(env, *static_cast<Environment*>(data), failure);
  return nullptr;
}

}  // namespace

napi_status defineDocumentCalls(napi_env env, napi_value exports, Environment* environment) {
  const napi_property_descriptor calls[] = {
      {"parseRecord", nullptr, parse<Record, readRecord>, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"unpackRecord", nullptr, parse<Record, readPackedRecord>, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"parseKeyring", nullptr, parse<Keyring, readKeyring>, nullptr, nullptr, nullptr, napi_enumerable, environment},
  };
  return napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}

}  // namespace kms

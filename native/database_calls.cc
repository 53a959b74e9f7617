#include <node_api.h>

#include <cstring>
#include <string>

#include "core/database_secret.h"
#include "core/encoding.h"
#include "core/kdf.h"
#include "core/key_table.h"
#include "core/sha256.h"
#include "environment.h"

// Client-sealed databases, docs/FORMATS.md: their secrets, the key that a secret and the server's share make together, and
// documents sealed under keys of it.
namespace kms {

namespace {

constexpr uint32_t kHalf = KeyTable::bit(Kind::Half);
constexpr uint32_t kSealing = KeyTable::bit(Kind::Root) | KeyTable::bit(Kind::Kek);
constexpr size_t kMaxDocumentBytes = 4096;
constexpr size_t kStoreIdBytes = 32;

class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    void* data = nullptr;
    napi_get_cb_info(env, info, &count_, values_, nullptr, &data);
    environment_ = static_cast<Environment*>(data);
  }

  bool good() const { return good_; }

  uint32_t uint32() {
    double value = 0;
    good_ = good_ && at_ < count_ && napi_get_value_double(env_, values_[at_++], &value) == napi_ok && value >= 0 && value <= UINT32_MAX;
    return good_ ? static_cast<uint32_t>(value) : 0;
  }
  Handle handle() {
    double value = 0;
    good_ = good_ && at_ < count_ && napi_get_value_double(env_, values_[at_++], &value) == napi_ok && value >= 0 && value < 9007199254740992.0;
    return good_ ? Handle::of(value) : Handle{};
  }
  Bytes bytes() {
    uint8_t* data = nullptr;
    size_t length = 0;
    good_ = good_ && at_ < count_ && bytesOf(env_, values_[at_++], &data, &length);
    return good_ ? Bytes{data, length} : Bytes{};
  }

  napi_value fail(const Failure& failure) const {
    throwFailure(env_, *environment_, failure);
    return nullptr;
  }
  napi_value refuse() const { return fail(Failure(Status::InvalidArgument, "arguments of a call on a database")); }

 private:
  napi_env env_;
  Environment* environment_ = nullptr;
  napi_value values_[4] = {};
  size_t count_ = 4;
  size_t at_ = 0;
  bool good_ = true;
};

// Bytes in memory of their own, which V8 does not move: what is wiped is all there is.
napi_value newBytes(napi_env env, size_t length, uint8_t** data) {
  napi_value buffer = nullptr, view = nullptr;
  void* at = nullptr;
  if (napi_create_arraybuffer(env, length, &at, &buffer) != napi_ok) return nullptr;
  if (napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &view) != napi_ok) return nullptr;
  *data = static_cast<uint8_t*>(at);
  return view;
}

void append(std::string* out, const uint8_t* data, size_t length) {
  for (int shift = 24; shift >= 0; shift -= 8) out->push_back(static_cast<char>(length >> shift));
  out->append(reinterpret_cast<const char*>(data), length);
}

// The name of a database tells nothing of its secret: whoever reads the names would have to guess 128 random bits.
std::string databaseIdOf(Bytes storeId, const uint8_t groupId[kGroupIdBytes]) {
  static constexpr char kLabel[] = "progressdb-kms/database-id/v1";
  std::string named;
  append(&named, reinterpret_cast<const uint8_t*>(kLabel), sizeof kLabel - 1);
  append(&named, storeId.data, storeId.length);
  append(&named, groupId, kGroupIdBytes);
  uint8_t digest[kSha256Bytes], hex[kSha256Bytes];
  sha256({Bytes{reinterpret_cast<const uint8_t*>(named.data()), named.size()}}, digest);
  encodeHex(digest, kGroupIdBytes, hex);
  return std::string(reinterpret_cast<const char*>(hex), 2 * kGroupIdBytes);
}

napi_value resultOf(napi_env env, Handle half, const std::string& databaseId, napi_value secret) {
  napi_value result = nullptr, handle = nullptr, id = nullptr;
  napi_create_object(env, &result);
  napi_create_double(env, half.number(), &handle);
  napi_create_string_utf8(env, databaseId.data(), databaseId.size(), &id);
  napi_set_named_property(env, result, "half", handle);
  napi_set_named_property(env, result, "databaseId", id);
  if (secret != nullptr) napi_set_named_property(env, result, "secret", secret);
  return result;
}

// (space, storeId): {half, databaseId, secret}
napi_value newSecret(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const SpaceId space = arguments.uint32();
  const Bytes storeId = arguments.bytes();
  if (!arguments.good() || storeId.length != kStoreIdBytes) return arguments.refuse();
  uint8_t groupId[kGroupIdBytes], text[kMaxSecretBytes];
  size_t length = 0;
  Handle half;
  const Failure failure = KeyTable::instance().add(
      space, Kind::Half,
      [&](uint8_t* key) {
        if (!fillRandom(groupId, sizeof groupId) || !fillRandom(key, kKeyBytes)) {
          return Failure(Status::Internal, "the operating system gives no random bytes");
        }
        Arena::Scratch scratch(Arena::instance());
        length = writeDatabaseSecret(groupId, key, scratch.data(), text);
        return Failure();
      },
      &half);
  if (!failure.ok()) {
    wipe(text, sizeof text);
    return arguments.fail(failure);
  }
  uint8_t* out = nullptr;
  const napi_value secret = newBytes(env, length, &out);
  if (out != nullptr) memcpy(out, text, length);
  wipe(text, sizeof text);
  return resultOf(env, half, databaseIdOf(storeId, groupId), secret);
}

// (space, storeId, secret): {half, databaseId}; the secret is wiped.
napi_value readSecret(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const SpaceId space = arguments.uint32();
  const Bytes storeId = arguments.bytes();
  const Bytes secret = arguments.bytes();
  if (!arguments.good()) return arguments.refuse();
  uint8_t groupId[kGroupIdBytes];
  Handle half;
  const Failure failure = KeyTable::instance().add(
      space, Kind::Half,
      [&](uint8_t* key) {
        if (storeId.length != kStoreIdBytes) return Failure(Status::InvalidArgument, "store id");
        Arena::Scratch scratch(Arena::instance());
        const bool good = readDatabaseSecret(secret, scratch.data(), groupId, key);
        return good ? Failure() : Failure(Status::InvalidArgument, "database secret");
      },
      &half);
  wipe(const_cast<uint8_t*>(secret.data), secret.length);
  return failure.ok() ? resultOf(env, half, databaseIdOf(storeId, groupId), nullptr) : arguments.fail(failure);
}

// (space, half, share, info): HKDF-SHA256 with the share as salt.
napi_value joinHalves(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const SpaceId space = arguments.uint32();
  const Handle half = arguments.handle(), share = arguments.handle();
  const Bytes label = arguments.bytes();
  if (!arguments.good()) return arguments.refuse();
  Handle joined;
  const Failure failure = KeyTable::instance().add(
      space, Kind::Root,
      [&](uint8_t* key) {
        Arena::Scratch scratch(Arena::instance());
        return Failure(KeyTable::instance().withTwo(half, kHalf, share, kHalf, [&](const uint8_t* secret, const uint8_t* salt) {
          hkdfSha256(secret, Bytes{salt, kKeyBytes}, label, scratch.data(), key);
          return Status::Ok;
        }));
      },
      &joined);
  if (!failure.ok()) return arguments.fail(failure);
  napi_value result = nullptr;
  napi_create_double(env, joined.number(), &result);
  return result;
}

// Runs `use` with a cipher of the key that `under` and `label` make, which serves one document.
template <typename Use>
Status withDocumentKey(Handle under, Bytes label, Use&& use) {
  Arena::Scratch scratch(Arena::instance());
  uint8_t* const key = scratch.data() + kKeyBytes;
  const Status status = KeyTable::instance().with(under, kSealing, [&](const uint8_t* source) {
    hkdfSha256(source, Bytes{}, label, scratch.data(), key);
    Cipher cipher;
    return cipher.setKey(key) ? use(cipher) : Status::Internal;
  });
  wipe(key, kKeyBytes);
  wipeStack();
  return status;
}

// (under, info, aad, document): nonce ‖ ciphertext ‖ tag
napi_value sealDocument(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const Handle under = arguments.handle();
  const Bytes label = arguments.bytes(), aad = arguments.bytes(), document = arguments.bytes();
  if (!arguments.good()) return arguments.refuse();
  if (document.length > kMaxDocumentBytes) return arguments.fail(Failure(Status::TooLarge, "a document"));
  uint8_t* out = nullptr;
  const napi_value sealed = newBytes(env, document.length + kOverheadBytes, &out);
  if (out == nullptr) return arguments.fail(Failure(Status::Internal));
  const Status status = withDocumentKey(under, label, [&](Cipher& cipher) {
    const bool good = fillRandom(out, kNonceBytes) && cipher.seal(out, aad, document, out + kNonceBytes);
    return good ? Status::Ok : Status::Internal;
  });
  return status == Status::Ok ? sealed : arguments.fail(Failure(status));
}

// (under, info, aad, sealed)
napi_value openDocument(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const Handle under = arguments.handle();
  const Bytes label = arguments.bytes(), aad = arguments.bytes(), sealed = arguments.bytes();
  if (!arguments.good()) return arguments.refuse();
  if (sealed.length < kOverheadBytes || sealed.length > kMaxDocumentBytes + kOverheadBytes) {
    return arguments.fail(Failure(Status::AuthenticationFailed));
  }
  uint8_t* out = nullptr;
  const napi_value document = newBytes(env, sealed.length - kOverheadBytes, &out);
  const Status status = withDocumentKey(under, label, [&](Cipher& cipher) {
    const Bytes text{sealed.data + kNonceBytes, sealed.length - kNonceBytes};
    return cipher.open(sealed.data, aad, text, out) ? Status::Ok : Status::AuthenticationFailed;
  });
  return status == Status::Ok ? document : arguments.fail(Failure(status));
}

}  // namespace

napi_status defineDatabaseCalls(napi_env env, napi_value exports, Environment* environment) {
  const napi_property_descriptor calls[] = {
      {"newDatabaseSecret", nullptr, newSecret, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"readDatabaseSecret", nullptr, readSecret, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"joinHalves", nullptr, joinHalves, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"sealDocument", nullptr, sealDocument, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"openDocument", nullptr, openDocument, nullptr, nullptr, nullptr, napi_enumerable, environment},
  };
  return napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}

}  // namespace kms

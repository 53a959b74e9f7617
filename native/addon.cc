#include <napi.h>

#include <dlfcn.h>
#include <openssl/crypto.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include "core/audit_chain.h"
#include "core/data_audit.h"
#include "core/directory_lock.h"
#include "core/document_rules.h"
#include "core/kdf.h"
#include "core/key_file.h"
#include "core/key_table.h"
#include "core/process.h"
#include "core/record_ring.h"
#include "environment.h"

namespace kms {

void throwFailure(napi_env env, const Environment& environment, const Failure& failure) {
  napi_value constructor = nullptr, argv[2], error = nullptr;
  napi_get_reference_value(env, environment.errorClass, &constructor);
  napi_create_string_utf8(env, statusCode(failure.status), NAPI_AUTO_LENGTH, &argv[0]);
  napi_create_string_utf8(env, failure.detail.c_str(), failure.detail.size(), &argv[1]);
  if (napi_new_instance(env, constructor, failure.detail.empty() ? 1 : 2, argv, &error) == napi_ok) napi_throw(env, error);
}

namespace {

// The keys of a space, and what goes by them.
void closeWhole(SpaceId space) {
  KeyTable::instance().closeSpace(space);
  AuditChains::instance().closeOf(space);
  DataAudits::instance().forget(space);
  RecordRings::instance().forget(space);
}

}  // namespace

Environment::~Environment() {
  for (const uint32_t chain : chains) AuditChains::instance().close(chain);
  for (const SpaceId space : spaces) closeWhole(space);
  for (const int lock : locks) unlock(lock);
}

namespace {

using Info = Napi::CallbackInfo;
using Value = Napi::Value;

constexpr uint32_t kWrapping = KeyTable::bit(Kind::SlotKey) | KeyTable::bit(Kind::Root) | KeyTable::bit(Kind::Kek);
constexpr uint32_t kWrappable = KeyTable::bit(Kind::SlotKey) | KeyTable::bit(Kind::Root) | KeyTable::bit(Kind::Kek) | KeyTable::bit(Kind::Dek) |
                                KeyTable::bit(Kind::Mac) | KeyTable::bit(Kind::Signing) | KeyTable::bit(Kind::Half);
constexpr uint32_t kDerivable = KeyTable::bit(Kind::Master) | KeyTable::bit(Kind::Root);
constexpr uint32_t kMaster = KeyTable::bit(Kind::Master);
constexpr uint32_t kMac = KeyTable::bit(Kind::Mac);
constexpr uint32_t kDek = KeyTable::bit(Kind::Dek);
// An epoch key is read by its chain alone, which changes it.
constexpr uint32_t kAny = ~KeyTable::bit(Kind::Epoch);

KeyTable& table() { return KeyTable::instance(); }
Environment& environmentOf(const Info& info) { return *info.Env().GetInstanceData<Environment>(); }

Value fail(const Info& info, const Failure& failure) {
  throwFailure(info.Env(), environmentOf(info), failure);
  return Value();
}
Value fail(const Info& info, Status status) { return fail(info, Failure(status)); }

// Reads arguments one after the other; the first that does not fit spoils the rest, and `good` says so once.
class Arguments {
 public:
  explicit Arguments(const Info& info) : info_(info) {}

  bool good() const { return good_; }
  Value refuse() const { return fail(info_, Failure(Status::InvalidArgument, "argument " + std::to_string(at_) + " of a native call")); }

  double number() {
    const Value value = next();
    if (good_ && !value.IsNumber()) good_ = false;
    const double read = good_ ? value.As<Napi::Number>().DoubleValue() : 0;
    if (!(read >= 0 && read < 9007199254740992.0)) good_ = false;
    return good_ ? read : 0;
  }
  uint32_t uint32() {
    const double read = number();
    if (read > 4294967295.0 || read != std::floor(read)) good_ = false;
    return good_ ? static_cast<uint32_t>(read) : 0;
  }
  uint64_t uint64() { return static_cast<uint64_t>(number()); }
  Handle handle() { return Handle::of(number()); }
  bool boolean() {
    const Value value = next();
    if (good_ && !value.IsBoolean()) good_ = false;
    return good_ && value.As<Napi::Boolean>().Value();
  }
  std::string text() {
    const Value value = next();
    if (good_ && !value.IsString()) good_ = false;
    return good_ ? value.As<Napi::String>().Utf8Value() : std::string();
  }
  Bytes bytes() {
    const Value value = next();
    uint8_t* data = nullptr;
    size_t length = 0;
    if (good_ && !bytesOf(info_.Env(), value, &data, &length)) good_ = false;
    return good_ ? Bytes{data, length} : Bytes{};
  }
  Kind kind() {
    const std::string name = text();
    constexpr std::pair<const char*, Kind> kinds[] = {{"master", Kind::Master}, {"slot", Kind::SlotKey}, {"root", Kind::Root},
                                                      {"kek", Kind::Kek},       {"mac", Kind::Mac},      {"dek", Kind::Dek},
                                                      {"signing", Kind::Signing}, {"half", Kind::Half}};
    for (const auto& [known, kind] : kinds) {
      if (name == known) return kind;
    }
    good_ = false;
    return Kind::Dek;
  }

 private:
  Value next() {
    if (good_ && at_ >= info_.Length()) good_ = false;
    return good_ ? info_[at_++] : Value();
  }

  const Info& info_;
  size_t at_ = 0;
  bool good_ = true;
};

template <typename T>
T read(Arguments& arguments) {
  if constexpr (std::is_same_v<T, uint32_t>) return arguments.uint32();
  if constexpr (std::is_same_v<T, uint64_t>) return arguments.uint64();
  if constexpr (std::is_same_v<T, Handle>) return arguments.handle();
  if constexpr (std::is_same_v<T, bool>) return arguments.boolean();
  if constexpr (std::is_same_v<T, std::string>) return arguments.text();
  if constexpr (std::is_same_v<T, Bytes>) return arguments.bytes();
  if constexpr (std::is_same_v<T, Kind>) return arguments.kind();
}

// Makes a function of typed parameters one that JavaScript may call: each argument is read and checked by its type.
template <auto kFunction>
struct Call;

template <typename... Parameters, Value (*kFunction)(const Info&, Parameters...)>
struct Call<kFunction> {
  static Value invoke(const Info& info) {
    Arguments arguments(info);
    // Braces: the arguments are read from left to right.
    const std::tuple<std::decay_t<Parameters>...> values{read<std::decay_t<Parameters>>(arguments)...};
    if (!arguments.good()) return arguments.refuse();
    return std::apply([&](const auto&... each) { return kFunction(info, each...); }, values);
  }
};

Value bytesValue(Napi::Env env, const uint8_t* data, size_t length) { return Napi::Buffer<uint8_t>::Copy(env, data, length); }
Value handleValue(const Info& info, Handle handle) { return Napi::Number::New(info.Env(), handle.none() ? 0 : handle.number()); }

// ---- Process

Value arenaInfo(const Info& info) {
  const Arena& arena = Arena::instance();
  Napi::Object result = Napi::Object::New(info.Env());
  const uint64_t limit = memlockLimit();
  result["protection"] = Napi::String::New(info.Env(), protectionName(arena.protection()));
  result["arenaBytes"] = Napi::Number::New(info.Env(), static_cast<double>(arena.bytes()));
  result["capacity"] = Napi::Number::New(info.Env(), arena.capacity());
  result["used"] = Napi::Number::New(info.Env(), arena.used());
  result["memlockLimit"] = Napi::Number::New(info.Env(), limit == UINT64_MAX ? INFINITY : static_cast<double>(limit));
  result["openssl"] = Napi::String::New(info.Env(), OpenSSL_version(OPENSSL_VERSION_STRING));
  return result;
}

Value initialise(const Info& info, uint64_t arenaBytes, uint32_t keptContexts) {
  if (keptContexts > (1u << 20)) return fail(info, Status::InvalidArgument);
  if (const Failure failure = table().open(arenaBytes, keptContexts); !failure.ok()) return fail(info, failure);
  Environment& environment = environmentOf(info);
  environment.thread = &thisThread();
  environment.thread->setDoorbell(environment.bell);
  return arenaInfo(info);
}

Value harden(const Info& info) {
  const Failure failure = hardenProcess();
  return failure.ok() ? info.Env().Undefined() : fail(info, failure);
}

Value lockWith(const Info& info, Failure (*take)(const char*, int*), const std::string& path) {
  int lock = -1;
  const Failure failure = take(path.c_str(), &lock);
  if (!failure.ok()) return fail(info, failure);
  environmentOf(info).locks.push_back(lock);
  return Napi::Number::New(info.Env(), lock);
}

Value lockDirectoryCall(const Info& info, const std::string& path) { return lockWith(info, lockDirectory, path); }
Value lockFileCall(const Info& info, const std::string& path) { return lockWith(info, lockFile, path); }

Value unlockCall(const Info& info, uint32_t lock) {
  std::vector<int>& locks = environmentOf(info).locks;
  locks.erase(std::remove(locks.begin(), locks.end(), static_cast<int>(lock)), locks.end());
  unlock(static_cast<int>(lock));
  return info.Env().Undefined();
}

// ---- Keys

Value openSpace(const Info& info, uint32_t cachedKeys) {
  if (!Arena::instance().isOpen()) return fail(info, Failure(Status::Internal, "the arena is not open"));
  const SpaceId space = table().openSpace(cachedKeys);
  environmentOf(info).spaces.push_back(space);
  return Napi::Number::New(info.Env(), space);
}

Value closeSpace(const Info& info, uint32_t space) {
  closeWhole(space);
  std::vector<uint32_t>& spaces = environmentOf(info).spaces;
  spaces.erase(std::remove(spaces.begin(), spaces.end(), space), spaces.end());
  return info.Env().Undefined();
}

template <typename Fill>
Value add(const Info& info, SpaceId space, Kind kind, Fill&& fill) {
  Handle handle;
  const Failure failure = table().add(space, kind, fill, &handle);
  return failure.ok() ? handleValue(info, handle) : fail(info, failure);
}

Value generateKey(const Info& info, uint32_t space, Kind kind) {
  return add(info, space, kind, [](uint8_t* key) {
    return fillRandom(key, kKeyBytes) ? Failure() : Failure(Status::Internal, "the operating system gives no random bytes");
  });
}

Value readKeyFileCall(const Info& info, uint32_t space, const std::string& path, bool mayBeGroupReadable) {
  return add(info, space, Kind::Master, [&](uint8_t* key) {
    Arena::Scratch scratch(Arena::instance());
    return readKeyFile(path.c_str(), mayBeGroupReadable, scratch.data(), scratch.size(), key);
  });
}

Value readKeyDescriptorCall(const Info& info, uint32_t space, uint32_t fd) {
  return add(info, space, Kind::Master, [&](uint8_t* key) {
    Arena::Scratch scratch(Arena::instance());
    return readKeyDescriptor(static_cast<int>(fd), scratch.data(), scratch.size(), key);
  });
}

Value writeKeyFileCall(const Info& info, const std::string& path) {
  const Failure failure = writeKeyFile(path.c_str());
  return failure.ok() ? info.Env().Undefined() : fail(info, failure);
}

Value importKey(const Info& info, uint32_t space, Kind kind, Bytes secret) {
  const Value result = add(info, space, kind, [&](uint8_t* key) {
    if (secret.length != kKeyBytes) return Failure(Status::InvalidArgument, "a key has 32 bytes");
    memcpy(key, secret.data, kKeyBytes);
    return Failure();
  });
  wipe(const_cast<uint8_t*>(secret.data), secret.length);
  return result;
}

Value exportKey(const Info& info, Handle dek) {
  Napi::Buffer<uint8_t> result = Napi::Buffer<uint8_t>::New(info.Env(), kKeyBytes);
  const Status status = table().with(dek, kDek, [&](const uint8_t* key) {
    memcpy(result.Data(), key, kKeyBytes);
    return Status::Ok;
  });
  return status == Status::Ok ? result : fail(info, status);
}

// A key made from another one stands in the same space.
template <typename Fill>
Value addBeside(const Info& info, Handle source, Kind kind, Fill&& fill) {
  SpaceId space = 0;
  if (!table().spaceOf(source, &space)) return fail(info, Failure(Status::InvalidArgument, "a stale handle"));
  return add(info, space, kind, fill);
}

Value deriveKey(const Info& info, Handle from, Bytes salt, Bytes label, Kind kind) {
  return addBeside(info, from, kind, [&](uint8_t* key) {
    Arena::Scratch scratch(Arena::instance());
    return Failure(table().with(from, kDerivable, [&](const uint8_t* source) {
      hkdfSha256(source, salt, label, scratch.data(), key);
      return Status::Ok;
    }));
  });
}

Value wrapKeyCall(const Info& info, Handle under, Handle key, Bytes aad) {
  uint8_t wrapped[kWrappedBytes];
  const Status status = table().withTwo(under, kWrapping, key, kWrappable, [&](const uint8_t* wrapping, const uint8_t* wrappee) {
    return wrapKey(wrapping, wrappee, aad, wrapped);
  });
  return status == Status::Ok ? bytesValue(info.Env(), wrapped, sizeof wrapped) : fail(info, status);
}

Value unwrapKeyCall(const Info& info, Handle under, Bytes wrapped, Bytes aad, Kind kind) {
  return addBeside(info, under, kind, [&](uint8_t* key) {
    return Failure(table().with(under, kWrapping, [&](const uint8_t* wrapping) { return unwrapKey(wrapping, wrapped, aad, key); }));
  });
}

// A data key of the original stands under the master key itself, without AAD. No other key of ours may be unwrapped so.
Value unwrapOriginalCall(const Info& info, Handle master, Bytes wrapped) {
  return addBeside(info, master, Kind::Dek, [&](uint8_t* key) {
    return Failure(table().with(master, kMaster, [&](const uint8_t* wrapping) { return unwrapKey(wrapping, wrapped, Bytes{}, key); }));
  });
}

Status macOf(Handle key, Bytes data, uint8_t mac[kMacBytes]) {
  return table().with(key, kMac, [&](const uint8_t* secret) {
    hmacSha256(secret, data, mac);
    return Status::Ok;
  });
}

Value hmac(const Info& info, Handle key, Bytes data) {
  uint8_t mac[kMacBytes];
  const Status status = macOf(key, data, mac);
  return status == Status::Ok ? bytesValue(info.Env(), mac, sizeof mac) : fail(info, status);
}

Value verifyHmac(const Info& info, Handle key, Bytes data, Bytes expected) {
  uint8_t mac[kMacBytes];
  const Status status = macOf(key, data, mac);
  if (status != Status::Ok) return fail(info, status);
  return Napi::Boolean::New(info.Env(), expected.length == kMacBytes && CRYPTO_memcmp(mac, expected.data, kMacBytes) == 0);
}

Value sameKey(const Info& info, Handle a, Handle b) {
  bool same = false;
  const Status status = table().withTwo(a, kAny, b, kAny, [&](const uint8_t* first, const uint8_t* second) {
    same = CRYPTO_memcmp(first, second, kKeyBytes) == 0;
    return Status::Ok;
  });
  return status == Status::Ok ? Napi::Boolean::New(info.Env(), same) : fail(info, status);
}

Value releaseKey(const Info& info, Handle key) {
  table().release(key);
  return info.Env().Undefined();
}

// ---- Cached DEKs

Value publishKey(const Info& info, uint32_t space, Handle dek, const std::string& id, uint32_t kekVersion, uint64_t uses) {
  if (!isKeyId(id)) return fail(info, Status::InvalidArgument);
  Handle serving;
  const Failure failure = table().publish(space, dek, id, kekVersion, uses, &serving);
  return failure.ok() ? handleValue(info, serving) : fail(info, failure);
}

Value findKey(const Info& info, uint32_t space, const std::string& id) {
  return handleValue(info, table().find(space, id));
}

Value kekVersionOf(const Info& info, Handle dek) {
  return Napi::Number::New(info.Env(), table().kekVersionOf(dek));
}

Value retireKey(const Info& info, uint32_t space, const std::string& id, const std::string& how) {
  if (!isKeyId(id) || (how != "evicted" && how != "disabled" && how != "destroyed")) return fail(info, Status::InvalidArgument);
  table().retire(space, id, how == "evicted" ? Retire::Evicted : how == "disabled" ? Retire::Disabled : Retire::Destroyed);
  return info.Env().Undefined();
}

Value retireKeys(const Info& info, uint32_t space) {
  table().retireAll(space);
  return info.Env().Undefined();
}

Value grantUses(const Info& info, uint32_t space, const std::string& id, uint64_t uses) {
  table().grantUses(space, id, uses);
  return info.Env().Undefined();
}

Value newPolicy(const Info& info) { return Napi::Number::New(info.Env(), table().newPolicy()); }

Value coverKey(const Info& info, uint32_t space, const std::string& id, uint32_t policy) {
  table().cover(space, id, policy);
  return info.Env().Undefined();
}

Value takeUseRequests(const Info& info, uint32_t space) {
  Napi::Array result = Napi::Array::New(info.Env());
  for (const std::string& id : table().takeUseRequests(space)) result[result.Length()] = Napi::String::New(info.Env(), id);
  return result;
}

Value takeUnusedUses(const Info& info, uint32_t space) {
  Napi::Array result = Napi::Array::New(info.Env());
  for (const auto& [id, uses] : table().takeUnusedUses(space)) {
    Napi::Array pair = Napi::Array::New(info.Env(), 2);
    pair[0u] = Napi::String::New(info.Env(), id);
    pair[1u] = Napi::Number::New(info.Env(), static_cast<double>(uses));
    result[result.Length()] = pair;
  }
  return result;
}

Value cachedKeys(const Info& info, uint32_t space) {
  return Napi::Number::New(info.Env(), table().cachedKeys(space));
}

// What all threads have counted, as numbers: none reaches 2^53.
Value readCounts(const Info& info) {
  const KeyTable::Counts counts = table().counts();
  Napi::Float64Array values = Napi::Float64Array::New(info.Env(), KeyTable::Counts::kLength);
  for (uint32_t i = 0; i < KeyTable::Counts::kLength; ++i) values[i] = static_cast<double>(counts.values[i]);
  return values;
}

Value sweep(const Info& info, uint32_t contextSweeps, uint32_t keySweeps) {
  table().sweep(contextSweeps, keySweeps);
  return info.Env().Undefined();
}

Value wipeCall(const Info& info, Bytes secret) {
  wipe(const_cast<uint8_t*>(secret.data), secret.length);
  return info.Env().Undefined();
}

// ---- Loading

// (errorClass, doorbell): the first call on each thread.
Value bind(const Info& info) {
  const Napi::Env env = info.Env();
  Environment& environment = environmentOf(info);
  if (info.Length() != 2 || !info[0].IsFunction() || !info[1].IsTypedArray() ||
      info[1].As<Napi::TypedArray>().TypedArrayType() != napi_int32_array || info[1].As<Napi::TypedArray>().ElementLength() < 2) {
    return env.Undefined();
  }
  napi_create_reference(env, info[0], 1, &environment.errorClass);
  napi_create_reference(env, info[1], 1, &environment.doorbell);
  environment.bell = info[1].As<Napi::Int32Array>().Data();
  Napi::Object codes = Napi::Object::New(env);
#define KMS_STATUS_ENTRY(name, number, code, message) codes[code] = Napi::Number::New(env, number);
  KMS_STATUS_TABLE(KMS_STATUS_ENTRY)
#undef KMS_STATUS_ENTRY
  return codes;
}

// The key table outlives any worker that loaded the addon: it must not be unloaded with the last of them.
void pin() {
  static int anchor = 0;
  Dl_info self{};
  if (dladdr(&anchor, &self) != 0) dlopen(self.dli_fname, RTLD_NOW | RTLD_NODELETE);
}

Napi::Object load(Napi::Env env, Napi::Object exports) {
  pin();
  auto* const environment = new Environment();
  env.SetInstanceData(environment);
  constexpr std::pair<const char*, Value (*)(const Info&)> calls[] = {
      {"bind", bind},
      {"initialise", Call<initialise>::invoke},
      {"arenaInfo", arenaInfo},
      {"hardenProcess", harden},
      {"lockDirectory", Call<lockDirectoryCall>::invoke},
      {"lockFile", Call<lockFileCall>::invoke},
      {"unlock", Call<unlockCall>::invoke},
      {"openSpace", Call<openSpace>::invoke},
      {"closeSpace", Call<closeSpace>::invoke},
      {"generateKey", Call<generateKey>::invoke},
      {"readKeyFile", Call<readKeyFileCall>::invoke},
      {"readKeyDescriptor", Call<readKeyDescriptorCall>::invoke},
      {"writeKeyFile", Call<writeKeyFileCall>::invoke},
      {"importKey", Call<importKey>::invoke},
      {"exportKey", Call<exportKey>::invoke},
      {"deriveKey", Call<deriveKey>::invoke},
      {"wrapKey", Call<wrapKeyCall>::invoke},
      {"unwrapKey", Call<unwrapKeyCall>::invoke},
      {"unwrapOriginal", Call<unwrapOriginalCall>::invoke},
      {"hmac", Call<hmac>::invoke},
      {"verifyHmac", Call<verifyHmac>::invoke},
      {"sameKey", Call<sameKey>::invoke},
      {"releaseKey", Call<releaseKey>::invoke},
      {"publishKey", Call<publishKey>::invoke},
      {"findKey", Call<findKey>::invoke},
      {"kekVersionOf", Call<kekVersionOf>::invoke},
      {"retireKey", Call<retireKey>::invoke},
      {"retireKeys", Call<retireKeys>::invoke},
      {"grantUses", Call<grantUses>::invoke},
      {"newPolicy", Call<newPolicy>::invoke},
      {"coverKey", Call<coverKey>::invoke},
      {"takeUseRequests", Call<takeUseRequests>::invoke},
      {"takeUnusedUses", Call<takeUnusedUses>::invoke},
      {"cachedKeys", Call<cachedKeys>::invoke},
      {"readCounts", Call<readCounts>::invoke},
      {"sweep", Call<sweep>::invoke},
      {"wipe", Call<wipeCall>::invoke},
  };
  for (const auto& [name, call] : calls) exports.Set(name, Napi::Function::New(env, call, name));
  defineHotCalls(env, exports, environment);
  definePoolCalls(env, exports, environment);
  defineAppendCalls(env, exports, environment);
  defineDocumentCalls(env, exports, environment);
  defineRecordCalls(env, exports, environment);
  defineListenCalls(env, exports, environment);
  defineCertificateCalls(env, exports, environment);
  defineAuditCalls(env, exports, environment);
  defineDatabaseCalls(env, exports, environment);
  return exports;
}

}  // namespace

}  // namespace kms

static Napi::Object loadAddon(Napi::Env env, Napi::Object exports) { return kms::load(env, exports); }
NODE_API_MODULE(progressdb_kms, loadAddon)

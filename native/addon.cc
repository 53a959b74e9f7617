#include <napi.h>

#include <dlfcn.h>
#include <openssl/crypto.h>
#include <unistd.h>

#include <cmath>
#include <optional>
#include <string>

#include "core/directory_lock.h"
#include "core/documents.h"
#include "core/kdf.h"
#include "core/key_file.h"
#include "core/key_table.h"
#include "core/peer.h"
#include "core/process.h"
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

using Info = Napi::CallbackInfo;
using Value = Napi::Value;

constexpr uint32_t kWrapping = KeyTable::bit(Kind::SlotKey) | KeyTable::bit(Kind::Root) | KeyTable::bit(Kind::Kek);
constexpr uint32_t kWrappable = KeyTable::bit(Kind::SlotKey) | KeyTable::bit(Kind::Root) | KeyTable::bit(Kind::Kek) | KeyTable::bit(Kind::Dek);
constexpr uint32_t kDerivable = KeyTable::bit(Kind::Master) | KeyTable::bit(Kind::Root);
constexpr uint32_t kMac = KeyTable::bit(Kind::Mac);
constexpr uint32_t kDek = KeyTable::bit(Kind::Dek);
constexpr uint32_t kAny = ~0u;

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
                                                      {"kek", Kind::Kek},       {"mac", Kind::Mac},      {"dek", Kind::Dek}};
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

Value bytesValue(Napi::Env env, const uint8_t* data, size_t length) { return Napi::Buffer<uint8_t>::Copy(env, data, length); }
Value bytesValue(Napi::Env env, const std::vector<uint8_t>& bytes) { return bytesValue(env, bytes.data(), bytes.size()); }
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

Value initialise(const Info& info) {
  Arguments arguments(info);
  const uint64_t arenaBytes = arguments.uint64();
  const uint32_t keptContexts = arguments.uint32();
  if (!arguments.good() || keptContexts > (1u << 20)) return arguments.refuse();
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

Value lockDirectoryCall(const Info& info) {
  Arguments arguments(info);
  const std::string path = arguments.text();
  if (!arguments.good()) return arguments.refuse();
  int lock = -1;
  const Failure failure = lockDirectory(path.c_str(), &lock);
  return failure.ok() ? Napi::Number::New(info.Env(), lock) : fail(info, failure);
}

Value unlockDirectoryCall(const Info& info) {
  Arguments arguments(info);
  const uint32_t lock = arguments.uint32();
  if (!arguments.good()) return arguments.refuse();
  unlockDirectory(static_cast<int>(lock));
  return info.Env().Undefined();
}

Value peerOfCall(const Info& info) {
  Arguments arguments(info);
  const uint32_t fd = arguments.uint32();
  if (!arguments.good()) return arguments.refuse();
  Peer peer;
  if (const Failure failure = peerOf(static_cast<int>(fd), &peer); !failure.ok()) return fail(info, failure);
  Napi::Object result = Napi::Object::New(info.Env());
  result["uid"] = Napi::Number::New(info.Env(), peer.uid);
  result["gid"] = Napi::Number::New(info.Env(), peer.gid);
  result["pid"] = Napi::Number::New(info.Env(), peer.pid);
  return result;
}

Value closeFd(const Info& info) {
  Arguments arguments(info);
  const uint32_t fd = arguments.uint32();
  if (!arguments.good()) return arguments.refuse();
  close(static_cast<int>(fd));
  return info.Env().Undefined();
}

// ---- Keys

Value openSpace(const Info& info) {
  Arguments arguments(info);
  const uint32_t cachedKeys = arguments.uint32();
  if (!arguments.good()) return arguments.refuse();
  if (!Arena::instance().isOpen()) return fail(info, Failure(Status::Internal, "the arena is not open"));
  return Napi::Number::New(info.Env(), table().openSpace(cachedKeys));
}

Value closeSpace(const Info& info) {
  Arguments arguments(info);
  const uint32_t space = arguments.uint32();
  if (!arguments.good()) return arguments.refuse();
  table().closeSpace(space);
  return info.Env().Undefined();
}

template <typename Fill>
Value add(const Info& info, SpaceId space, Kind kind, Fill&& fill) {
  Handle handle;
  const Failure failure = table().add(space, kind, fill, &handle);
  return failure.ok() ? handleValue(info, handle) : fail(info, failure);
}

Value generateKey(const Info& info) {
  Arguments arguments(info);
  const SpaceId space = arguments.uint32();
  const Kind kind = arguments.kind();
  if (!arguments.good()) return arguments.refuse();
  return add(info, space, kind, [](uint8_t* key) {
    return fillRandom(key, kKeyBytes) ? Failure() : Failure(Status::Internal, "the operating system gives no random bytes");
  });
}

Value readKeyFileCall(const Info& info) {
  Arguments arguments(info);
  const SpaceId space = arguments.uint32();
  const std::string path = arguments.text();
  const bool mayBeGroupReadable = arguments.boolean();
  if (!arguments.good()) return arguments.refuse();
  return add(info, space, Kind::Master, [&](uint8_t* key) {
    Arena::Scratch scratch(Arena::instance());
    return readKeyFile(path.c_str(), mayBeGroupReadable, scratch.data(), scratch.size(), key);
  });
}

Value readKeyDescriptorCall(const Info& info) {
  Arguments arguments(info);
  const SpaceId space = arguments.uint32();
  const uint32_t fd = arguments.uint32();
  if (!arguments.good()) return arguments.refuse();
  return add(info, space, Kind::Master, [&](uint8_t* key) {
    Arena::Scratch scratch(Arena::instance());
    return readKeyDescriptor(static_cast<int>(fd), scratch.data(), scratch.size(), key);
  });
}

Value writeKeyFileCall(const Info& info) {
  Arguments arguments(info);
  const std::string path = arguments.text();
  if (!arguments.good()) return arguments.refuse();
  const Failure failure = writeKeyFile(path.c_str());
  return failure.ok() ? info.Env().Undefined() : fail(info, failure);
}

Value importKey(const Info& info) {
  Arguments arguments(info);
  const SpaceId space = arguments.uint32();
  const Kind kind = arguments.kind();
  const Bytes secret = arguments.bytes();
  if (!arguments.good()) return arguments.refuse();
  const Value result = add(info, space, kind, [&](uint8_t* key) {
    if (secret.length != kKeyBytes) return Failure(Status::InvalidArgument, "a key has 32 bytes");
    memcpy(key, secret.data, kKeyBytes);
    return Failure();
  });
  wipe(const_cast<uint8_t*>(secret.data), secret.length);
  return result;
}

Value exportKey(const Info& info) {
  Arguments arguments(info);
  const Handle dek = arguments.handle();
  if (!arguments.good()) return arguments.refuse();
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

Value deriveKey(const Info& info) {
  Arguments arguments(info);
  const Handle from = arguments.handle();
  const Bytes salt = arguments.bytes();
  const Bytes label = arguments.bytes();
  const Kind kind = arguments.kind();
  if (!arguments.good()) return arguments.refuse();
  return addBeside(info, from, kind, [&](uint8_t* key) {
    Arena::Scratch scratch(Arena::instance());
    return Failure(table().with(from, kDerivable, [&](const uint8_t* source) {
      return hkdfSha256(source, salt, label, scratch.data(), key) ? Status::Ok : Status::Internal;
    }));
  });
}

Value wrapKeyCall(const Info& info) {
  Arguments arguments(info);
  const Handle under = arguments.handle();
  const Handle key = arguments.handle();
  const Bytes aad = arguments.bytes();
  if (!arguments.good()) return arguments.refuse();
  uint8_t wrapped[kWrappedBytes];
  const Status status = table().withTwo(under, kWrapping, key, kWrappable, [&](const uint8_t* wrapping, const uint8_t* wrappee) {
    return wrapKey(wrapping, wrappee, aad, wrapped);
  });
  return status == Status::Ok ? bytesValue(info.Env(), wrapped, sizeof wrapped) : fail(info, status);
}

Value unwrapKeyCall(const Info& info) {
  Arguments arguments(info);
  const Handle under = arguments.handle();
  const Bytes wrapped = arguments.bytes();
  const Bytes aad = arguments.bytes();
  const Kind kind = arguments.kind();
  if (!arguments.good()) return arguments.refuse();
  return addBeside(info, under, kind, [&](uint8_t* key) {
    return Failure(table().with(under, kWrapping, [&](const uint8_t* wrapping) { return unwrapKey(wrapping, wrapped, aad, key); }));
  });
}

Status macOf(Handle key, Bytes data, uint8_t mac[kMacBytes]) {
  return table().with(key, kMac, [&](const uint8_t* secret) { return hmacSha256(secret, data, mac) ? Status::Ok : Status::Internal; });
}

Value hmac(const Info& info) {
  Arguments arguments(info);
  const Handle key = arguments.handle();
  const Bytes data = arguments.bytes();
  if (!arguments.good()) return arguments.refuse();
  uint8_t mac[kMacBytes];
  const Status status = macOf(key, data, mac);
  return status == Status::Ok ? bytesValue(info.Env(), mac, sizeof mac) : fail(info, status);
}

Value verifyHmac(const Info& info) {
  Arguments arguments(info);
  const Handle key = arguments.handle();
  const Bytes data = arguments.bytes();
  const Bytes expected = arguments.bytes();
  if (!arguments.good()) return arguments.refuse();
  uint8_t mac[kMacBytes];
  const Status status = macOf(key, data, mac);
  if (status != Status::Ok) return fail(info, status);
  return Napi::Boolean::New(info.Env(), expected.length == kMacBytes && CRYPTO_memcmp(mac, expected.data, kMacBytes) == 0);
}

Value sameKey(const Info& info) {
  Arguments arguments(info);
  const Handle a = arguments.handle();
  const Handle b = arguments.handle();
  if (!arguments.good()) return arguments.refuse();
  bool same = false;
  const Status status = table().withTwo(a, kAny, b, kAny, [&](const uint8_t* first, const uint8_t* second) {
    same = CRYPTO_memcmp(first, second, kKeyBytes) == 0;
    return Status::Ok;
  });
  return status == Status::Ok ? Napi::Boolean::New(info.Env(), same) : fail(info, status);
}

Value releaseKey(const Info& info) {
  Arguments arguments(info);
  const Handle key = arguments.handle();
  if (!arguments.good()) return arguments.refuse();
  table().release(key);
  return info.Env().Undefined();
}

// ---- Cached DEKs

Value publishKey(const Info& info) {
  Arguments arguments(info);
  const SpaceId space = arguments.uint32();
  const Handle dek = arguments.handle();
  const std::string id = arguments.text();
  const uint32_t kekVersion = arguments.uint32();
  const uint64_t uses = arguments.uint64();
  if (!arguments.good() || !isKeyId(id)) return arguments.refuse();
  Handle serving;
  const Failure failure = table().publish(space, dek, id, kekVersion, uses, &serving);
  return failure.ok() ? handleValue(info, serving) : fail(info, failure);
}

Value findKey(const Info& info) {
  Arguments arguments(info);
  const SpaceId space = arguments.uint32();
  const std::string id = arguments.text();
  if (!arguments.good()) return arguments.refuse();
  return handleValue(info, table().find(space, id));
}

Value kekVersionOf(const Info& info) {
  Arguments arguments(info);
  const Handle dek = arguments.handle();
  if (!arguments.good()) return arguments.refuse();
  return Napi::Number::New(info.Env(), table().kekVersionOf(dek));
}

Value retireKey(const Info& info) {
  Arguments arguments(info);
  const SpaceId space = arguments.uint32();
  const std::string id = arguments.text();
  const std::string how = arguments.text();
  if (!arguments.good() || !isKeyId(id) || (how != "evicted" && how != "disabled" && how != "destroyed")) return arguments.refuse();
  table().retire(space, id, how == "evicted" ? Retire::Evicted : how == "disabled" ? Retire::Disabled : Retire::Destroyed);
  return info.Env().Undefined();
}

Value grantUses(const Info& info) {
  Arguments arguments(info);
  const SpaceId space = arguments.uint32();
  const std::string id = arguments.text();
  const uint64_t uses = arguments.uint64();
  if (!arguments.good()) return arguments.refuse();
  table().grantUses(space, id, uses);
  return info.Env().Undefined();
}

Value takeUseRequests(const Info& info) {
  Arguments arguments(info);
  const SpaceId space = arguments.uint32();
  if (!arguments.good()) return arguments.refuse();
  Napi::Array result = Napi::Array::New(info.Env());
  for (const std::string& id : table().takeUseRequests(space)) result[result.Length()] = Napi::String::New(info.Env(), id);
  return result;
}

Value takeUnusedUses(const Info& info) {
  Arguments arguments(info);
  const SpaceId space = arguments.uint32();
  if (!arguments.good()) return arguments.refuse();
  Napi::Array result = Napi::Array::New(info.Env());
  for (const auto& [id, uses] : table().takeUnusedUses(space)) {
    Napi::Array pair = Napi::Array::New(info.Env(), 2);
    pair[0u] = Napi::String::New(info.Env(), id);
    pair[1u] = Napi::Number::New(info.Env(), static_cast<double>(uses));
    result[result.Length()] = pair;
  }
  return result;
}

Value cachedKeys(const Info& info) {
  Arguments arguments(info);
  const SpaceId space = arguments.uint32();
  if (!arguments.good()) return arguments.refuse();
  return Napi::Number::New(info.Env(), table().cachedKeys(space));
}

Value sweep(const Info& info) {
  Arguments arguments(info);
  const uint32_t contextSweeps = arguments.uint32();
  const uint32_t keySweeps = arguments.uint32();
  if (!arguments.good()) return arguments.refuse();
  table().sweep(contextSweeps, keySweeps);
  return info.Env().Undefined();
}

Value wipeCall(const Info& info) {
  Arguments arguments(info);
  const Bytes secret = arguments.bytes();
  if (!arguments.good()) return arguments.refuse();
  wipe(const_cast<uint8_t*>(secret.data), secret.length);
  return info.Env().Undefined();
}

// ---- Documents

Value parseRecord(const Info& info) {
  Arguments arguments(info);
  const Bytes json = arguments.bytes();
  if (!arguments.good()) return arguments.refuse();
  Record record;
  if (const Failure failure = readRecord(json.data, json.length, &record); !failure.ok()) return fail(info, failure);
  const Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  result["format"] = Napi::Number::New(env, static_cast<double>(record.format));
  result["storeId"] = Napi::String::New(env, record.storeId);
  result["keyId"] = Napi::String::New(env, record.keyId);
  result["threadId"] = Napi::String::New(env, record.threadId);
  result["alg"] = Napi::String::New(env, record.alg);
  result["state"] = Napi::String::New(env, record.state);
  result["version"] = Napi::Number::New(env, static_cast<double>(record.version));
  result["wrapped"] = bytesValue(env, record.wrapped);
  result["kekId"] = Napi::String::New(env, record.kekId);
  result["kekVersion"] = Napi::Number::New(env, static_cast<double>(record.kekVersion));
  result["usesReserved"] = Napi::Number::New(env, static_cast<double>(record.usesReserved));
  result["createdAt"] = Napi::String::New(env, record.createdAt);
  result["updatedAt"] = Napi::String::New(env, record.updatedAt);
  result["createdBy"] = Napi::String::New(env, record.createdBy);
  result["mac"] = bytesValue(env, record.mac);
  return result;
}

Napi::Object slotObject(Napi::Env env, const KeyringSlot& slot) {
  Napi::Object result = Napi::Object::New(env);
  result["slotId"] = Napi::String::New(env, slot.slotId);
  result["salt"] = bytesValue(env, slot.salt);
  result["root"] = bytesValue(env, slot.root);
  result["slotKey"] = bytesValue(env, slot.slotKey);
  result["createdAt"] = Napi::String::New(env, slot.createdAt);
  return result;
}

Napi::Object kekObject(Napi::Env env, const KeyringKek& kek) {
  Napi::Object result = Napi::Object::New(env);
  result["kekId"] = Napi::String::New(env, kek.kekId);
  result["kekVersion"] = Napi::Number::New(env, static_cast<double>(kek.kekVersion));
  result["state"] = Napi::String::New(env, kek.state);
  result["wrapped"] = bytesValue(env, kek.wrapped);
  result["wrapsReserved"] = Napi::Number::New(env, static_cast<double>(kek.wrapsReserved));
  result["createdAt"] = Napi::String::New(env, kek.createdAt);
  return result;
}

Value parseKeyring(const Info& info) {
  Arguments arguments(info);
  const Bytes json = arguments.bytes();
  if (!arguments.good()) return arguments.refuse();
  Keyring keyring;
  if (const Failure failure = readKeyring(json.data, json.length, &keyring); !failure.ok()) return fail(info, failure);
  const Napi::Env env = info.Env();
  Napi::Object result = Napi::Object::New(env);
  Napi::Array slots = Napi::Array::New(env, keyring.slots.size()), keks = Napi::Array::New(env, keyring.keks.size());
  for (uint32_t i = 0; i < keyring.slots.size(); ++i) slots[i] = slotObject(env, keyring.slots[i]);
  for (uint32_t i = 0; i < keyring.keks.size(); ++i) keks[i] = kekObject(env, keyring.keks[i]);
  result["format"] = Napi::Number::New(env, static_cast<double>(keyring.format));
  result["storeId"] = Napi::String::New(env, keyring.storeId);
  result["generation"] = Napi::Number::New(env, static_cast<double>(keyring.generation));
  result["slots"] = slots;
  result["keks"] = keks;
  result["defaultKeyId"] = Napi::String::New(env, keyring.defaultKeyId);
  result["sha256"] = bytesValue(env, keyring.sha256);
  result["mac"] = bytesValue(env, keyring.mac);
  return result;
}

// ---- Loading

// (errorClass, doorbell): the first call on each thread.
Value bind(const Info& info) {
  const Napi::Env env = info.Env();
  Environment& environment = environmentOf(info);
  if (info.Length() != 2 || !info[0].IsFunction() || !info[1].IsTypedArray() ||
      info[1].As<Napi::TypedArray>().TypedArrayType() != napi_int32_array) {
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
      {"bind", bind}, {"initialise", initialise}, {"arenaInfo", arenaInfo}, {"hardenProcess", harden},
      {"lockDirectory", lockDirectoryCall}, {"unlockDirectory", unlockDirectoryCall}, {"peerOf", peerOfCall}, {"closeFd", closeFd},
      {"openSpace", openSpace}, {"closeSpace", closeSpace}, {"generateKey", generateKey}, {"readKeyFile", readKeyFileCall},
      {"readKeyDescriptor", readKeyDescriptorCall}, {"writeKeyFile", writeKeyFileCall}, {"importKey", importKey},
      {"exportKey", exportKey}, {"deriveKey", deriveKey}, {"wrapKey", wrapKeyCall}, {"unwrapKey", unwrapKeyCall}, {"hmac", hmac},
      {"verifyHmac", verifyHmac}, {"sameKey", sameKey}, {"releaseKey", releaseKey}, {"publishKey", publishKey}, {"findKey", findKey},
      {"kekVersionOf", kekVersionOf}, {"retireKey", retireKey}, {"grantUses", grantUses}, {"takeUseRequests", takeUseRequests},
      {"takeUnusedUses", takeUnusedUses}, {"cachedKeys", cachedKeys}, {"sweep", sweep}, {"wipe", wipeCall},
      {"parseRecord", parseRecord}, {"parseKeyring", parseKeyring},
  };
  for (const auto& [name, call] : calls) exports.Set(name, Napi::Function::New(env, call, name));
  defineHotCalls(env, exports, environment);
  definePoolCalls(env, exports, environment);
  defineAcceptor(env, exports, environment);
  return exports;
}

}  // namespace

}  // namespace kms

static Napi::Object loadAddon(Napi::Env env, Napi::Object exports) { return kms::load(env, exports); }
NODE_API_MODULE(progressdb_kms, loadAddon)

// The floors of the embedded figures: AES-256-GCM with the very OpenSSL of the running node, as a C++ loop inside one call.
// Nothing of a key service is in them: one kept context, nonces from a batch, one reused output buffer.
#include <dlfcn.h>
#include <node_api.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <sys/random.h>
#include <time.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr size_t kNonce = 12, kTag = 16, kBatch = 21;  // 252 bytes: getrandom gives up to 256 in one piece.

class Nonces {
 public:
  const uint8_t* next() {
    if (at_ == sizeof batch_) {
      if (getrandom(batch_, sizeof batch_, 0) != static_cast<ssize_t>(sizeof batch_)) return nullptr;
      at_ = 0;
    }
    at_ += kNonce;
    return batch_ + at_ - kNonce;
  }

 private:
  uint8_t batch_[kBatch * kNonce];
  size_t at_ = sizeof batch_;
};

// What the loops work on: `sealed` is nonce ‖ ciphertext ‖ tag, under the key that the context keeps.
struct Ground {
  EVP_CIPHER_CTX* context;
  std::vector<uint8_t> aad, plaintext, sealed;
  Nonces nonces;

  Ground(size_t length, size_t aad_length)
      : context(EVP_CIPHER_CTX_new()), aad(aad_length, 0x61), plaintext(length, 0x5a), sealed(kNonce + length + kTag) {}
  ~Ground() { EVP_CIPHER_CTX_free(context); }
  Ground(const Ground&) = delete;
  Ground& operator=(const Ground&) = delete;

  bool set_key() {
    uint8_t key[32];
    return context != nullptr && getrandom(key, sizeof key, 0) == static_cast<ssize_t>(sizeof key) &&
           EVP_CipherInit_ex(context, EVP_aes_256_gcm(), nullptr, key, nullptr, 1) == 1;
  }
};

bool update(EVP_CIPHER_CTX* context, uint8_t* out, const uint8_t* in, size_t length) {
  int n = 0;
  return EVP_CipherUpdate(context, out, &n, in, static_cast<int>(length)) == 1;
}

bool finish(EVP_CIPHER_CTX* context, uint8_t* end) {
  int n = 0;
  return EVP_CipherFinal_ex(context, end, &n) == 1;
}

// Parameters instead of EVP_CIPHER_CTX_ctrl, which only translates into them.
struct Tag {
  OSSL_PARAM params[2];
  explicit Tag(uint8_t* tag)
      : params{OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, tag, kTag), OSSL_PARAM_construct_end()} {}
};

bool seal(Ground& g) {
  const uint8_t* nonce = g.nonces.next();
  if (nonce == nullptr) return false;
  const size_t length = g.plaintext.size();
  uint8_t* const out = g.sealed.data();
  std::memcpy(out, nonce, kNonce);
  if (EVP_CipherInit_ex(g.context, nullptr, nullptr, nullptr, nonce, 1) != 1) return false;
  Tag tag(out + kNonce + length);
  return update(g.context, nullptr, g.aad.data(), g.aad.size()) && update(g.context, out + kNonce, g.plaintext.data(), length) &&
         finish(g.context, out + kNonce + length) && EVP_CIPHER_CTX_get_params(g.context, tag.params) == 1;
}

bool open(Ground& g) {
  const size_t length = g.plaintext.size();
  uint8_t* const in = g.sealed.data();
  if (EVP_CipherInit_ex(g.context, nullptr, nullptr, nullptr, in, 0) != 1) return false;
  Tag tag(in + kNonce + length);
  return EVP_CIPHER_CTX_set_params(g.context, tag.params) == 1 && update(g.context, nullptr, g.aad.data(), g.aad.size()) &&
         update(g.context, g.plaintext.data(), in + kNonce, length) && finish(g.context, g.plaintext.data() + length);
}

double now(clockid_t clock) {
  timespec t{};
  clock_gettime(clock, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

double measure(bool (*step)(Ground&), Ground& g, uint32_t operations) {
  const double start = now(CLOCK_THREAD_CPUTIME_ID);
  for (uint32_t i = 0; i < operations; i++) {
    if (!step(g)) return -1;
  }
  return (now(CLOCK_THREAD_CPUTIME_ID) - start) / operations;
}

// One Ground per call: its memory is touched, and what was sealed opens, before the time runs.
double floor_of(bool opens, uint32_t length, uint32_t aad_length, uint32_t operations) {
  Ground g(length, aad_length);
  if (!g.set_key() || !seal(g) || !open(g)) return -1;
  if (g.plaintext.front() != 0x5a || g.plaintext.back() != 0x5a) return -1;
  return measure(opens ? open : seal, g, operations);
}

// floor(opens, plaintextBytes, aadBytes, operations) → nanoseconds of CPU time per operation
napi_value floor_call(napi_env env, napi_callback_info info) {
  napi_value arguments[4], result = nullptr;
  size_t count = 4;
  bool opens = false;
  uint32_t length = 0, aad_length = 0, operations = 0;
  if (napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr) != napi_ok || count != 4 ||
      napi_get_value_bool(env, arguments[0], &opens) != napi_ok ||
      napi_get_value_uint32(env, arguments[1], &length) != napi_ok ||
      napi_get_value_uint32(env, arguments[2], &aad_length) != napi_ok ||
      napi_get_value_uint32(env, arguments[3], &operations) != napi_ok || operations == 0 || length == 0 || length > 1u << 24 ||
      aad_length == 0 || aad_length > 1u << 16) {
    napi_throw_type_error(env, nullptr, "floor(opens, plaintextBytes, aadBytes, operations)");
    return nullptr;
  }
  const double nanoseconds = floor_of(opens, length, aad_length, operations);
  if (nanoseconds < 0) {
    napi_throw_error(env, nullptr, "OpenSSL or the random generator failed");
    return nullptr;
  }
  napi_create_double(env, nanoseconds, &result);
  return result;
}

// threadClock() → nanoseconds of CPU time of this thread, processClock() → of all threads
template <clockid_t clock>
napi_value clock_call(napi_env env, napi_callback_info) {
  napi_value result = nullptr;
  napi_create_double(env, now(clock), &result);
  return result;
}

// openssl() → [version it was compiled for, version that it calls, file that one is in]
napi_value openssl_call(napi_env env, napi_callback_info) {
  Dl_info found{};
  const bool is_found = dladdr(reinterpret_cast<void*>(&EVP_CipherUpdate), &found) != 0;
  const char* const texts[] = {OPENSSL_VERSION_STR, OpenSSL_version(OPENSSL_VERSION_STRING), is_found ? found.dli_fname : ""};
  napi_value result = nullptr;
  napi_create_array_with_length(env, 3, &result);
  for (uint32_t i = 0; i < 3; i++) {
    napi_value text = nullptr;
    napi_create_string_utf8(env, texts[i], NAPI_AUTO_LENGTH, &text);
    napi_set_element(env, result, i, text);
  }
  return result;
}

bool define(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value call = nullptr;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &call) == napi_ok &&
         napi_set_named_property(env, exports, name, call) == napi_ok;
}

}  // namespace

NAPI_MODULE_INIT() {
  return define(env, exports, "floor", floor_call) && define(env, exports, "threadClock", clock_call<CLOCK_THREAD_CPUTIME_ID>) &&
                 define(env, exports, "processClock", clock_call<CLOCK_PROCESS_CPUTIME_ID>) &&
                 define(env, exports, "openssl", openssl_call)
             ? exports
             : nullptr;
}

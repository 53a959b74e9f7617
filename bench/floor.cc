// The floor of the embedded figures: AES-256-GCM with the very OpenSSL of the running node, as a C++ loop inside one call.
// Nothing of a key service is in it: one kept context, nonces from a batch, 32 bytes of AAD, one reused output buffer.
#include <node_api.h>
#include <openssl/evp.h>
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

// nonce ‖ ciphertext ‖ tag at `out`, under the key that the context keeps.
bool seal(EVP_CIPHER_CTX* context, const uint8_t* nonce, const uint8_t* plaintext, int length, const uint8_t* aad, int aad_length,
          uint8_t* out) {
  int n = 0;
  std::memcpy(out, nonce, kNonce);
  return EVP_EncryptInit_ex(context, nullptr, nullptr, nullptr, nonce) == 1 &&
         EVP_EncryptUpdate(context, nullptr, &n, aad, aad_length) == 1 &&
         EVP_EncryptUpdate(context, out + kNonce, &n, plaintext, length) == 1 &&
         EVP_EncryptFinal_ex(context, out + kNonce + n, &n) == 1 &&
         EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_GCM_GET_TAG, kTag, out + kNonce + length) == 1;
}

// The calling thread's own CPU time, in nanoseconds: what other work on a shared machine takes does not count.
double thread_clock() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

double measure(uint32_t length, uint32_t aad_length, uint32_t operations) {
  std::vector<uint8_t> plaintext(length, 0x5a), aad(aad_length, 0x61), out(kNonce + length + kTag);
  uint8_t key[32];
  if (getrandom(key, sizeof key, 0) != static_cast<ssize_t>(sizeof key)) return -1;
  EVP_CIPHER_CTX* context = EVP_CIPHER_CTX_new();
  bool ok = context != nullptr && EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), nullptr, key, nullptr) == 1;
  Nonces nonces;
  const double start = thread_clock();
  for (uint32_t i = 0; ok && i < operations; i++) {
    const uint8_t* nonce = nonces.next();
    ok = nonce != nullptr && seal(context, nonce, plaintext.data(), static_cast<int>(length), aad.data(),
                                  static_cast<int>(aad_length), out.data());
  }
  const double took = thread_clock() - start;
  EVP_CIPHER_CTX_free(context);
  return ok ? took / operations : -1;
}

// floor(plaintextBytes, aadBytes, operations) → nanoseconds of CPU time per operation
napi_value floor_call(napi_env env, napi_callback_info info) {
  napi_value arguments[3], result = nullptr;
  size_t count = 3;
  uint32_t length = 0, aad_length = 0, operations = 0;
  if (napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr) != napi_ok || count != 3 ||
      napi_get_value_uint32(env, arguments[0], &length) != napi_ok ||
      napi_get_value_uint32(env, arguments[1], &aad_length) != napi_ok ||
      napi_get_value_uint32(env, arguments[2], &operations) != napi_ok || operations == 0 || length > 1u << 24 ||
      aad_length > 1u << 16) {
    napi_throw_type_error(env, nullptr, "floor(plaintextBytes, aadBytes, operations)");
    return nullptr;
  }
  const double nanoseconds = measure(length, aad_length, operations);
  if (nanoseconds < 0) {
    napi_throw_error(env, nullptr, "OpenSSL or the random generator failed");
    return nullptr;
  }
  napi_create_double(env, nanoseconds, &result);
  return result;
}

// threadClock() → nanoseconds of CPU time of this thread
napi_value clock_call(napi_env env, napi_callback_info) {
  napi_value result = nullptr;
  napi_create_double(env, thread_clock(), &result);
  return result;
}

bool define(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value call = nullptr;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &call) == napi_ok &&
         napi_set_named_property(env, exports, name, call) == napi_ok;
}

}  // namespace

NAPI_MODULE_INIT() {
  return define(env, exports, "floor", floor_call) && define(env, exports, "threadClock", clock_call) ? exports : nullptr;
}

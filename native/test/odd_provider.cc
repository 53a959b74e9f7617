#include <openssl/core.h>
#include <openssl/core_dispatch.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <string.h>

#include <vector>

#include "check.h"
#include "core/cipher.h"

using namespace kms;

// A provider of AES-256-GCM that does what OpenSSL's own does, but for one thing.

namespace {

enum class Fault { None, AnyTag, OneNonce, OneKey, SulksAfterRefusal, NoAad, NotInPlace, HoldsBack, NoTag };

Fault fault = Fault::None;

struct {
  void* provider = nullptr;
  OSSL_FUNC_cipher_newctx_fn* newContext = nullptr;
  OSSL_FUNC_cipher_freectx_fn* freeContext = nullptr;
  OSSL_FUNC_cipher_encrypt_init_fn* beginSeal = nullptr;
  OSSL_FUNC_cipher_decrypt_init_fn* beginOpen = nullptr;
  OSSL_FUNC_cipher_update_fn* update = nullptr;
  OSSL_FUNC_cipher_final_fn* final = nullptr;
  OSSL_FUNC_cipher_get_ctx_params_fn* get = nullptr;
  OSSL_FUNC_cipher_set_ctx_params_fn* set = nullptr;
  OSSL_FUNC_cipher_get_params_fn* describe = nullptr;
} real;

struct OddContext {
  void* inner = nullptr;
  bool hasKey = false;
  bool hasRefused = false;
  std::vector<uint8_t> nonce;
};

OddContext& odd(void* context) { return *static_cast<OddContext*>(context); }

void* newContext(void*) {
  auto* const made = new OddContext();
  made->inner = real.newContext(real.provider);
  return made;
}

void freeContext(void* context) {
  real.freeContext(odd(context).inner);
  delete &odd(context);
}

int begin(OSSL_FUNC_cipher_encrypt_init_fn* how, void* context, const uint8_t* key, size_t keyLength, const uint8_t* nonce,
          size_t nonceLength, const OSSL_PARAM* parameters) {
  OddContext& state = odd(context);
  if (fault == Fault::SulksAfterRefusal && state.hasRefused) return 0;
  if (fault == Fault::OneKey && state.hasKey) key = nullptr;
  if (key != nullptr) {
    state.hasKey = true;
    state.nonce.clear();
  }
  if (nonce != nullptr) {
    if (fault != Fault::OneNonce || state.nonce.empty()) state.nonce.assign(nonce, nonce + nonceLength);
    nonce = state.nonce.data();
  }
  return how(state.inner, key, keyLength, nonce, nonceLength, parameters);
}

int beginSeal(void* context, const uint8_t* key, size_t keyLength, const uint8_t* nonce, size_t nonceLength, const OSSL_PARAM parameters[]) {
  return begin(real.beginSeal, context, key, keyLength, nonce, nonceLength, parameters);
}

int beginOpen(void* context, const uint8_t* key, size_t keyLength, const uint8_t* nonce, size_t nonceLength, const OSSL_PARAM parameters[]) {
  return begin(real.beginOpen, context, key, keyLength, nonce, nonceLength, parameters);
}

int update(void* context, uint8_t* out, size_t* written, size_t room, const uint8_t* in, size_t length) {
  if (fault == Fault::NoAad && out == nullptr) return 1;
  if (fault == Fault::NotInPlace && out == in) return 0;
  const int good = real.update(odd(context).inner, out, written, room, in, length);
  if (fault == Fault::HoldsBack && out != nullptr) *written = length - length % 32;
  return good;
}

int final(void* context, uint8_t* out, size_t* written, size_t room) {
  const int good = real.final(odd(context).inner, out, written, room);
  if (good != 1) odd(context).hasRefused = true;
  return fault == Fault::AnyTag ? 1 : good;
}

int get(void* context, OSSL_PARAM parameters[]) { return fault == Fault::NoTag ? 1 : real.get(odd(context).inner, parameters); }
int set(void* context, const OSSL_PARAM parameters[]) { return real.set(odd(context).inner, parameters); }

#define ENTRY(id, function) {id, reinterpret_cast<void (*)(void)>(function)}

const OSSL_ALGORITHM* algorithms(void*, int operation, int* noCache) {
  static const OSSL_DISPATCH dispatch[] = {
      ENTRY(OSSL_FUNC_CIPHER_NEWCTX, newContext),     ENTRY(OSSL_FUNC_CIPHER_FREECTX, freeContext),
      ENTRY(OSSL_FUNC_CIPHER_ENCRYPT_INIT, beginSeal), ENTRY(OSSL_FUNC_CIPHER_DECRYPT_INIT, beginOpen),
      ENTRY(OSSL_FUNC_CIPHER_UPDATE, update),          ENTRY(OSSL_FUNC_CIPHER_FINAL, final),
      ENTRY(OSSL_FUNC_CIPHER_GET_CTX_PARAMS, get),     ENTRY(OSSL_FUNC_CIPHER_SET_CTX_PARAMS, set),
      ENTRY(OSSL_FUNC_CIPHER_GET_PARAMS, real.describe), {0, nullptr}};
  static const OSSL_ALGORITHM all[] = {{"AES-256-GCM", "", dispatch, nullptr}, {nullptr, nullptr, nullptr, nullptr}};
  *noCache = 0;
  return operation == OSSL_OP_CIPHER ? all : nullptr;
}

int initialise(const OSSL_CORE_HANDLE*, const OSSL_DISPATCH*, const OSSL_DISPATCH** out, void** context) {
  static const OSSL_DISPATCH provider[] = {ENTRY(OSSL_FUNC_PROVIDER_QUERY_OPERATION, algorithms), {0, nullptr}};
  *out = provider;
  *context = &real;
  return 1;
}

// OpenSSL's own, of a library context that nothing else looks into.
bool findReal() {
  OSSL_LIB_CTX* const apart = OSSL_LIB_CTX_new();
  OSSL_PROVIDER* const own = OSSL_PROVIDER_load(apart, "default");
  if (own == nullptr) return false;
  real.provider = OSSL_PROVIDER_get0_provider_ctx(own);
  int noCache = 0;
  const OSSL_ALGORITHM* one = OSSL_PROVIDER_query_operation(own, OSSL_OP_CIPHER, &noCache);
  while (one != nullptr && one->algorithm_names != nullptr && strncmp(one->algorithm_names, "AES-256-GCM:", 12) != 0) ++one;
  if (one == nullptr || one->algorithm_names == nullptr) return false;
  for (const OSSL_DISPATCH* at = one->implementation; at->function_id != 0; ++at) {
    switch (at->function_id) {
      case OSSL_FUNC_CIPHER_NEWCTX: real.newContext = OSSL_FUNC_cipher_newctx(at); break;
      case OSSL_FUNC_CIPHER_FREECTX: real.freeContext = OSSL_FUNC_cipher_freectx(at); break;
      case OSSL_FUNC_CIPHER_ENCRYPT_INIT: real.beginSeal = OSSL_FUNC_cipher_encrypt_init(at); break;
      case OSSL_FUNC_CIPHER_DECRYPT_INIT: real.beginOpen = OSSL_FUNC_cipher_decrypt_init(at); break;
      case OSSL_FUNC_CIPHER_UPDATE: real.update = OSSL_FUNC_cipher_update(at); break;
      case OSSL_FUNC_CIPHER_FINAL: real.final = OSSL_FUNC_cipher_final(at); break;
      case OSSL_FUNC_CIPHER_GET_CTX_PARAMS: real.get = OSSL_FUNC_cipher_get_ctx_params(at); break;
      case OSSL_FUNC_CIPHER_SET_CTX_PARAMS: real.set = OSSL_FUNC_cipher_set_ctx_params(at); break;
      case OSSL_FUNC_CIPHER_GET_PARAMS: real.describe = OSSL_FUNC_cipher_get_params(at); break;
      default: break;
    }
  }
  return true;
}

// In a process of its own, which has no other provider.
int selfTestWith(Fault one) {
  return check::inChild([one] {
    fault = one;
    if (!findReal() || OSSL_PROVIDER_add_builtin(nullptr, "odd", initialise) != 1) return 100;
    if (OSSL_PROVIDER_load(nullptr, "odd") == nullptr) return 101;
    return static_cast<int>(selfTest().status);
  });
}

}  // namespace

TEST("a provider that does as OpenSSL's own does is taken") { CHECK_EQUAL(selfTestWith(Fault::None), static_cast<int>(Status::Ok)); }

TEST("a provider that is not strict about tags, nonces, keys or AAD is refused at the start") {
  for (const Fault one : {Fault::AnyTag, Fault::OneNonce, Fault::OneKey, Fault::NoAad, Fault::NoTag}) {
    CHECK_EQUAL(selfTestWith(one), static_cast<int>(Status::Internal));
  }
}

TEST("a provider that cannot go on after a refusal, work in place or give all that it was given is refused at the start") {
  for (const Fault one : {Fault::SulksAfterRefusal, Fault::NotInPlace, Fault::HoldsBack}) {
    CHECK_EQUAL(selfTestWith(one), static_cast<int>(Status::Internal));
  }
}

MAIN

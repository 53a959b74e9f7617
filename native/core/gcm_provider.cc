#include "core/gcm_provider.h"

#include <openssl/core.h>
#include <openssl/evp.h>
#include <openssl/provider.h>
#include <strings.h>

#include <cstring>

namespace kms {

namespace {

constexpr char kName[] = "AES-256-GCM";

// `names` are separated by colons; their case does not count.
bool isNamed(const char* names, const char* name) {
  const size_t length = strlen(name);
  for (const char* at = names; at != nullptr; at = strchr(at, ':')) {
    at += *at == ':' ? 1 : 0;
    if (strncasecmp(at, name, length) == 0 && (at[length] == ':' || at[length] == '\0')) return true;
  }
  return false;
}

}  // namespace

bool GcmProvider::complete() const {
  return newContext != nullptr && freeContext != nullptr && beginSeal != nullptr && beginOpen != nullptr && update != nullptr &&
         final != nullptr && get != nullptr && set != nullptr;
}

void GcmProvider::take(const OSSL_DISPATCH* implementation) {
  for (const OSSL_DISPATCH* at = implementation; at->function_id != 0; ++at) {
    switch (at->function_id) {
      case OSSL_FUNC_CIPHER_NEWCTX: newContext = OSSL_FUNC_cipher_newctx(at); break;
      case OSSL_FUNC_CIPHER_FREECTX: freeContext = OSSL_FUNC_cipher_freectx(at); break;
      case OSSL_FUNC_CIPHER_ENCRYPT_INIT: beginSeal = OSSL_FUNC_cipher_encrypt_init(at); break;
      case OSSL_FUNC_CIPHER_DECRYPT_INIT: beginOpen = OSSL_FUNC_cipher_decrypt_init(at); break;
      case OSSL_FUNC_CIPHER_UPDATE: update = OSSL_FUNC_cipher_update(at); break;
      case OSSL_FUNC_CIPHER_FINAL: final = OSSL_FUNC_cipher_final(at); break;
      case OSSL_FUNC_CIPHER_GET_CTX_PARAMS: get = OSSL_FUNC_cipher_get_ctx_params(at); break;
      case OSSL_FUNC_CIPHER_SET_CTX_PARAMS: set = OSSL_FUNC_cipher_set_ctx_params(at); break;
      default: break;
    }
  }
}

const GcmProvider& GcmProvider::instance() {
  static const GcmProvider found = [] {
    GcmProvider gcm;
    // Never freed: it keeps the provider, whose functions these are, loaded.
    static const EVP_CIPHER* const fetched = EVP_CIPHER_fetch(nullptr, kName, nullptr);
    if (fetched == nullptr) return gcm;
    const OSSL_PROVIDER* const provider = EVP_CIPHER_get0_provider(fetched);
    int uncached = 0;
    const OSSL_ALGORITHM* const all = OSSL_PROVIDER_query_operation(provider, OSSL_OP_CIPHER, &uncached);
    for (const OSSL_ALGORITHM* one = all; one != nullptr && one->algorithm_names != nullptr; ++one) {
      if (!isNamed(one->algorithm_names, kName)) continue;
      gcm.context = OSSL_PROVIDER_get0_provider_ctx(provider);
      gcm.take(one->implementation);
      break;
    }
    OSSL_PROVIDER_unquery_operation(provider, OSSL_OP_CIPHER, all);
    return gcm;
  }();
  return found;
}

}  // namespace kms

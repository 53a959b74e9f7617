#include "core/certificate.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#include <time.h>


namespace kms {
namespace {

constexpr const char* kUnreadable = "unreadable certificate";
constexpr const char* kNoMemory = "out of memory";

template <typename T, void (*kFree)(T*)>
struct Free {
  void operator()(T* object) const { kFree(object); }
};

void freeAll(STACK_OF(X509) * list) { sk_X509_pop_free(list, X509_free); }
void freeBio(BIO* bio) { BIO_free(bio); }

using Certificate = std::unique_ptr<X509, Free<X509, X509_free>>;
using Certificates = std::unique_ptr<STACK_OF(X509), Free<STACK_OF(X509), freeAll>>;
using RevocationList = std::unique_ptr<X509_CRL, Free<X509_CRL, X509_CRL_free>>;
using Store = std::unique_ptr<X509_STORE, Free<X509_STORE, X509_STORE_free>>;
using Context = std::unique_ptr<X509_STORE_CTX, Free<X509_STORE_CTX, X509_STORE_CTX_free>>;
using Bio = std::unique_ptr<BIO, Free<BIO, freeBio>>;

// Without one of ours OpenSSL would ask at the terminal for what opens an encrypted block.
int noPassphrase(char*, int, int, void*) { return -1; }

Certificate parse(const Bytes& der) {
  const uint8_t* at = der.data;
  Certificate certificate(d2i_X509(nullptr, &at, static_cast<long>(der.length)));
  return at == der.data + der.length ? std::move(certificate) : nullptr;
}

// After the last object PEM readers say "no start line"; anything else is text that began as one and is broken.
bool atEnd() {
  const unsigned long error = ERR_peek_last_error();
  ERR_clear_error();
  return ERR_GET_LIB(error) == ERR_LIB_PEM && ERR_GET_REASON(error) == PEM_R_NO_START_LINE;
}

bool addAuthorities(X509_STORE* store, const Bytes& pem) {
  const Bio bio(BIO_new_mem_buf(pem.data, static_cast<int>(pem.length)));
  int count = 0;
  while (const Certificate one{PEM_read_bio_X509(bio.get(), nullptr, noPassphrase, nullptr)}) {
    if (X509_STORE_add_cert(store, one.get()) != 1) return false;
    ++count;
  }
  return atEnd() && count > 0;
}

bool isDelta(const X509_CRL* list) { return X509_CRL_get_ext_by_NID(list, NID_delta_crl, -1) >= 0; }

bool addRevocationLists(X509_STORE* store, const Bytes& pem) {
  if (pem.length == 0) return true;
  const Bio bio(BIO_new_mem_buf(pem.data, static_cast<int>(pem.length)));
  int count = 0;
  while (const RevocationList one{PEM_read_bio_X509_CRL(bio.get(), nullptr, noPassphrase, nullptr)}) {
    // OpenSSL would take it for a whole list, the newest there is, and pass whoever was revoked before.
    if (isDelta(one.get())) return false;
    if (X509_STORE_add_crl(store, one.get()) != 1) return false;
    ++count;
  }
  X509_STORE_set_flags(store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
  return atEnd() && count > 0;
}

}  // namespace

Trust::~Trust() { X509_STORE_free(store_); }

std::unique_ptr<Trust> Trust::open(Bytes authorities, Bytes revoked) {
  ERR_clear_error();
  Store store(X509_STORE_new());
  if (store == nullptr || !addAuthorities(store.get(), authorities) || !addRevocationLists(store.get(), revoked)) return nullptr;
  return std::unique_ptr<Trust>(new Trust(store.release()));
}

std::string Trust::whyNot(const std::vector<Bytes>& chain) const {
  ERR_clear_error();
  const Certificates intermediates(sk_X509_new_null());
  const Context context(X509_STORE_CTX_new());
  if (intermediates == nullptr || context == nullptr) return kNoMemory;
  const Certificate leaf = chain.empty() ? nullptr : parse(chain[0]);
  if (leaf == nullptr) return kUnreadable;
  for (size_t i = 1; i < chain.size(); ++i) {
    Certificate one = parse(chain[i]);
    if (one == nullptr || sk_X509_push(intermediates.get(), one.get()) == 0) return kUnreadable;
    static_cast<void>(one.release());
  }
  if (X509_STORE_CTX_init(context.get(), store_, leaf.get(), intermediates.get()) != 1) return kNoMemory;
  X509_STORE_CTX_set_default(context.get(), "ssl_client");
  if (X509_verify_cert(context.get()) == 1) return "";
  return X509_verify_cert_error_string(X509_STORE_CTX_get_error(context.get()));
}

bool holdsDelta(Bytes revoked) {
  const Bio bio(BIO_new_mem_buf(revoked.data, static_cast<int>(revoked.length)));
  bool found = false;
  while (const RevocationList one{PEM_read_bio_X509_CRL(bio.get(), nullptr, noPassphrase, nullptr)}) found = found || isDelta(one.get());
  ERR_clear_error();
  return found;
}

int64_t firstNextUpdate(Bytes revoked) {
  const Bio bio(BIO_new_mem_buf(revoked.data, static_cast<int>(revoked.length)));
  int64_t first = -1;
  while (const RevocationList one{PEM_read_bio_X509_CRL(bio.get(), nullptr, noPassphrase, nullptr)}) {
    tm parts{};
    const ASN1_TIME* const time = X509_CRL_get0_nextUpdate(one.get());
    if (time == nullptr || ASN1_TIME_to_tm(time, &parts) != 1) continue;
    const int64_t seconds = timegm(&parts);
    if (first < 0 || seconds < first) first = seconds;
  }
  ERR_clear_error();
  return first;
}

}  // namespace kms

#include "core/certificate.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include <ctime>

#include "test/check.h"

using kms::Bytes;

namespace {

constexpr long kHour = 3600;

// What is made here lives as long as the test.
struct Party {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* certificate = X509_new();

  ~Party() {
    EVP_PKEY_free(key);
    X509_free(certificate);
  }
  Party() = default;
  Party(const Party&) = delete;
  Party& operator=(const Party&) = delete;
};

void nameIt(X509_NAME* name, const char* text) {
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>(text), -1, -1, 0);
}

void extend(X509* certificate, int nid, const char* value) {
  X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, nullptr, nid, value);
  X509_add_ext(certificate, extension, -1);
  X509_EXTENSION_free(extension);
}

void issue(Party* one, const Party& by, const char* name, long serial, long from, long until, const char* usage) {
  X509_set_version(one->certificate, X509_VERSION_3);
  ASN1_INTEGER_set(X509_get_serialNumber(one->certificate), serial);
  nameIt(X509_get_subject_name(one->certificate), name);
  X509_set_issuer_name(one->certificate, X509_get_subject_name(by.certificate));
  X509_gmtime_adj(X509_getm_notBefore(one->certificate), from);
  X509_gmtime_adj(X509_getm_notAfter(one->certificate), until);
  X509_set_pubkey(one->certificate, one->key);
  if (usage == nullptr) {
    extend(one->certificate, NID_basic_constraints, "critical,CA:TRUE");
  } else {
    extend(one->certificate, NID_ext_key_usage, usage);
  }
  X509_sign(one->certificate, by.key, EVP_sha256());
}

std::string textOf(BIO* bio) {
  char* data = nullptr;
  const long length = BIO_get_mem_data(bio, &data);
  std::string text(data, static_cast<size_t>(length));
  BIO_free(bio);
  return text;
}

std::string pem(const X509* certificate) {
  BIO* const bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(bio, certificate);
  return textOf(bio);
}

std::string der(const X509* certificate) {
  BIO* const bio = BIO_new(BIO_s_mem());
  i2d_X509_bio(bio, certificate);
  return textOf(bio);
}

std::string revocations(const Party& by, long revoked, long nextUpdate, long deltaOf = 0) {
  X509_CRL* const list = X509_CRL_new();
  X509_CRL_set_version(list, X509_CRL_VERSION_2);
  X509_CRL_set_issuer_name(list, X509_get_subject_name(by.certificate));
  ASN1_TIME* const time = ASN1_TIME_new();
  X509_CRL_set1_lastUpdate(list, X509_gmtime_adj(time, -2 * kHour));
  X509_CRL_set1_nextUpdate(list, X509_gmtime_adj(time, nextUpdate));
  if (revoked != 0) {
    X509_REVOKED* const entry = X509_REVOKED_new();
    ASN1_INTEGER* const serial = ASN1_INTEGER_new();
    ASN1_INTEGER_set(serial, revoked);
    X509_REVOKED_set_serialNumber(entry, serial);
    X509_REVOKED_set_revocationDate(entry, X509_gmtime_adj(time, -kHour));
    X509_CRL_add0_revoked(list, entry);
    ASN1_INTEGER_free(serial);
  }
  if (deltaOf != 0) {
    ASN1_INTEGER* const base = ASN1_INTEGER_new();
    ASN1_INTEGER_set(base, deltaOf);
    X509_CRL_add1_ext_i2d(list, NID_delta_crl, base, 1, 0);
    ASN1_INTEGER_free(base);
  }
  X509_CRL_sign(list, by.key, EVP_sha256());
  BIO* const bio = BIO_new(BIO_s_mem());
  PEM_write_bio_X509_CRL(bio, list);
  ASN1_TIME_free(time);
  X509_CRL_free(list);
  return textOf(bio);
}

Bytes bytes(const std::string& text) { return Bytes{reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

constexpr const char* kUnreadable = "unreadable certificate";
constexpr const char* kNoTrust = "no trust";

std::string why(const std::vector<std::string>& chain, const std::string& authorities, const std::string& revoked = "") {
  const std::unique_ptr<kms::Trust> trust = kms::Trust::open(bytes(authorities), bytes(revoked));
  if (trust == nullptr) return kNoTrust;
  std::vector<Bytes> all;
  for (const std::string& one : chain) all.push_back(bytes(one));
  return trust->whyNot(all);
}


struct Ground {
  Party root, below, client, byBelow, old, server, other, namesake;

  Ground() {
    issue(&root, root, "root", 1, -2 * kHour, kHour, nullptr);
    issue(&other, other, "other", 1, -2 * kHour, kHour, nullptr);
    issue(&namesake, namesake, "root", 1, -2 * kHour, kHour, nullptr);
    issue(&below, root, "below", 2, -2 * kHour, kHour, nullptr);
    issue(&client, root, "client", 3, -2 * kHour, kHour, "clientAuth");
    issue(&byBelow, below, "client", 4, -2 * kHour, kHour, "clientAuth");
    issue(&old, root, "client", 5, -2 * kHour, -kHour, "clientAuth");
    issue(&server, root, "client", 6, -2 * kHour, kHour, "serverAuth");
  }
};

}  // namespace

TEST("a chain leads to one of the authorities or is not trusted") {
  const Ground ground;
  const std::string root = pem(ground.root.certificate), other = pem(ground.other.certificate);
  const std::string client = der(ground.client.certificate), below = der(ground.below.certificate);
  CHECK_EQUAL(why({client}, root), "");
  CHECK_EQUAL(why({client}, other + root), "");
  CHECK_EQUAL(why({der(ground.byBelow.certificate), below}, root), "");
  CHECK_EQUAL(why({der(ground.byBelow.certificate)}, root), "unable to get local issuer certificate");
  CHECK_EQUAL(why({client}, other), "unable to get local issuer certificate");
  CHECK_EQUAL(why({client}, pem(ground.namesake.certificate)), "certificate signature failure");
  CHECK_EQUAL(why({der(ground.old.certificate)}, root), "certificate has expired");
  CHECK(why({der(ground.server.certificate)}, root).rfind("un", 0) == 0);
}

TEST("with revocation lists every issuer needs one that is in force") {
  const Ground ground;
  const std::string root = pem(ground.root.certificate);
  const std::string client = der(ground.client.certificate), byBelow = der(ground.byBelow.certificate);
  const std::string below = der(ground.below.certificate);
  const std::string none = revocations(ground.root, 0, kHour);
  CHECK_EQUAL(why({client}, root, none), "");
  CHECK_EQUAL(why({client}, root, revocations(ground.root, 3, kHour)), "certificate revoked");
  CHECK_EQUAL(why({client}, root, revocations(ground.root, 0, -kHour)), "CRL has expired");
  CHECK_EQUAL(why({byBelow, below}, root, none), "unable to get certificate CRL");
  CHECK_EQUAL(why({byBelow, below}, root, none + revocations(ground.below, 0, kHour)), "");
  CHECK_EQUAL(why({byBelow, below}, root, none + revocations(ground.below, 4, kHour)), "certificate revoked");
}

TEST("a list of what has changed since another one is no list") {
  const Ground ground;
  const std::string root = pem(ground.root.certificate), client = der(ground.client.certificate);
  const std::string whole = revocations(ground.root, 3, kHour), delta = revocations(ground.root, 0, 2 * kHour, 1);
  CHECK_EQUAL(why({client}, root, whole + delta), kNoTrust);
  CHECK_EQUAL(why({client}, root, delta), kNoTrust);
  CHECK(kms::holdsDelta(bytes(whole + delta)));
  CHECK(!kms::holdsDelta(bytes(whole)) && !kms::holdsDelta(Bytes()));
}

TEST("what was read once holds for every chain after it") {
  const Ground ground;
  const std::string root = pem(ground.root.certificate), lists = revocations(ground.root, 3, kHour);
  const std::unique_ptr<kms::Trust> trust = kms::Trust::open(bytes(root), bytes(lists));
  CHECK(trust != nullptr);
  if (trust == nullptr) return;
  const std::string revoked = der(ground.client.certificate), old = der(ground.old.certificate), own = der(ground.root.certificate);
  for (int round = 0; round < 3; round++) {
    CHECK_EQUAL(trust->whyNot({bytes(revoked)}), "certificate revoked");
    CHECK_EQUAL(trust->whyNot({bytes(own)}), "");
    CHECK_EQUAL(trust->whyNot({bytes(old)}), "certificate has expired");
    CHECK_EQUAL(trust->whyNot({}), kUnreadable);
  }
}

TEST("what cannot be read trusts nobody") {
  const Ground ground;
  const std::string root = pem(ground.root.certificate), client = der(ground.client.certificate);
  CHECK_EQUAL(why({}, root), kUnreadable);
  CHECK_EQUAL(why({client}, ""), kNoTrust);
  CHECK_EQUAL(why({client}, "root"), kNoTrust);
  CHECK_EQUAL(why({client}, root + root.substr(0, root.size() / 2)), kNoTrust);
  CHECK_EQUAL(why({client}, root, "none"), kNoTrust);
  CHECK_EQUAL(why({client + "x"}, root), kUnreadable);
  CHECK_EQUAL(why({client, "x"}, root), kUnreadable);
  for (size_t length = 0; length < client.size(); length++) CHECK(why({client.substr(0, length)}, root) != "");
}

TEST("the first list to be replaced is named, and none where there is none") {
  const Ground ground;
  const int64_t now = time(nullptr);
  const std::string soon = revocations(ground.root, 0, kHour), later = revocations(ground.below, 0, 2 * kHour);
  const int64_t first = kms::firstNextUpdate(bytes(later + soon));
  CHECK(first >= now + kHour - 60 && first <= now + kHour + 60);
  const std::string nothing = "nothing";
  CHECK_EQUAL(kms::firstNextUpdate(bytes(nothing)), int64_t{-1});
  CHECK_EQUAL(kms::firstNextUpdate(Bytes()), int64_t{-1});
}

MAIN

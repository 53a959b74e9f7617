#include "core/audit_chain.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <thread>

#include "check.h"
#include "core/encoding.h"
#include "core/kdf.h"
#include "core/signing.h"
#include "keys.h"

using namespace kms;

// Lines of the audit log, byte by byte, against EVP's own functions.
namespace {

constexpr char kStore[] = "00112233445566778899aabbccddeeff";
constexpr char kBoot[] = "0123456789abcdef";
constexpr char kMembers[] = "\"type\":\"create_dek\",\"actor\":\"uid:1\",\"outcome\":\"ok\",\"generation\":1";

SpaceId openedSpace() {
  CHECK_OK(KeyTable::instance().open(256 * 1024, 8));
  return KeyTable::instance().openSpace(16);
}

std::shared_ptr<AuditChain> openedChain(SpaceId space) {
  std::shared_ptr<AuditChain> chain;
  CHECK_OK(AuditChain::open(space, kStore, kBoot, ChainHead(), &chain));
  return chain;
}

std::string lineOf(AuditChain& chain, const std::string& members = kMembers, Handle signing = Handle{}) {
  std::vector<uint8_t> line;
  CHECK_OK(chain.line(members, signing, &line));
  return std::string(line.begin(), line.end());
}

std::string between(const std::string& text, const std::string& before, const std::string& after) {
  const size_t from = text.find(before);
  CHECK(from != std::string::npos);
  const size_t to = text.find(after, from + before.size());
  CHECK(to != std::string::npos);
  return text.substr(from + before.size(), to - from - before.size());
}

std::string eventOf(const std::string& line) { return between(line, "{\"event\":", ",\"sig\""); }

std::string base64(const uint8_t* data, size_t length) {
  std::string text(base64Length(length), '\0');
  EVP_EncodeBlock(reinterpret_cast<uint8_t*>(text.data()), data, static_cast<int>(length));
  return text;
}

std::string hashOf(const std::string& text) {
  uint8_t digest[kSha256Bytes];
  CHECK(EVP_Digest(text.data(), text.size(), digest, nullptr, EVP_sha256(), nullptr) == 1);
  std::string hex(2 * kSha256Bytes, '\0');
  encodeHex(digest, sizeof digest, reinterpret_cast<uint8_t*>(hex.data()));
  return hex;
}

// An auditor's pair, and the epoch key as it comes out of what was sealed to it.
struct Auditor {
  uint8_t own[kKeyBytes], key[kKeyBytes];
  EVP_PKEY* pair = nullptr;

  Auditor() {
    CHECK(fillRandom(own, sizeof own));
    pair = EVP_PKEY_new_raw_private_key(EVP_PKEY_X25519, nullptr, own, sizeof own);
    size_t length = sizeof key;
    CHECK(EVP_PKEY_get_raw_public_key(pair, key, &length) == 1);
  }
  ~Auditor() { EVP_PKEY_free(pair); }

  std::vector<uint8_t> open(const uint8_t* sealed) const {
    uint8_t shared[kKeyBytes], work[kKeyBytes], under[kKeyBytes];
    size_t length = sizeof shared;
    EVP_PKEY* const peer = EVP_PKEY_new_raw_public_key(EVP_PKEY_X25519, nullptr, sealed, kKeyBytes);
    EVP_PKEY_CTX* const context = EVP_PKEY_CTX_new(pair, nullptr);
    CHECK(EVP_PKEY_derive_init(context) == 1 && EVP_PKEY_derive_set_peer(context, peer) == 1 && EVP_PKEY_derive(context, shared, &length) == 1);
    EVP_PKEY_CTX_free(context);
    EVP_PKEY_free(peer);
    std::string salt(reinterpret_cast<const char*>(sealed), kKeyBytes);
    salt.append(reinterpret_cast<const char*>(key), kKeyBytes);
    hkdfSha256(shared, keys::bytes(salt), keys::bytes("progressdb-kms/audit-epoch/v1"), work, under);
    std::string aad;
    for (const std::string& field : {std::string("progressdb-kms/audit-epoch/v1"), std::string(kStore), std::string(kBoot)}) {
      aad += std::string(3, '\0') + static_cast<char>(field.size()) + field;
    }
    std::vector<uint8_t> epoch(kKeyBytes);
    CHECK(unwrapKey(under, Bytes{sealed + kKeyBytes, kWrappedBytes}, keys::bytes(aad), epoch.data()) == Status::Ok);
    return epoch;
  }
};

// The signature under an epoch key, which goes on.
std::string sigOf(std::vector<uint8_t>* epoch, const std::string& event) {
  uint8_t mac[kSha256Bytes];
  unsigned int length = 0;
  HMAC(EVP_sha256(), epoch->data(), kKeyBytes, keys::bytes(event).data, event.size(), mac, &length);
  const std::string before = "evolve" + std::string(epoch->begin(), epoch->end());
  CHECK(EVP_Digest(before.data(), before.size(), epoch->data(), nullptr, EVP_sha256(), nullptr) == 1);
  return base64(mac, length);
}

// How often the bytes stand in the arena's cells.
int cellsWith(const std::vector<uint8_t>& bytes) {
  Arena& arena = Arena::instance();
  int found = 0;
  for (Arena::Cell cell = 0; cell < arena.capacity(); ++cell) found += memcmp(arena.key(cell), bytes.data(), kKeyBytes) == 0 ? 1 : 0;
  return found;
}

}  // namespace

TEST("a line has exactly the bytes of docs/FORMATS.md, and its key goes on with it") {
  const SpaceId space = openedSpace();
  const std::shared_ptr<AuditChain> chain = openedChain(space);
  const Auditor auditor;
  uint8_t sealed[kSealedEpochKeyBytes];
  CHECK_OK(chain->sealKey(Bytes{auditor.key, kKeyBytes}, sealed));
  std::vector<uint8_t> epoch = auditor.open(sealed);
  std::string prev(64, '0');
  for (int seq = 1; seq <= 50; ++seq) {
    CHECK_EQUAL(cellsWith(epoch), 1);
    const std::vector<uint8_t> old = epoch;
    const std::string line = lineOf(*chain);
    const std::string time = between(line, "\"time\":\"", "\"");
    const std::string event = "{\"seq\":" + std::to_string(seq) + ",\"time\":\"" + time + "\",\"boot\":\"" + kBoot + "\",\"prev\":\"" + prev +
                              "\"," + kMembers + "}";
    CHECK_EQUAL(line, "{\"event\":" + event + ",\"sig\":\"" + sigOf(&epoch, event) + "\"}\n");
    prev = hashOf(line.substr(0, line.size() - 1));
    // The key that made the line is nowhere among the keys any more.
    CHECK_EQUAL(cellsWith(old), 0);
  }
  chain->close();
  CHECK_EQUAL(cellsWith(epoch), 0);
  KeyTable::instance().closeSpace(space);
}

TEST("a signed line carries the signature of RFC 8032 over label, store and event") {
  const SpaceId space = openedSpace();
  const std::shared_ptr<AuditChain> chain = openedChain(space);
  const Handle signing = keys::loose(space, Kind::Signing);
  uint8_t key[kKeyBytes];
  CHECK(KeyTable::instance().with(signing, KeyTable::bit(Kind::Signing), [&](const uint8_t* seed) {
    return publicKeyOf(seed, key) ? Status::Ok : Status::Internal;
  }) == Status::Ok);
  const std::string line = lineOf(*chain, kMembers, signing);
  std::string message = "progressdb-kms/audit/v1";
  message += '\0';
  message += kStore;
  message += '\0';
  message += eventOf(line);
  const std::string encoded = between(line, "\"ed25519\":\"", "\"}\n");
  uint8_t signature[kSignatureBytes];
  CHECK(decodeBase64(keys::bytes(encoded).data, encoded.size(), signature, sizeof signature));
  EVP_PKEY* const verifier = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, key, sizeof key);
  EVP_MD_CTX* const context = EVP_MD_CTX_new();
  CHECK(EVP_DigestVerifyInit(context, nullptr, nullptr, nullptr, verifier) == 1);
  CHECK(EVP_DigestVerify(context, signature, sizeof signature, keys::bytes(message).data, message.size()) == 1);
  EVP_MD_CTX_free(context);
  EVP_PKEY_free(verifier);
  KeyTable::instance().closeSpace(space);
}

TEST("closing the space wipes the epoch key, and then there are no more lines") {
  const SpaceId space = openedSpace();
  const std::shared_ptr<AuditChain> chain = openedChain(space);
  const Auditor auditor;
  uint8_t sealed[kSealedEpochKeyBytes];
  CHECK_OK(chain->sealKey(Bytes{auditor.key, kKeyBytes}, sealed));
  const std::vector<uint8_t> epoch = auditor.open(sealed);
  CHECK_EQUAL(cellsWith(epoch), 1);
  KeyTable::instance().closeSpace(space);
  CHECK_EQUAL(cellsWith(epoch), 0);
  std::vector<uint8_t> line;
  CHECK_FAILURE(chain->line(kMembers, Handle{}, &line), Status::Sealed, "");
  CHECK_FAILURE(chain->sealKey(Bytes{auditor.key, kKeyBytes}, sealed), Status::Sealed, "");
  CHECK(line.empty());
}

TEST("an epoch key answers for no other kind of key") {
  const SpaceId space = openedSpace();
  const Handle epoch = keys::loose(space, Kind::Epoch);
  const uint32_t others = ~KeyTable::bit(Kind::Epoch);
  const auto use = [](const uint8_t*) { return Status::Ok; };
  CHECK_EQUAL(KeyTable::instance().with(epoch, others, use), Status::InvalidArgument);
  CHECK_EQUAL(KeyTable::instance().withOwn(keys::loose(space), Kind::Epoch, [](uint8_t*) { return Status::Ok; }), Status::InvalidArgument);
  KeyTable::instance().closeSpace(space);
}

TEST("times are written as the calendar has them") {
  const auto written = [](int64_t milliseconds) {
    AuditLine line;
    line.time(milliseconds);
    return std::string(reinterpret_cast<const char*>(line.data()), line.length());
  };
  CHECK_EQUAL(written(0), "1970-01-01T00:00:00.000Z");
  CHECK_EQUAL(written(951827696789), "2000-02-29T12:34:56.789Z");
  CHECK_EQUAL(written(4107542399999), "2100-02-28T23:59:59.999Z");
  CHECK_EQUAL(written(4107542400000), "2100-03-01T00:00:00.000Z");
  CHECK_EQUAL(written(253402300799999), "9999-12-31T23:59:59.999Z");
  CHECK_EQUAL(written(253402300800000), "9999-12-31T23:59:59.999Z");
  CHECK_EQUAL(written(-1), "1970-01-01T00:00:00.000Z");
  // Every day of four centuries, against the C library.
  for (int64_t day = 0; day < 146097; ++day) {
    const auto seconds = static_cast<time_t>(day * 86400 + 43200);
    tm date{};
    gmtime_r(&seconds, &date);
    char expected[32];
    strftime(expected, sizeof expected, "%Y-%m-%dT12:00:00.000Z", &date);
    CHECK_EQUAL(written(seconds * 1000), expected);
  }
}

TEST("threads that write to one chain make one chain") {
  const SpaceId space = openedSpace();
  const std::shared_ptr<AuditChain> chain = openedChain(space);
  std::vector<std::string> made[3];
  std::vector<std::thread> threads;
  for (auto& mine : made) threads.emplace_back([&] {
    for (int i = 0; i < 200; ++i) mine.push_back(lineOf(*chain));
  });
  for (std::thread& thread : threads) thread.join();
  std::vector<std::string> all(601);
  for (const auto& mine : made) {
    for (const std::string& line : mine) all[static_cast<size_t>(std::stoi(between(line, "\"seq\":", ",")))] = line;
  }
  for (size_t i = 2; i < all.size(); ++i) {
    CHECK_EQUAL(between(all[i], "\"prev\":\"", "\""), hashOf(all[i - 1].substr(0, all[i - 1].size() - 1)));
  }
  KeyTable::instance().closeSpace(space);
}

MAIN

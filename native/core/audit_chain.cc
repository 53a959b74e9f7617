#include "core/audit_chain.h"

#include <time.h>

#include <cstring>
#include <utility>

#include "core/encoding.h"
#include "core/signing.h"

namespace kms {

namespace {

constexpr char kSignedLabel[] = "progressdb-kms/audit/v1";
constexpr char kEvolve[] = "evolve";
constexpr std::string_view kEventOpening = "{\"event\":";

Bytes bytesOf(std::string_view text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

int64_t now() {
  timespec time{};
  clock_gettime(CLOCK_REALTIME, &time);
  return int64_t{time.tv_sec} * 1000 + time.tv_nsec / 1000000;
}

// What an Ed25519 signature of a line is over: docs/FORMATS.md. The label's own NUL is the one that follows it.
std::string signedBytes(std::string_view storeId, Bytes event) {
  std::string text(kSignedLabel, sizeof kSignedLabel);
  text.append(storeId);
  text.push_back('\0');
  text.append(reinterpret_cast<const char*>(event.data), event.length);
  return text;
}

}  // namespace

AuditChain::AuditChain(SpaceId space, Handle key, std::string_view storeId, std::string_view boot, const ChainHead& head)
    : space_(space), key_(key), storeId_(storeId), boot_(boot), head_(head) {}

AuditChain::~AuditChain() { close(); }

Failure AuditChain::open(SpaceId space, std::string_view storeId, std::string_view boot, const ChainHead& head,
                         std::shared_ptr<AuditChain>* chain) {
  if (!isLowerHex(storeId, kStoreIdBytes) || !isLowerHex(boot, kBootBytes) || head.seq > kMaxSequence) {
    return Failure(Status::InvalidArgument, "store id, boot or sequence number of an audit chain");
  }
  const auto draw = [](uint8_t* key) {
    return fillRandom(key, kKeyBytes) ? Failure() : Failure(Status::Internal, "the operating system gives no random bytes");
  };
  Handle key;
  if (Failure failure = KeyTable::instance().add(space, Kind::Epoch, draw, &key); !failure.ok()) return failure;
  chain->reset(new AuditChain(space, key, storeId, boot, head));
  return Failure();
}

void AuditChain::close() {
  const std::lock_guard<std::mutex> hold(mutex_);
  KeyTable::instance().release(key_);
  key_ = Handle{};
}

ChainHead AuditChain::head() {
  const std::lock_guard<std::mutex> hold(mutex_);
  return head_;
}

Failure AuditChain::sealKey(Bytes auditor, uint8_t out[kSealedEpochKeyBytes]) {
  const std::lock_guard<std::mutex> hold(mutex_);
  if (begun_) return Failure(Status::Conflict, "the audit chain has lines");
  SpaceId space = 0;
  if (!KeyTable::instance().spaceOf(key_, &space)) return Failure(Status::Sealed);
  const Status status = sealEpochKey(key_, auditor, bytesOf(storeId_), bytesOf(boot_), out);
  return status == Status::InvalidArgument ? Failure(status, "no X25519 public key to seal to") : Failure(status);
}

Failure AuditChain::line(std::string_view members, Handle signing, std::vector<uint8_t>* out) {
  if (!isMembers(members)) return Failure(Status::InvalidArgument, "members of an audit line");
  const std::lock_guard<std::mutex> hold(mutex_);
  begin();
  line_.text(members);
  Failure failure = finish(signing);
  if (failure.ok()) out->insert(out->end(), line_.data(), line_.data() + line_.length());
  wipeStack();
  return failure;
}

Failure AuditChain::linesOf(const std::vector<std::string>& members, std::vector<uint8_t>* out) {
  for (const std::string& one : members) {
    if (!isMembers(one)) return Failure(Status::InvalidArgument, "members of an audit line");
  }
  size_t at = 0;
  return lines(
      [&](AuditLine* line) {
        if (at == members.size()) return false;
        line->text(members[at++]);
        return true;
      },
      out);
}

void AuditChain::begin() {
  line_.clear();
  line_.text(kEventOpening);
  line_.text("{\"seq\":");
  line_.number(head_.seq + 1);
  line_.text(",\"time\":\"");
  line_.time(now());
  line_.text("\",\"boot\":\"");
  line_.text(boot_);
  line_.text("\",\"prev\":\"");
  line_.hex(head_.prev, kSha256Bytes);
  line_.text("\",");
}

// Everything that can fail comes before the key is replaced: there is no half a line.
Failure AuditChain::finish(Handle signing) {
  line_.text("}");
  const size_t sigBytes = 8 + base64Length(kSha256Bytes) + 1, tailBytes = signing.none() ? 2 : 13 + base64Length(kSignatureBytes) + 3;
  if (line_.overflowed() || line_.length() + sigBytes + tailBytes > kMaxLineBytes) {
    return Failure(Status::TooLarge, "an audit line has at most 8,192 bytes");
  }
  if (head_.seq >= kMaxSequence) return Failure(Status::Internal, "the audit chain is at its end");
  KeyTable& table = KeyTable::instance();
  const Bytes event = line_.from(kEventOpening.size());
  uint8_t signature[kSignatureBytes];
  if (!signing.none()) {
    const std::string text = signedBytes(storeId_, event);
    const Status status = table.with(signing, KeyTable::bit(Kind::Signing), [&](const uint8_t* seed) {
      return sign(seed, bytesOf(text), signature) ? Status::Ok : Status::Internal;
    });
    if (status != Status::Ok) return Failure(status, status == Status::InvalidArgument ? "not a signing key" : "");
  }
  uint8_t sig[kSha256Bytes];
  const Status status = table.withOwn(key_, Kind::Epoch, [&](uint8_t* key) {
    hmacSha256(Bytes{key, kKeyBytes}, {event}, sig);
    sha256({bytesOf(kEvolve), Bytes{key, kKeyBytes}}, key);
    return Status::Ok;
  });
  if (status != Status::Ok) return Failure(Status::Sealed);
  line_.text(",\"sig\":\"");
  line_.base64(sig, sizeof sig);
  if (!signing.none()) {
    line_.text("\",\"ed25519\":\"");
    line_.base64(signature, sizeof signature);
  }
  line_.text("\"}");
  sha256({line_.from(0)}, head_.prev);
  line_.text("\n");
  ++head_.seq;
  begun_ = true;
  return Failure();
}

AuditChains& AuditChains::instance() {
  static AuditChains* const chains = new AuditChains();
  return *chains;
}

uint32_t AuditChains::add(std::shared_ptr<AuditChain> chain) {
  const std::lock_guard<std::mutex> hold(mutex_);
  chains_[++last_] = std::move(chain);
  return last_;
}

std::shared_ptr<AuditChain> AuditChains::find(uint32_t id) {
  const std::lock_guard<std::mutex> hold(mutex_);
  const auto found = chains_.find(id);
  return found == chains_.end() ? nullptr : found->second;
}

void AuditChains::close(uint32_t id) {
  const std::shared_ptr<AuditChain> chain = find(id);
  if (chain == nullptr) return;
  chain->close();
  const std::lock_guard<std::mutex> hold(mutex_);
  chains_.erase(id);
}

void AuditChains::closeOf(SpaceId space) {
  const std::lock_guard<std::mutex> hold(mutex_);
  for (auto at = chains_.begin(); at != chains_.end();) {
    at = at->second->space() == space ? chains_.erase(at) : std::next(at);
  }
}

}  // namespace kms

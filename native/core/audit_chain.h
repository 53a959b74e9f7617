#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/audit_line.h"
#include "core/document_rules.h"
#include "core/epoch_key.h"
#include "core/key_table.h"
#include "core/sha256.h"

namespace kms {

constexpr uint64_t kMaxSequence = (uint64_t{1} << 53) - 1;
constexpr size_t kBootBytes = 16;

// The last line of a chain: what the next one goes on from.
struct ChainHead {
  uint64_t seq = 0;
  uint8_t prev[kSha256Bytes] = {};
};

// The lines of one epoch of an audit log, docs/FORMATS.md. The epoch key stands in the arena as a key of the chain's space, known to
// nobody else; each line replaces it by its hash, in place, so that no line that was made can be made again. When the space is
// closed it is wiped with all others: then every call answers Sealed. For several threads at once.
class AuditChain {
 public:
  ~AuditChain();
  AuditChain(const AuditChain&) = delete;
  AuditChain& operator=(const AuditChain&) = delete;

  static Failure open(SpaceId space, std::string_view storeId, std::string_view boot, const ChainHead& head,
                      std::shared_ptr<AuditChain>* chain);

  SpaceId space() const { return space_; }

  // Conflict once there is a line: who could open the key now could not tell whether those before are the chain's own.
  Failure sealKey(Bytes auditor, uint8_t out[kSealedEpochKeyBytes]);

  // Appends the line with these members, line feed included; with a signature if `signing` is a key. On a failure the chain is as
  // it was.
  Failure line(std::string_view members, Handle signing, std::vector<uint8_t>* out);

  // A line for each of these. On a failure there are those before it.
  Failure linesOf(const std::vector<std::string>& members, std::vector<uint8_t>* out);

  // Appends a line for each time that `next(AuditLine*)` writes its members, until that returns false.
  template <typename Next>
  Failure lines(Next&& next, std::vector<uint8_t>* out);

  ChainHead head();
  void close();

 private:
  AuditChain(SpaceId space, Handle key, std::string_view storeId, std::string_view boot, const ChainHead& head);

  void begin();
  Failure finish(Handle signing);

  std::mutex mutex_;
  const SpaceId space_;
  Handle key_;
  const std::string storeId_;
  const std::string boot_;
  ChainHead head_;
  bool begun_ = false;
  // The line being made.
  AuditLine line_;
};

template <typename Next>
Failure AuditChain::lines(Next&& next, std::vector<uint8_t>* out) {
  const std::lock_guard<std::mutex> hold(mutex_);
  Failure failure;
  for (;;) {
    begin();
    if (!next(&line_)) break;
    failure = finish(Handle{});
    if (!failure.ok()) break;
    out->insert(out->end(), line_.data(), line_.data() + line_.length());
  }
  // Of what the hashes had of the keys.
  wipeStack();
  return failure;
}

// The chains of the process, by number. A call keeps the chain it works on: closing it meanwhile only wipes the key.
class AuditChains {
 public:
  static AuditChains& instance();

  uint32_t add(std::shared_ptr<AuditChain> chain);
  // Null for one that is closed.
  std::shared_ptr<AuditChain> find(uint32_t id);
  void close(uint32_t id);
  // Forgets the chains of a space, whose keys went with it.
  void closeOf(SpaceId space);

 private:
  std::mutex mutex_;
  std::unordered_map<uint32_t, std::shared_ptr<AuditChain>> chains_;
  uint32_t last_ = 0;
};

}  // namespace kms

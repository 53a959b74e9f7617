#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/audit_chain.h"
#include "core/data_audit.h"
#include "core/serve_chunk.h"

namespace {

constexpr size_t kCapacity = 4096;
constexpr kms::SpaceId kNoSpace = 0;

// A space with one key, so that well-formed frames of the corpus reach the cipher.
kms::SpaceId spaceWithKey() {
  kms::KeyTable& table = kms::KeyTable::instance();
  if (!table.open(64 * 1024, 4).ok()) abort();
  const kms::SpaceId space = table.openSpace(4);
  kms::Handle dek, serving;
  const auto zeros = [](uint8_t*) { return kms::Failure(); };
  if (!table.add(space, kms::Kind::Dek, zeros, &dek).ok() || !table.publish(space, dek, "k_1", 1, 1u << 30, &serving).ok()) abort();
  return space;
}

// What the requests are told by: every input's lines are taken.
struct Audit {
  std::shared_ptr<kms::AuditChain> chain;
  std::shared_ptr<kms::DataAudit> data;
  uint32_t actor = kms::AuditActors::instance().numberOf("uid:1");

  explicit Audit(kms::SpaceId space) : data(kms::DataAudits::instance().of(space)) {
    const std::string storeId(kms::kStoreIdBytes, '0'), boot(kms::kBootBytes, '0');
    if (!kms::AuditChain::open(space, storeId, boot, kms::ChainHead(), &chain).ok()) abort();
  }

  // Of printable characters, each line as long as it may be at most.
  void take() {
    std::vector<uint8_t> lines;
    if (!data->take(*chain, 1 << 20, &lines).ok()) abort();
    size_t length = 0;
    for (const uint8_t byte : lines) {
      length = byte == '\n' ? 0 : length + 1;
      if (length >= kms::DataAudit::kMaxDataLineBytes || (byte != '\n' && (byte < 0x21 || byte > 0x7e))) abort();
    }
    if (length != 0) abort();
  }
};

uint32_t coverKey(kms::SpaceId space) {
  const uint32_t policy = kms::KeyTable::instance().newPolicy();
  kms::KeyTable::instance().cover(space, "k_1", policy);
  return policy;
}

}  // namespace

// The walk stays inside its buffers (the sanitizers see to that), consumes whole frames only, and answers are whole frames.
extern "C" __attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const kms::SpaceId space = spaceWithKey();
  static const uint32_t covering = coverKey(space);
  static Audit audit(space);
  if (size == 0) return 0;
  std::vector<uint8_t> input(data + 1, data + size);
  // Exactly as large as the walk is told, so that one byte beyond is seen.
  std::vector<uint8_t> output((data[0] & 4) != 0 ? kCapacity : 400);
  int32_t report[kms::Report::kLength];
  // Room for no more than some requests in every other input, a policy that covers the key in some of them and one that does not.
  const uint32_t policy = (data[0] & 16) != 0 ? covering : (data[0] & 32) != 0 ? covering + 1 : 0;
  const uint32_t bits = (data[0] & 3) | policy << kms::kPolicyShift;
  report[kms::Report::kUnits] = (data[0] & 64) != 0 ? 2 : INT32_MAX;
  audit.data->set((data[0] & 128) != 0 ? kms::DataMode::Each : kms::DataMode::Grouped, audit.actor);
  kms::serveChunk(kms::thisThread(), (data[0] & 8) != 0 ? kNoSpace : space, bits, audit.actor, input.data(), 0, input.size(), output.data(),
                  output.size(), report);
  const auto consumed = static_cast<size_t>(report[kms::Report::kConsumed]);
  const auto written = static_cast<size_t>(report[kms::Report::kWritten]);
  if (consumed > input.size() || written > output.size() || report[kms::Report::kDeferred] > kms::Report::kMaxDeferred) abort();
  size_t at = 0;
  while (at < written) {
    const size_t length = size_t{output[at]} << 24 | size_t{output[at + 1]} << 16 | size_t{output[at + 2]} << 8 | output[at + 3];
    at += kms::kFrameHeaderBytes + length;
  }
  if (at != written) abort();
  // The same bytes as one large frame's body.
  uint8_t* answer = nullptr;
  const kms::HotResult result = kms::serveLarge(kms::thisPoolThread(), space, bits, audit.actor, input.data(), input.size(), &answer);
  if ((result > 0) != (answer != nullptr)) abort();
  free(answer);
  // And as one that came to its end elsewhere.
  if (kms::tellFrame(kms::thisThread(), space, audit.actor, input.data(), input.size(), kms::Status::KeyNotFound) != 0) abort();
  audit.take();
  return 0;
}

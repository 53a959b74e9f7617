#pragma once

#include "core/message.h"
#include "core/message_pack.h"

namespace kms {

constexpr size_t kFrameHeaderBytes = 4;
constexpr size_t kMaxFrameBytes = 0xffffff;
constexpr size_t kInlineBytes = 256u * 1024;
// What one batch may make the cipher pass over: a shared AAD counts for every item, or 200 KB could ask for 4 GB of work.
constexpr size_t kMaxWorkBytes = 64u * 1024 * 1024;

enum class Operation : uint32_t { Unread = 0, Encrypt = 2, Decrypt = 3, EncryptMany = 4, DecryptMany = 5 };

// What became of a frame's body on first sight.
enum class Reading {
  Hot,        // a request of ops 2 to 5, understood
  Cold,       // another operation, or one that names no key: not for the native core
  Refused,    // a request of ops 2 to 5 that is wrong: `refusal` is the answer
  Malformed,  // no request that could be answered
};

// A request of ops 2 to 5, as views of the frame's body.
struct HotRequest {
  uint32_t id = 0;
  Operation operation = Operation::Unread;
  Bytes keyId;
  bool batch = false;
  // A hello: known of a request that is left to others, too.
  bool greets = false;
  // One message: its data. A batch: its items, as encoded.
  Bytes data;
  uint32_t items = 0;
  // One AAD for all, or for a batch the encoded array with one per item.
  Bytes aad;
  bool aadPerItem = false;
  // Bytes of data in all items together.
  size_t dataBytes = 0;
  Failure refusal;

  // Bytes the cipher has to pass over: one AAD for all is authenticated once for every item.
  size_t work() const { return dataBytes + (batch && !aadPerItem ? size_t{items} * aad.length : aad.length); }
  // What it counts for where requests are counted.
  uint32_t units() const { return batch && items != 0 ? items : 1; }
  bool encrypts() const { return operation == Operation::Encrypt || operation == Operation::EncryptMany; }
};

Reading readRequest(const uint8_t* body, size_t length, HotRequest* request);

// Room the answer's frame takes at most.
size_t answerBound(const HotRequest& request);

// Who asks: the number of the policy it is narrowed by, 0 for none, and that of its name in the audit log.
struct Asker {
  uint32_t policy = 0;
  uint32_t actor = AuditActors::kNone;
};

// Answers into `out`, which has that room; bytes written, or kNotCached / kNeedsUses / kNotCovered / kNeedsAudit and nothing was
// done. A plaintext that was encrypted is wiped in the body. `plaintextWritten` is set if the answer holds any.
HotResult answer(ThreadState& thread, SpaceId space, Asker asker, const HotRequest& request, uint8_t* out, bool* plaintextWritten);

// Audits a request of ops 2 to 5 that came to this outcome elsewhere. 0, or why it could not be: AuditUnavailable, kNeedsAudit.
HotResult tellFrame(ThreadState& thread, SpaceId space, uint32_t actor, const uint8_t* body, size_t length, Status outcome);
// The same for one message or a batch under this id.
HotResult tellData(ThreadState& thread, SpaceId space, std::string_view keyId, const DataEvent& event);

// The frame `[id, code, message]`; at most kErrorBound bytes.
constexpr size_t kErrorBound = 300;
size_t writeError(uint32_t id, const Failure& failure, uint8_t* out);

}  // namespace kms

#pragma once

#include <string_view>

#include "core/frame.h"

namespace kms {

constexpr uint32_t kMayUseKeys = 1;
constexpr uint32_t kIsSealed = 2;
constexpr uint32_t kIsUnknown = 4;
// Every request that can be read is left to the caller of serveChunk.
constexpr uint32_t kLeaveAll = 8;
// The caller takes no more requests: one that would be left to it is answered BUSY.
constexpr uint32_t kIsFull = 16;
// The frame has waited: its time is taken by who kept it.
constexpr uint32_t kUntimed = 32;
// The bits from this one on are the number of the policy that the peer is narrowed by; 0 is none.
constexpr uint32_t kPolicyShift = 8;

// Positions, flags and reasons as src/native.ts has them; a test holds the two together.
struct Report {
  static constexpr int kConsumed = 0, kWritten = 1, kFlags = 2, kDeferred = 3, kServed = 4, kUnits = 5, kBusy = 6, kFirst = 7;
  static constexpr int kFields = 3, kMaxDeferred = 256, kLength = kFirst + kFields * kMaxDeferred;
  enum Flag : int32_t { kPlaintextWritten = 1, kOutputFull = 2, kProtocolError = 4 };
  enum Reason : int32_t { kCold = 0, kNotCachedKey = 1, kNeedsMoreUses = 2, kLarge = 3, kNotCoveredKey = 4, kNeedsRoomForEvents = 5 };
};

// Walks the frames in input[start, end) and answers those of ops 2 to 5 into `output`. Stops at an unfinished frame, at a
// full output, at a frame that breaks the protocol (answered; the connection is to be closed), and when the list of
// deferred frames is full. `report` has Report::kLength entries; kUnits says beforehand for how many units there is room (an item
// of a batch is one, and so is any other request), and afterwards how many were served or left. As long as there is room for one,
// the next frame is let through whole; what comes after that is answered BUSY and counted in kBusy, but for a hello.
// `actor` is who asks, in the audit log.
void serveChunk(ThreadState& thread, SpaceId space, uint32_t bits, uint32_t actor, uint8_t* input, size_t start, size_t end,
                uint8_t* output, size_t capacity, int32_t* report);

// The same for frames that an earlier walk has deferred: `count` entries of a report's list, from `from` on. kConsumed says which
// entry is the next; entries that are left again are in the new report's list.
void serveListed(ThreadState& thread, SpaceId space, uint32_t bits, uint32_t actor, uint8_t* input, const int32_t* listed, size_t from,
                 size_t count, uint8_t* output, size_t capacity, int32_t* report);

// The key id of a frame's body of ops 2 to 5, empty for any other.
std::string_view keyIdOf(const uint8_t* body, size_t length);

// One large frame's body. On success `*out` is the answer's frame (malloc; the caller wipes and frees it) and the result
// its length; kNotCached, kNeedsUses, kNotCovered and kNeedsAudit come back as they are.
HotResult serveLarge(ThreadState& thread, SpaceId space, uint32_t bits, uint32_t actor, uint8_t* body, size_t length, uint8_t** out);

}  // namespace kms

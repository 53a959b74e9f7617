#pragma once

#include "core/frame.h"

namespace kms {

constexpr uint32_t kMayUseKeys = 1;
constexpr uint32_t kIsSealed = 2;
constexpr uint32_t kIsUnknown = 4;
// Every request that can be read is left to the caller of serveChunk.
constexpr uint32_t kLeaveAll = 8;
// The frame has waited: its time is taken by who kept it.
constexpr uint32_t kUntimed = 256;

// Positions, flags and reasons as src/native.ts has them; a test holds the two together.
struct Report {
  static constexpr int kConsumed = 0, kWritten = 1, kFlags = 2, kDeferred = 3, kServed = 4, kFirst = 5;
  static constexpr int kFields = 3, kMaxDeferred = 256, kLength = kFirst + kFields * kMaxDeferred;
  enum Flag : int32_t { kPlaintextWritten = 1, kOutputFull = 2, kProtocolError = 4 };
  enum Reason : int32_t { kCold = 0, kNotCachedKey = 1, kNeedsMoreUses = 2, kLarge = 3 };
};

// Walks the frames in input[start, end) and answers those of ops 2 to 5 into `output`. Stops at an unfinished frame, at a
// full output, at a frame that breaks the protocol (answered; the connection is to be closed), and when the list of
// deferred frames is full. `report` has Report::kLength entries.
void serveChunk(ThreadState& thread, SpaceId space, uint32_t bits, uint8_t* input, size_t start, size_t end, uint8_t* output,
                size_t capacity, int32_t* report);

// One large frame's body. On success `*out` is the answer's frame (malloc; the caller wipes and frees it) and the result
// its length; kNotCached and kNeedsUses come back as they are.
HotResult serveLarge(ThreadState& thread, SpaceId space, uint32_t bits, uint8_t* body, size_t length, uint8_t** out);

}  // namespace kms

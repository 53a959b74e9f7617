#include "core/serve_chunk.h"

#include <chrono>
#include <cstdlib>

#include "core/registers.h"

namespace kms {

namespace {

uint32_t frameLength(const uint8_t* at) {
  return uint32_t{at[0]} << 24 | uint32_t{at[1]} << 16 | uint32_t{at[2]} << 8 | at[3];
}

// Permission and seal come before the request's content: who may not ask learns nothing about it.
Status refusalOf(uint32_t bits) {
  if ((bits & kIsUnknown) != 0) return Status::Unauthenticated;
  if ((bits & kMayUseKeys) == 0) return Status::PermissionDenied;
  return (bits & kIsSealed) != 0 ? Status::Sealed : Status::Ok;
}

// One walk over a chunk; the members are what it has to remember between frames.
class Walk {
 public:
  Walk(ThreadState& thread, SpaceId space, uint32_t bits, uint32_t actor, uint8_t* input, uint8_t* output, size_t capacity,
       int32_t* report)
      : thread_(thread),
        space_(space),
        bits_(bits),
        asker_{bits >> kPolicyShift, actor},
        input_(input),
        output_(output),
        capacity_(capacity),
        report_(report),
        room_(report[Report::kUnits]) {}

  // False when the walk ends before this frame. Into both of its callers: as a call it costs 32 instructions more a frame (counted).
  [[gnu::always_inline]] bool frame(size_t bodyAt, size_t length) {
    HotRequest request;
    switch (readRequest(input_ + bodyAt, length, &request)) {
      case Reading::Cold: return leave(request, bodyAt, length);
      case Reading::Malformed: return breakOff(Failure(Status::InvalidArgument, "malformed frame"));
      case Reading::Refused: return turnAway(request, request.refusal, bodyAt, length);
      case Reading::Hot: break;
    }
    if ((bits_ & kLeaveAll) != 0) return leave(request, bodyAt, length);
    if (const Status refusal = refusalOf(bits_); refusal != Status::Ok) {
      return turnAway(request, Failure(refusal), bodyAt, length);
    }
    const size_t bound = answerBound(request);
    if (used_ >= room_) return overRate(request, bodyAt, length);
    if (request.work() > kInlineBytes + kMaxAadBytes || bound > capacity_) return defer(request, bodyAt, length, Report::kLarge);
    if (bound > capacity_ - written_) return full();
    return serve(request, bodyAt, length);
  }

  bool breakOff(const Failure& failure) {
    if (!refuse(HotRequest(), failure)) return false;
    report_[Report::kFlags] |= Report::kProtocolError;
    return true;
  }

  // Every frame that was answered has waited for the whole walk: its answer leaves with those of the others.
  void took(uint64_t nanoseconds) const {
    for (uint32_t i = 0; i < Tally::kOperations; ++i) {
      if (answered_[i] != 0) thread_.tally().took(i, nanoseconds, answered_[i]);
    }
  }

  size_t written() const { return written_; }
  int32_t served() const { return served_; }
  int32_t deferred() const { return deferred_; }
  int32_t used() const { return used_; }
  int32_t busy() const { return busy_; }

 private:
  bool serve(const HotRequest& request, size_t bodyAt, size_t length) {
    bool plaintext = false;
    const HotResult result = answer(thread_, space_, asker_, request, output_ + written_, &plaintext);
    if (result == kNotCached) return defer(request, bodyAt, length, Report::kNotCachedKey);
    if (result == kNeedsUses) return defer(request, bodyAt, length, Report::kNeedsMoreUses);
    if (result == kNotCovered) return defer(request, bodyAt, length, Report::kNotCoveredKey);
    if (result == kNeedsAudit) return defer(request, bodyAt, length, Report::kNeedsRoomForEvents);
    written_ += static_cast<size_t>(result);
    count(request);
    used_ += static_cast<int32_t>(request.units());
    if (plaintext) report_[Report::kFlags] |= Report::kPlaintextWritten;
    return true;
  }

  // What is refused unserved may hold plaintext all the same.
  bool turnAway(const HotRequest& request, const Failure& failure, size_t bodyAt, size_t length) {
    if (!refuse(request, failure)) return false;
    ++used_;
    wipe(input_ + bodyAt, length);
    return true;
  }

  // Costs nothing of what there is room for: otherwise who asks too often would never be served again.
  bool overRate(const HotRequest& request, size_t bodyAt, size_t length) {
    if (!refuse(request, Failure(Status::Busy))) return false;
    ++busy_;
    wipe(input_ + bodyAt, length);
    return true;
  }

  bool refuse(const HotRequest& request, const Failure& failure) {
    if (capacity_ - written_ < kErrorBound) return full();
    written_ += writeError(request.id, failure, output_ + written_);
    thread_.tally().answered(static_cast<uint32_t>(request.operation), failure.status);
    count(request);
    return true;
  }

  void count(const HotRequest& request) {
    ++served_;
    ++answered_[Tally::operationOf(static_cast<uint32_t>(request.operation))];
  }

  bool leave(const HotRequest& request, size_t bodyAt, size_t length) {
    if (used_ >= room_ && !request.greets) return overRate(request, bodyAt, length);
    return defer(request, bodyAt, length, Report::kCold);
  }

  bool defer(const HotRequest& request, size_t bodyAt, size_t length, Report::Reason reason) {
    if ((bits_ & kIsFull) != 0) return turnAway(request, Failure(Status::Busy), bodyAt, length);
    if (deferred_ == Report::kMaxDeferred) return full();
    used_ += static_cast<int32_t>(request.units());
    int32_t* const entry = report_ + Report::kFirst + deferred_++ * Report::kFields;
    entry[0] = static_cast<int32_t>(bodyAt);
    entry[1] = static_cast<int32_t>(length);
    entry[2] = reason;
    return true;
  }

  bool full() {
    report_[Report::kFlags] |= Report::kOutputFull;
    return false;
  }

  ThreadState& thread_;
  const SpaceId space_;
  const uint32_t bits_;
  const Asker asker_;
  uint8_t* const input_;
  uint8_t* const output_;
  const size_t capacity_;
  int32_t* const report_;
  const int32_t room_;
  size_t written_ = 0;
  int32_t served_ = 0;
  uint32_t answered_[Tally::kOperations] = {};
  int32_t deferred_ = 0;
  int32_t used_ = 0;
  int32_t busy_ = 0;
};

// Walks with `frames`, which answers what has been consumed, and reports.
template <typename Frames>
void walkWith(ThreadState& thread, SpaceId space, uint32_t bits, uint32_t actor, uint8_t* input, uint8_t* output, size_t capacity,
              int32_t* report, Frames&& frames) {
  // Once for all frames: no other code runs between them.
  const RegisterGuard registers;
  const auto begun = std::chrono::steady_clock::now();
  report[Report::kFlags] = 0;
  // What an encryption outside of a chunk has left may be old.
  thread.nonces().expire();
  Walk walk(thread, space, bits, actor, input, output, capacity, report);
  report[Report::kConsumed] = static_cast<int32_t>(frames(walk));
  // Nonces live no longer than the chunk they were drawn for.
  thread.nonces().discard();
  report[Report::kWritten] = static_cast<int32_t>(walk.written());
  report[Report::kDeferred] = walk.deferred();
  report[Report::kServed] = walk.served();
  report[Report::kUnits] = walk.used();
  report[Report::kBusy] = walk.busy();
  if (walk.served() == 0 || (bits & kUntimed) != 0) return;
  const auto elapsed = std::chrono::steady_clock::now() - begun;
  walk.took(static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(elapsed).count()));
}

// Where the first frame begins that was not walked over.
size_t walkChunk(Walk& walk, const uint8_t* input, size_t start, size_t end, const int32_t* report) {
  size_t at = start;
  while (end - at >= kFrameHeaderBytes && (report[Report::kFlags] & Report::kProtocolError) == 0) {
    const uint32_t length = frameLength(input + at);
    if (length == 0 || length > kMaxFrameBytes) {
      const bool tooLong = length > kMaxFrameBytes;
      if (!walk.breakOff(Failure(tooLong ? Status::TooLarge : Status::InvalidArgument, tooLong ? "" : "empty frame"))) break;
      at = end;
      break;
    }
    if (end - at - kFrameHeaderBytes < length) break;
    if (!walk.frame(at + kFrameHeaderBytes, length)) break;
    at += kFrameHeaderBytes + length;
  }
  return at;
}

}  // namespace

void serveChunk(ThreadState& thread, SpaceId space, uint32_t bits, uint32_t actor, uint8_t* input, size_t start, size_t end,
                uint8_t* output, size_t capacity, int32_t* report) {
  walkWith(thread, space, bits, actor, input, output, capacity, report,
           [&](Walk& walk) { return walkChunk(walk, input, start, end, report); });
}

void serveListed(ThreadState& thread, SpaceId space, uint32_t bits, uint32_t actor, uint8_t* input, const int32_t* listed, size_t from,
                 size_t count, uint8_t* output, size_t capacity, int32_t* report) {
  walkWith(thread, space, bits, actor, input, output, capacity, report, [&](Walk& walk) {
    size_t next = from;
    for (; next < count; ++next) {
      const int32_t* const entry = listed + next * Report::kFields;
      if (!walk.frame(static_cast<size_t>(entry[0]), static_cast<size_t>(entry[1]))) break;
    }
    return next;
  });
}

std::string_view keyIdOf(const uint8_t* body, size_t length) {
  HotRequest request;
  if (readRequest(body, length, &request) != Reading::Hot) return {};
  return {reinterpret_cast<const char*>(request.keyId.data), request.keyId.length};
}

HotResult serveLarge(ThreadState& thread, SpaceId space, uint32_t bits, uint32_t actor, uint8_t* body, size_t length, uint8_t** out) {
  const RegisterGuard registers;
  HotRequest request;
  const Reading reading = readRequest(body, length, &request);
  if (reading == Reading::Malformed || reading == Reading::Cold) return hotFailure(Status::InvalidArgument);
  if (reading == Reading::Hot && refusalOf(bits) != Status::Ok) request.refusal = Failure(refusalOf(bits));
  const bool refused = !request.refusal.ok();
  const size_t bound = refused ? kErrorBound : answerBound(request);
  *out = static_cast<uint8_t*>(malloc(bound));
  if (*out == nullptr) return hotFailure(Status::Internal);
  bool plaintext = false;
  if (refused) thread.tally().answered(static_cast<uint32_t>(request.operation), request.refusal.status);
  const HotResult result =
      refused ? static_cast<HotResult>(writeError(request.id, request.refusal, *out))
              : answer(thread, space, Asker{bits >> kPolicyShift, actor}, request, *out, &plaintext);
  thread.nonces().discard();
  if (result >= 0) return result;
  free(*out);
  *out = nullptr;
  return result;
}

}  // namespace kms

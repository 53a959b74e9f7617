#include "core/frame.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "core/data_audit.h"
#include "core/document_rules.h"

namespace kms {

namespace {

// Around one binary in an answer: frame header, array, id, 0, bin header, key version.
constexpr size_t kAnswerOverhead = kFrameHeaderBytes + 5 + 5 + 1 + 5 + 12;
// An item of a batch that failed: array, code, the longest message of the table.
constexpr size_t kItemErrorBytes = 64;

std::string_view text(Bytes bytes) { return {reinterpret_cast<const char*>(bytes.data), bytes.length}; }

Reading refuse(HotRequest* request, Status status, const char* detail) {
  request->refusal = Failure(status, detail);
  return Reading::Refused;
}

// The items of a batch: counted and typed, their sizes added up.
Reading readItems(PackReader& reader, HotRequest* request) {
  if (!reader.arrayHeader(&request->items)) return refuse(request, Status::InvalidArgument, "data must be an array of bin");
  if (request->items > kMaxBatchItems) return refuse(request, Status::TooLarge, "a batch has at most 65,536 items");
  const uint8_t* const begin = reader.at();
  for (uint32_t i = 0; i < request->items; ++i) {
    Bytes item;
    if (!reader.binary(&item)) return refuse(request, Status::InvalidArgument, "data must be an array of bin");
    request->dataBytes += item.length;
  }
  request->data = Bytes{begin, static_cast<size_t>(reader.at() - begin)};
  return Reading::Hot;
}

Reading readAadPerItem(PackReader& reader, HotRequest* request) {
  uint32_t count = 0;
  if (!reader.arrayHeader(&count) || count != request->items) {
    return refuse(request, Status::InvalidArgument, "aad must be nil, bin, or an array with one entry per item");
  }
  const uint8_t* const begin = reader.at();
  for (uint32_t i = 0; i < count; ++i) {
    Bytes one;
    if (!reader.nil() && !reader.binary(&one)) {
      return refuse(request, Status::InvalidArgument, "aad must be nil, bin, or an array with one entry per item");
    }
  }
  request->aad = Bytes{begin, static_cast<size_t>(reader.at() - begin)};
  request->aadPerItem = true;
  return Reading::Hot;
}

Reading readArguments(PackReader& reader, HotRequest* request) {
  if (request->batch) {
    if (const Reading items = readItems(reader, request); items != Reading::Hot) return items;
  } else {
    if (!reader.binary(&request->data)) return refuse(request, Status::InvalidArgument, "data must be bin");
    request->dataBytes = request->data.length;
  }
  if (request->batch && reader.peekArray()) {
    if (const Reading aads = readAadPerItem(reader, request); aads != Reading::Hot) return aads;
  } else if (!reader.nil() && !reader.binary(&request->aad)) {
    return refuse(request, Status::InvalidArgument, "aad must be bin or nil");
  }
  if (!reader.atEnd()) return refuse(request, Status::InvalidArgument, "bytes follow the request");
  if (!request->aadPerItem && request->aad.length > kMaxAadBytes) return refuse(request, Status::TooLarge, "aad is above 64 KiB");
  if (request->work() > kMaxWorkBytes) return refuse(request, Status::TooLarge, "aad times items is above 64 MiB");
  return Reading::Hot;
}

}  // namespace

Reading readRequest(const uint8_t* body, size_t length, HotRequest* request) {
  PackReader reader(body, body + length);
  uint32_t count = 0;
  uint64_t id = 0, operation = 0;
  if (!reader.arrayHeader(&count) || count < 1 || !reader.unsignedInteger(&id) || id > UINT32_MAX) return Reading::Malformed;
  request->id = static_cast<uint32_t>(id);
  if (count < 2 || !reader.unsignedInteger(&operation)) return refuse(request, Status::InvalidArgument, "op must be an unsigned integer");
  request->greets = operation == 0;
  if (operation < 2 || operation > 5) return Reading::Cold;
  request->operation = static_cast<Operation>(operation);
  request->batch = operation >= 4;
  if (count != 5) return refuse(request, Status::InvalidArgument, "takes key_id, data and aad");
  if (!request->batch && reader.peekNil()) return Reading::Cold;
  if (!reader.string(&request->keyId)) return refuse(request, Status::InvalidArgument, "key_id must be str");
  return readArguments(reader, request);
}

size_t answerBound(const HotRequest& request) {
  if (!request.batch) return std::max(kAnswerOverhead + request.data.length + kOverheadBytes, kErrorBound);
  return kErrorBound + request.dataBytes + size_t{request.items} * (kOverheadBytes + 5 + kItemErrorBytes);
}

namespace {

// Sets the frame's length when its body is written.
size_t closeFrame(uint8_t* frame, const uint8_t* end) {
  const auto length = static_cast<uint32_t>(end - frame - kFrameHeaderBytes);
  for (int i = 0; i < 4; ++i) frame[i] = static_cast<uint8_t>(length >> (24 - 8 * i));
  return kFrameHeaderBytes + length;
}

PackWriter openAnswer(uint8_t* frame, uint32_t count, uint32_t id) {
  PackWriter writer(frame + kFrameHeaderBytes);
  writer.arrayHeader(count);
  writer.unsignedInteger(id);
  writer.unsignedInteger(0);
  return writer;
}

void writeVersion(PackWriter& writer, uint32_t version) {
  char digits[10];
  size_t at = sizeof digits;
  do {
    digits[--at] = static_cast<char>('0' + version % 10);
    version /= 10;
  } while (version != 0);
  writer.string(digits + at, sizeof digits - at);
}

void wipeSealed(const HotRequest& request, Bytes data) {
  if (request.encrypts() && data.length != 0) wipe(const_cast<uint8_t*>(data.data), data.length);
}

HotResult answerOne(ThreadState& thread, const HotRequest& request, Context& context, uint8_t* out) {
  const bool encrypts = request.encrypts();
  if (!encrypts && request.data.length < kOverheadBytes) return hotFailure(Status::AuthenticationFailed);
  PackWriter writer = openAnswer(out, encrypts ? 4 : 3, request.id);
  const size_t size = encrypts ? request.data.length + kOverheadBytes : request.data.length - kOverheadBytes;
  writer.binaryHeader(static_cast<uint32_t>(size));
  const HotResult result = encrypts ? encrypt(thread, context, request.data, request.aad, writer.at())
                                    : decrypt(context, request.data, request.aad, writer.at());
  if (result < 0) return result;
  writer.skip(size);
  if (encrypts) writeVersion(writer, KeyTable::instance().kekVersionOf(context.key));
  return static_cast<HotResult>(closeFrame(out, writer.at()));
}

// What became of the items of a batch: messages and bytes of data by outcome.
struct Outcomes {
  uint32_t items[Tally::kOutcomes] = {};
  uint64_t bytes[Tally::kOutcomes] = {};

  void add(Status outcome, size_t length) {
    ++items[static_cast<uint32_t>(outcome)];
    bytes[static_cast<uint32_t>(outcome)] += length;
  }
};

// Ok, AuthenticationFailed, TooLarge and Internal are all that a message comes to.
constexpr uint32_t kMostOutcomes = 4;

uint32_t messagesOf(const HotRequest& request) { return request.batch ? request.items : 1; }

DataEvent eventOf(const HotRequest& request, Status outcome, uint32_t items, uint64_t bytes) {
  DataEvent event;
  event.encrypts = request.encrypts();
  event.batch = request.batch;
  event.outcome = outcome;
  event.items = items;
  event.bytes = bytes;
  return event;
}

Status writeItem(ThreadState& thread, const HotRequest& request, Context& context, Bytes item, Bytes aad, PackWriter& writer) {
  const bool encrypts = request.encrypts();
  PackWriter ahead = writer;
  HotResult result = hotFailure(Status::AuthenticationFailed);
  if (encrypts || item.length >= kOverheadBytes) {
    ahead.binaryHeader(static_cast<uint32_t>(encrypts ? item.length + kOverheadBytes : item.length - kOverheadBytes));
    result = encrypts ? encrypt(thread, context, item, aad, ahead.at()) : decrypt(context, item, aad, ahead.at());
  }
  if (result >= 0) {
    ahead.skip(static_cast<size_t>(result));
    writer = ahead;
    return Status::Ok;
  }
  const auto status = static_cast<Status>(-result);
  const char* const message = statusMessage(status);
  writer.arrayHeader(2);
  writer.unsignedInteger(static_cast<uint32_t>(status));
  writer.string(message, strlen(message));
  return status;
}

HotResult answerBatch(ThreadState& thread, const HotRequest& request, Context& context, uint8_t* out, Outcomes* outcomes) {
  PackWriter writer = openAnswer(out, 3, request.id);
  writer.arrayHeader(request.items);
  PackReader items(request.data.data, request.data.data + request.data.length);
  PackReader aads(request.aad.data, request.aad.data + request.aad.length);
  for (uint32_t i = 0; i < request.items; ++i) {
    Bytes item, aad = request.aad;
    items.binary(&item);
    if (request.aadPerItem) {
      aad = Bytes{};
      if (!aads.nil()) aads.binary(&aad);
    }
    outcomes->add(writeItem(thread, request, context, item, aad, writer), item.length);
  }
  if (static_cast<size_t>(writer.at() - out) - kFrameHeaderBytes > kMaxFrameBytes) {
    if (!request.encrypts()) wipe(out, static_cast<size_t>(writer.at() - out));
    return hotFailure(Status::TooLarge);
  }
  return static_cast<HotResult>(closeFrame(out, writer.at()));
}

}  // namespace

namespace {

Status statusOf(HotResult result) { return result >= 0 ? Status::Ok : static_cast<Status>(-result); }

// With the key entered. What was done is told before the key is left.
HotResult answerHeld(ThreadState& thread, const HotRequest& request, Context& context, DataUse& use, uint8_t* out) {
  const AuditedKey key = KeyTable::instance().keyOf(context);
  if (!request.batch) {
    const HotResult result = answerOne(thread, request, context, out);
    use.tell(key, eventOf(request, statusOf(result), 1, request.dataBytes));
    return result;
  }
  Outcomes outcomes;
  const HotResult result = answerBatch(thread, request, context, out, &outcomes);
  // An answer that is too large is none, whatever its items came to.
  if (result < 0) {
    use.tell(key, eventOf(request, statusOf(result), messagesOf(request), request.dataBytes));
    return result;
  }
  for (uint32_t i = 0; i < Tally::kOutcomes; ++i) {
    if (outcomes.items[i] != 0) use.tell(key, eventOf(request, static_cast<Status>(i), outcomes.items[i], outcomes.bytes[i]));
  }
  return result;
}

}  // namespace

HotResult answer(ThreadState& thread, SpaceId space, Asker asker, const HotRequest& request, uint8_t* out, bool* plaintextWritten) {
  KeyTable& table = KeyTable::instance();
  DataUse use(thread, space, asker.actor, request.batch ? kMostOutcomes : 1);
  if (use.refusal() == kNeedsAudit) return kNeedsAudit;
  Context* context = nullptr;
  const uint32_t uses = request.encrypts() ? (request.batch ? request.items : 1) : 0;
  HotResult result = use.refusal();
  if (result == 0 && use.isStale()) result = hotFailure(Status::StoreUnavailable);
  if (result == 0) result = table.enterById(thread, space, text(request.keyId), asker.policy, uses, &context);
  if (result == kNotCached || result == kNeedsUses || result == kNotCovered) return result;
  if (context != nullptr && result == 0) {
    result = answerHeld(thread, request, *context, use, out);
    table.leave(context);
    if (!request.encrypts()) *plaintextWritten = true;
  } else if (use.refusal() == 0) {
    use.tell(AuditedKey{Handle{}, text(request.keyId)}, eventOf(request, statusOf(result), messagesOf(request), request.dataBytes));
  }
  wipeSealed(request, request.data);
  thread.tally().answered(static_cast<uint32_t>(request.operation), result >= 0 ? Status::Ok : static_cast<Status>(-result));
  return result >= 0 ? result : static_cast<HotResult>(writeError(request.id, Failure(static_cast<Status>(-result)), out));
}

HotResult tellData(ThreadState& thread, SpaceId space, std::string_view keyId, const DataEvent& event) {
  DataUse use(thread, space, event.actor, 1);
  if (use.refusal() != 0) return use.refusal();
  if (isKeyId(keyId)) use.tell(AuditedKey{Handle{}, keyId}, event);
  return 0;
}

HotResult tellFrame(ThreadState& thread, SpaceId space, uint32_t actor, const uint8_t* body, size_t length, Status outcome) {
  HotRequest request;
  if (readRequest(body, length, &request) != Reading::Hot) return 0;
  DataEvent event = eventOf(request, outcome, messagesOf(request), request.dataBytes);
  event.actor = actor;
  return tellData(thread, space, text(request.keyId), event);
}

size_t writeError(uint32_t id, const Failure& failure, uint8_t* out) {
  std::string message = statusMessage(failure.status);
  if (!failure.detail.empty()) message += ": " + failure.detail;
  message.resize(std::min<size_t>(message.size(), 255));
  PackWriter writer(out + kFrameHeaderBytes);
  writer.arrayHeader(3);
  writer.unsignedInteger(id);
  writer.unsignedInteger(static_cast<uint32_t>(failure.status));
  writer.string(message.data(), message.size());
  return closeFrame(out, writer.at());
}

}  // namespace kms

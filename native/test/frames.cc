#include <algorithm>

#include "check.h"
#include "core/serve_chunk.h"
#include "keys.h"

using namespace kms;

namespace {

using Message = std::vector<uint8_t>;

SpaceId spaceWithKey() {
  if (!KeyTable::instance().open(256 * 1024, 16).ok()) abort();
  const SpaceId space = KeyTable::instance().openSpace(4);
  keys::published(space, "k_1", 1u << 20);
  return space;
}

void append(Message& message, std::initializer_list<int> bytes) {
  for (const int byte : bytes) message.push_back(static_cast<uint8_t>(byte));
}

void appendBinary(Message& message, size_t size, uint8_t fill) {
  append(message, {0xc6, static_cast<int>(size >> 24 & 255), static_cast<int>(size >> 16 & 255), static_cast<int>(size >> 8 & 255),
                   static_cast<int>(size & 255)});
  message.insert(message.end(), size, fill);
}

// [7, 4, "k_1", [items of `size` bytes…], aad]
Message batch(uint32_t items, size_t size, size_t aad) {
  Message body;
  append(body, {0x95, 7, 4, 0xa3, 'k', '_', '1', 0xdd, static_cast<int>(items >> 24), static_cast<int>(items >> 16 & 255),
                static_cast<int>(items >> 8 & 255), static_cast<int>(items & 255)});
  for (uint32_t i = 0; i < items; ++i) appendBinary(body, size, 0x5a);
  appendBinary(body, aad, 0x61);
  return body;
}

Message framed(const Message& body) {
  Message frame;
  append(frame, {static_cast<int>(body.size() >> 24), static_cast<int>(body.size() >> 16 & 255), static_cast<int>(body.size() >> 8 & 255),
                 static_cast<int>(body.size() & 255)});
  frame.insert(frame.end(), body.begin(), body.end());
  return frame;
}

// [id, 2, "k_1", data of `size` bytes, nil]
Message single(uint32_t id, size_t size) {
  Message body;
  append(body, {0x95, 0xce, static_cast<int>(id >> 24), static_cast<int>(id >> 16 & 255), static_cast<int>(id >> 8 & 255),
                static_cast<int>(id & 255), 2, 0xa3, 'k', '_', '1'});
  appendBinary(body, size, 0x5a);
  append(body, {0xc0});
  return body;
}

// Requests with every width of every type.
std::vector<Message> everyWidth() {
  std::vector<Message> bodies = {single(7, 3), batch(2, 3, 5), batch(2, 3, 0)};
  const std::vector<Message> ids = {{7}, {0xcc, 7}, {0xcd, 0, 7}, {0xce, 0, 0, 0, 7}, {0xcf, 0, 0, 0, 0, 0, 0, 0, 7},
                                    {0xd0, 7}, {0xd1, 0, 7}, {0xd2, 0, 0, 0, 7}, {0xd3, 0, 0, 0, 0, 0, 0, 0, 7}};
  for (const Message& id : ids) {
    Message body = {0x95};
    body.insert(body.end(), id.begin(), id.end());
    append(body, {0xcc, 2, 0xd9, 3, 'k', '_', '1', 0xc4, 1, 'x', 0xc4, 0});
    bodies.push_back(body);
  }
  bodies.push_back({0xdc, 0, 5, 7, 2, 0xda, 0, 3, 'k', '_', '1', 0xc5, 0, 1, 'x', 0xc5, 0, 0});
  bodies.push_back({0xdd, 0, 0, 0, 5, 7, 2, 0xdb, 0, 0, 0, 3, 'k', '_', '1', 0xc6, 0, 0, 0, 1, 'x', 0xc6, 0, 0, 0, 0});
  bodies.push_back({0x95, 7, 4, 0xa3, 'k', '_', '1', 0x92, 0xc4, 1, 'x', 0xc4, 0, 0xdc, 0, 2, 0xc0, 0xc4, 1, 'y'});
  return bodies;
}

// What serveChunk made of exact copies of the input and of an output of `capacity` bytes.
struct Served {
  check::Exact input, output;
  int32_t report[Report::kLength];

  Served(SpaceId space, const Message& chunk, size_t capacity) : input(chunk), output(std::string(capacity, '\0')) {
    serveChunk(thisThread(), space, kMayUseKeys, input.data(), 0, input.size(), output.data(), output.size(), report);
  }
};

// The code of `[7, code, …]` in an answer's frame.
int codeOf(const uint8_t* frame) { return frame[6]; }

}  // namespace

TEST("one AAD for many items counts for each of them, inline and on the pool") {
  const SpaceId space = spaceWithKey();
  Message body = batch(8600, 0, 65536);
  uint8_t* answer = nullptr;
  CHECK(serveLarge(thisPoolThread(), space, kMayUseKeys, body.data(), body.size(), &answer) > 0);
  CHECK_EQUAL(codeOf(answer), static_cast<int>(Status::TooLarge));
  free(answer);
  // A tenth of it may be done, but not on the event loop.
  Message frame = framed(batch(860, 0, 65536));
  Message output(1 << 20);
  int32_t report[Report::kLength];
  serveChunk(thisThread(), space, kMayUseKeys, frame.data(), 0, frame.size(), output.data(), output.size(), report);
  CHECK_EQUAL(report[Report::kDeferred], 1);
  CHECK_EQUAL(report[Report::kFirst + 2], static_cast<int32_t>(Report::kLarge));
  KeyTable::instance().closeSpace(space);
}

TEST("an AAD above its limit costs no uses") {
  const SpaceId space = spaceWithKey();
  Message frame = framed(batch(100, 1, 65537));
  Message output(1 << 20);
  int32_t report[Report::kLength];
  serveChunk(thisThread(), space, kMayUseKeys, frame.data(), 0, frame.size(), output.data(), output.size(), report);
  CHECK_EQUAL(codeOf(output.data()), static_cast<int>(Status::TooLarge));
  CHECK_EQUAL(KeyTable::instance().takeUnusedUses(space)[0].second, uint64_t{1u << 20});
  KeyTable::instance().closeSpace(space);
}

TEST("what was sealed or refused is wiped where it was read") {
  const SpaceId space = spaceWithKey();
  for (const uint32_t bits : {kMayUseKeys, 0u, kMayUseKeys | kIsSealed, uint32_t{kIsUnknown}}) {
    Message frame = framed(batch(3, 50, 0));
    Message output(4096);
    int32_t report[Report::kLength];
    CHECK_EQUAL(std::count(frame.begin(), frame.end(), 0x5a), 150);
    serveChunk(thisThread(), space, bits, frame.data(), 0, frame.size(), output.data(), output.size(), report);
    CHECK_EQUAL(report[Report::kConsumed], static_cast<int32_t>(frame.size()));
    CHECK_EQUAL(std::count(frame.begin(), frame.end(), 0x5a), 0);
  }
  KeyTable::instance().closeSpace(space);
}

TEST("where every request is the caller's, all that can be read are left to it as they are") {
  const SpaceId space = spaceWithKey();
  Message frame = framed(batch(3, 50, 0));
  const Message before = frame;
  Message output(4096);
  int32_t report[Report::kLength];
  serveChunk(thisThread(), space, kLeaveAll, frame.data(), 0, frame.size(), output.data(), output.size(), report);
  CHECK_EQUAL(report[Report::kDeferred], 1);
  CHECK_EQUAL(report[Report::kFirst + 2], static_cast<int32_t>(Report::kCold));
  CHECK_EQUAL(report[Report::kWritten], 0);
  CHECK(frame == before);
  KeyTable::instance().closeSpace(space);
}

TEST("an unfinished frame is left as it is") {
  const SpaceId space = spaceWithKey();
  const Message whole = framed(batch(3, 50, 0));
  Message output(4096);
  int32_t report[Report::kLength];
  for (size_t length = 0; length < whole.size(); ++length) {
    Message part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    serveChunk(thisThread(), space, kMayUseKeys, part.data(), 0, part.size(), output.data(), output.size(), report);
    CHECK_EQUAL(report[Report::kConsumed] + report[Report::kWritten] + report[Report::kDeferred], 0);
    CHECK(std::equal(part.begin(), part.end(), whole.begin()));
  }
  KeyTable::instance().closeSpace(space);
}

TEST("a body cut short anywhere is refused, and no byte behind it is read") {
  const SpaceId space = spaceWithKey();
  for (const Message& body : everyWidth()) {
    for (size_t length = 1; length <= body.size(); ++length) {
      const bool whole = length == body.size();
      const Message part(body.begin(), body.begin() + static_cast<std::ptrdiff_t>(length));
      const Served served(space, framed(part), 4096);
      CHECK_EQUAL(served.report[Report::kServed], 1);
      CHECK(served.report[Report::kWritten] > 0);
      HotRequest request;
      const check::Exact exact(part);
      CHECK_EQUAL(readRequest(exact.data(), exact.size(), &request) == Reading::Hot, whole);
      uint8_t* answer = nullptr;
      const HotResult result = serveLarge(thisPoolThread(), space, kMayUseKeys, exact.data(), exact.size(), &answer);
      if (answer != nullptr) CHECK_EQUAL(codeOf(answer) == 0, whole);
      CHECK(whole ? result > 0 : answer != nullptr || result == hotFailure(Status::InvalidArgument));
      free(answer);
    }
  }
  KeyTable::instance().closeSpace(space);
}

TEST("a walk ends at the answer for which the output has no room left") {
  const SpaceId space = spaceWithKey();
  // Of each size: many answers that are smaller than the room asked for them, and few that fill it.
  for (const size_t size : {size_t{6}, size_t{1500}}) {
    constexpr int kFrames = 14;
    const Message frame = framed(single(7, size));
    Message chunk;
    for (int i = 0; i < kFrames; ++i) chunk.insert(chunk.end(), frame.begin(), frame.end());
    for (size_t capacity = size + 300; capacity < 2 * size + 700; capacity += 7) {
      const Served served(space, chunk, capacity);
      const int32_t done = served.report[Report::kServed];
      CHECK(done > 0 && done < kFrames);
      CHECK_EQUAL(served.report[Report::kFlags], int32_t{Report::kOutputFull});
      CHECK_EQUAL(served.report[Report::kConsumed], done * static_cast<int32_t>(frame.size()));
      CHECK(static_cast<size_t>(served.report[Report::kWritten]) <= capacity);
      // The frames that were not reached are as they came.
      CHECK(std::equal(served.input.begin() + served.report[Report::kConsumed], served.input.end(),
                       chunk.begin() + served.report[Report::kConsumed]));
    }
  }
  KeyTable::instance().closeSpace(space);
}

TEST("the largest answers there are keep within their bound") {
  const SpaceId space = spaceWithKey();
  Handle serving;
  CHECK_OK(KeyTable::instance().publish(space, keys::loose(space), "k_2", UINT32_MAX, 1u << 20, &serving));
  // The id, the data's length and the key's version as wide as they can be.
  Message wide = single(UINT32_MAX, 70000);
  wide[10] = '2';
  // No item is a ciphertext, so that each is answered with its error, which is longer than the item.
  Message errors = batch(100, 0, 0);
  errors[2] = 5;
  for (const Message& body : {wide, errors, batch(100, 1, 0)}) {
    HotRequest request;
    CHECK(readRequest(body.data(), body.size(), &request) == Reading::Hot);
    const size_t bound = answerBound(request);
    const Served served(space, framed(body), bound);
    CHECK_EQUAL(served.report[Report::kServed], 1);
    const int32_t written = served.report[Report::kWritten];
    CHECK(static_cast<size_t>(written) > body.size() && static_cast<size_t>(written) <= bound);
    const check::Exact large(body);
    uint8_t* answer = nullptr;
    CHECK_EQUAL(serveLarge(thisPoolThread(), space, kMayUseKeys, large.data(), large.size(), &answer), HotResult{written});
    free(answer);
  }
  KeyTable::instance().closeSpace(space);
}

MAIN

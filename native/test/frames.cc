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

MAIN

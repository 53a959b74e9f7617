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

// A walk with room for any number of requests.
void serve(SpaceId space, uint32_t bits, Message& chunk, Message& output, int32_t* report, int32_t room = INT32_MAX) {
  report[Report::kUnits] = room;
  serveChunk(thisThread(), space, bits, AuditActors::kNone, chunk.data(), 0, chunk.size(), output.data(), output.size(), report);
}

// What serveChunk made of exact copies of the input and of an output of `capacity` bytes.
struct Served {
  check::Exact input, output;
  int32_t report[Report::kLength];

  Served(SpaceId space, const Message& chunk, size_t capacity) : input(chunk), output(std::string(capacity, '\0')) {
    report[Report::kUnits] = INT32_MAX;
    serveChunk(thisThread(), space, kMayUseKeys, AuditActors::kNone, input.data(), 0, input.size(), output.data(), output.size(), report);
  }
};

// The code of `[7, code, …]` in an answer's frame.
int codeOf(const uint8_t* frame) { return frame[6]; }

}  // namespace

TEST("one AAD for many items counts for each of them, inline and on the pool") {
  const SpaceId space = spaceWithKey();
  Message body = batch(8600, 0, 65536);
  uint8_t* answer = nullptr;
  CHECK(serveLarge(thisPoolThread(), space, kMayUseKeys, AuditActors::kNone, body.data(), body.size(), &answer) > 0);
  CHECK_EQUAL(codeOf(answer), static_cast<int>(Status::TooLarge));
  free(answer);
  // A tenth of it may be done, but not on the event loop.
  Message frame = framed(batch(860, 0, 65536));
  Message output(1 << 20);
  int32_t report[Report::kLength];
  serve(space, kMayUseKeys, frame, output, report);
  CHECK_EQUAL(report[Report::kDeferred], 1);
  CHECK_EQUAL(report[Report::kFirst + 2], static_cast<int32_t>(Report::kLarge));
  KeyTable::instance().closeSpace(space);
}

TEST("an AAD above its limit costs no uses") {
  const SpaceId space = spaceWithKey();
  Message frame = framed(batch(100, 1, 65537));
  Message output(1 << 20);
  int32_t report[Report::kLength];
  serve(space, kMayUseKeys, frame, output, report);
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
    serve(space, bits, frame, output, report);
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
  serve(space, kLeaveAll, frame, output, report);
  CHECK_EQUAL(report[Report::kDeferred], 1);
  CHECK_EQUAL(report[Report::kFirst + 2], static_cast<int32_t>(Report::kCold));
  CHECK_EQUAL(report[Report::kWritten], 0);
  CHECK(frame == before);
  KeyTable::instance().closeSpace(space);
}

TEST("a peer narrowed by a policy is served with the keys that cover it, whoever else they cover, and with no other") {
  const SpaceId space = spaceWithKey();
  KeyTable& table = KeyTable::instance();
  const uint32_t mine = table.newPolicy(), others = table.newPolicy();
  CHECK(mine != 0 && mine != others);
  Message output(4096);
  int32_t report[Report::kLength];
  const auto why = [&](uint32_t policy) {
    Message frame = framed(batch(3, 50, 0));
    serve(space, kMayUseKeys | policy << kPolicyShift, frame, output, report);
    if (report[Report::kDeferred] == 0) return codeOf(output.data()) == 0 ? -1 : -2;
    // What is asked about again is still to be served.
    CHECK_EQUAL(std::count(frame.begin(), frame.end(), 0x5a), 150);
    return static_cast<int>(report[Report::kFirst + 2]);
  };
  const auto onPool = [&](uint32_t policy) {
    Message body = batch(3, 50, 0);
    uint8_t* answer = nullptr;
    const HotResult result = serveLarge(thisPoolThread(), space, kMayUseKeys | policy << kPolicyShift, AuditActors::kNone, body.data(), body.size(), &answer);
    free(answer);
    return result;
  };
  CHECK_EQUAL(why(mine), static_cast<int>(Report::kNotCoveredKey));
  CHECK_EQUAL(onPool(mine), kNotCovered);
  table.cover(space, "k_1", mine);
  for (int round = 0; round < 2; ++round) {
    CHECK_EQUAL(why(mine), -1);
    CHECK_EQUAL(why(others), static_cast<int>(Report::kNotCoveredKey));
    CHECK(onPool(mine) > 0);
    CHECK_EQUAL(onPool(others), kNotCovered);
    CHECK_EQUAL(why(0), -1);
  }
  // Without its role no policy helps.
  Message frame = framed(batch(3, 50, 0));
  serve(space, mine << kPolicyShift, frame, output, report);
  CHECK_EQUAL(codeOf(output.data()), static_cast<int>(Status::PermissionDenied));
  KeyTable::instance().closeSpace(space);
}

TEST("a key that comes back, or takes the place of another, serves no policy that it was not found for") {
  const SpaceId space = spaceWithKey();
  KeyTable& table = KeyTable::instance();
  const uint32_t policy = table.newPolicy();
  Context* context = nullptr;
  const auto entered = [&](const char* id) {
    const HotResult result = table.enterById(thisThread(), space, id, policy, 0, &context);
    if (result == 0) table.leave(context);
    return result;
  };
  table.cover(space, "k_1", policy);
  CHECK_EQUAL(entered("k_1"), HotResult{0});
  table.retire(space, "k_1", Retire::Evicted);
  CHECK_EQUAL(entered("k_1"), kNotCached);
  // Not cached: there is nothing to remember it by.
  table.cover(space, "k_1", policy);
  const Handle other = keys::published(space, "k_2", 1);
  CHECK_EQUAL(entered("k_2"), kNotCovered);
  const Handle again = keys::published(space, "k_1", 1);
  CHECK(!(other == again));
  CHECK_EQUAL(entered("k_1"), kNotCovered);
  table.cover(space, "k_1", policy);
  table.retire(space, "k_1", Retire::Disabled);
  CHECK_EQUAL(entered("k_1"), kNotCovered);
  table.cover(space, "k_1", policy);
  CHECK_EQUAL(entered("k_1"), hotFailure(Status::KeyDisabled));
  KeyTable::instance().closeSpace(space);
}

TEST("a key remembers the policies that came last, and no policy has two numbers") {
  const SpaceId space = spaceWithKey();
  KeyTable& table = KeyTable::instance();
  const uint32_t first = table.newPolicy();
  Context* context = nullptr;
  const auto isCovered = [&](uint32_t policy) {
    const HotResult result = table.enterById(thisThread(), space, "k_1", policy, 0, &context);
    if (result == 0) table.leave(context);
    return result == 0;
  };
  table.cover(space, "k_1", first);
  table.cover(space, "k_1", first);
  for (uint32_t i = 1; i <= 4; ++i) {
    CHECK(isCovered(first));
    const uint32_t next = table.newPolicy();
    CHECK_EQUAL(next, first + i);
    CHECK(!isCovered(next));
    table.cover(space, "k_1", next);
    CHECK(isCovered(next));
  }
  CHECK(!isCovered(first));
  KeyTable::instance().closeSpace(space);
}

TEST("beyond the room that there is, requests are answered BUSY and wiped, and only a hello is not") {
  const SpaceId space = spaceWithKey();
  const Message one = framed(single(7, 50)), many = framed(batch(3, 50, 0)), hello = framed({0x93, 8, 0, 1, 0xc0}), status = framed({0x92, 9, 10});
  Message chunk;
  for (const Message& frame : {one, many, one, status, hello, many}) chunk.insert(chunk.end(), frame.begin(), frame.end());
  Message output(4096);
  int32_t report[Report::kLength];
  const auto walked = [&](int32_t room, uint32_t bits = kMayUseKeys) {
    Message copy = chunk;
    serve(space, bits, copy, output, report, room);
    CHECK_EQUAL(report[Report::kConsumed], static_cast<int32_t>(chunk.size()));
    CHECK_EQUAL(std::count(copy.begin(), copy.end(), 0x5a), 0);
    return std::vector<int32_t>{report[Report::kUnits], report[Report::kServed], report[Report::kDeferred], report[Report::kBusy]};
  };
  CHECK(walked(INT32_MAX) == (std::vector<int32_t>{10, 4, 2, 0}));
  // The batch goes over the edge as a whole.
  CHECK(walked(2) == (std::vector<int32_t>{5, 5, 1, 3}));
  for (const int32_t none : {0, -1}) CHECK(walked(none) == (std::vector<int32_t>{1, 5, 1, 5}));
  CHECK_EQUAL(codeOf(output.data()), static_cast<int>(Status::Busy));
  // Where nothing can be left to the caller, what would be is refused; the rest is served.
  CHECK(walked(INT32_MAX, kMayUseKeys | kIsFull) == (std::vector<int32_t>{10, 6, 0, 0}));
  KeyTable::instance().closeSpace(space);
}

TEST("an unfinished frame is left as it is") {
  const SpaceId space = spaceWithKey();
  const Message whole = framed(batch(3, 50, 0));
  Message output(4096);
  int32_t report[Report::kLength];
  for (size_t length = 0; length < whole.size(); ++length) {
    Message part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length));
    serve(space, kMayUseKeys, part, output, report);
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
      const HotResult result = serveLarge(thisPoolThread(), space, kMayUseKeys, AuditActors::kNone, exact.data(), exact.size(), &answer);
      if (answer != nullptr) CHECK_EQUAL(codeOf(answer) == 0, whole);
      CHECK(whole ? result > 0 : answer != nullptr || result == hotFailure(Status::InvalidArgument));
      free(answer);
    }
  }
  KeyTable::instance().closeSpace(space);
}

TEST("frames that waited for a key are served where they lie, as far as the output has room, and the others wait on") {
  const SpaceId space = spaceWithKey();
  KeyTable::instance().retire(space, "k_1", Retire::Evicted);
  Message chunk;
  for (uint32_t id = 0; id < 6; ++id) {
    const Message frame = framed(single(id, 100));
    chunk.insert(chunk.end(), frame.begin(), frame.end());
  }
  Message output(1 << 16);
  int32_t first[Report::kLength], report[Report::kLength];
  serve(space, kMayUseKeys, chunk, output, first);
  CHECK_EQUAL(first[Report::kDeferred], 6);
  for (int i = 0; i < 6; ++i) {
    const int32_t* const entry = first + Report::kFirst + i * Report::kFields;
    CHECK_EQUAL(entry[2], static_cast<int32_t>(Report::kNotCachedKey));
    CHECK_EQUAL(keyIdOf(chunk.data() + entry[0], static_cast<size_t>(entry[1])), "k_1");
  }
  const auto again = [&](size_t from, size_t to, size_t capacity) {
    report[Report::kUnits] = INT32_MAX;
    serveListed(thisThread(), space, kMayUseKeys, AuditActors::kNone, chunk.data(), first + Report::kFirst, from, to, output.data(), capacity,
                report);
    return report[Report::kConsumed];
  };
  // Its key is still missing.
  CHECK_EQUAL(again(0, 1, output.size()), 1);
  CHECK_EQUAL(report[Report::kDeferred], 1);
  keys::published(space, "k_1", 1u << 20);
  CHECK_EQUAL(again(0, 6, 550), 2);
  CHECK_EQUAL(report[Report::kServed], 2);
  CHECK((report[Report::kFlags] & Report::kOutputFull) != 0);
  CHECK_EQUAL(again(2, 6, output.size()), 6);
  CHECK_EQUAL(report[Report::kServed], 4);
  CHECK_EQUAL(report[Report::kDeferred], 0);
  CHECK_EQUAL(std::count(chunk.begin(), chunk.end(), 0x5a), 0);
  const Message cold = {0x93, 7, 10, 0xc0};
  CHECK_EQUAL(keyIdOf(cold.data(), cold.size()), "");
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
    CHECK_EQUAL(serveLarge(thisPoolThread(), space, kMayUseKeys, AuditActors::kNone, large.data(), large.size(), &answer), HotResult{written});
    free(answer);
  }
  KeyTable::instance().closeSpace(space);
}

MAIN

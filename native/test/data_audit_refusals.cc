#include "audit_ground.h"

using namespace kms;
using namespace audit;

// What does not begin, or never came to a key: it is told, it uses nothing up, and it leaves no plaintext.

TEST("when the queue of single events is full nothing begins, and nothing is lost") {
  Ground ground(DataMode::Each);
  const Handle key = keys::published(ground.space, "k_1", 1u << 20);
  int32_t bell[2] = {0, 0};
  thisThread().setDoorbell(bell);
  std::vector<uint8_t> out(64);
  const Message data = secret(7);
  const Bytes view{data.data(), data.size()};
  for (int i = 0; i < EventQueue::kCapacity; ++i) {
    CHECK(encryptWith(thisThread(), key, view, {}, out.data()) > 0);
    CHECK_EQUAL(bell[1], i + 1 < EventQueue::kCapacity / 2 ? 0 : 1);
  }
  int32_t deferred = -1;
  Message after;
  CHECK_EQUAL(encryptWith(thisThread(), key, view, {}, out.data()), kNeedsAudit);
  CHECK_EQUAL(decryptWith(thisThread(), key, view, {}, out.data()), kNeedsAudit);
  const Message frame = framed(body(2, "k_1", {secret(30)}));
  CHECK(served(ground.space, actor("uid:7"), frame, &deferred, &after).empty());
  CHECK_EQUAL(deferred, static_cast<int32_t>(Report::kNeedsRoomForEvents));
  CHECK(after == frame);
  Message large = body(4, "k_1", {secret(3)});
  uint8_t* answer = nullptr;
  CHECK_EQUAL(serveLarge(thisPoolThread(), ground.space, kMayUseKeys, actor("uid:7"), large.data(), large.size(), &answer), kNeedsAudit);
  DataEvent event;
  event.actor = actor("uid:7");
  event.items = 1;
  CHECK_EQUAL(tellData(thisThread(), ground.space, "k_2", event), kNeedsAudit);
  // Three lines make room for three events.
  const std::string first = ground.taken(4 * DataAudit::kMaxDataLineBytes);
  const size_t room = linesIn(first).size();
  CHECK(room > 0 && room < 10);
  CHECK(first.size() <= 4 * DataAudit::kMaxDataLineBytes);
  for (size_t i = 0; i < room; ++i) CHECK(encryptWith(thisThread(), key, view, {}, out.data()) > 0);
  CHECK_EQUAL(encryptWith(thisThread(), key, view, {}, out.data()), kNeedsAudit);
  const uint64_t done = EventQueue::kCapacity + room;
  expectSums(sumsOf(first + ground.all()), {{"uid:0 k_1 encrypt ok", {done, done * 7}}});
  // What did not begin took no use.
  CHECK_EQUAL(usesLeft(ground.space), (uint64_t{1} << 20) - done);
  thisThread().setDoorbell(nullptr);
}

TEST("while nothing can be written nothing is done, told or used up, and a plaintext is wiped") {
  Ground ground(DataMode::Grouped);
  const Handle key = keys::published(ground.space, "k_1", 100);
  keys::published(ground.space, "k_2", 0);
  KeyTable::instance().retire(ground.space, "k_2", Retire::Disabled);
  ground.audit->refuse(true);
  std::vector<uint8_t> out(64);
  const Message data = secret(7);
  CHECK_EQUAL(encryptWith(thisThread(), key, Bytes{data.data(), data.size()}, {}, out.data()), hotFailure(Status::AuditUnavailable));
  const Handle disabled = KeyTable::instance().find(ground.space, "k_2");
  CHECK_EQUAL(encryptWith(thisThread(), disabled, Bytes{data.data(), data.size()}, {}, out.data()), hotFailure(Status::AuditUnavailable));
  Message after;
  const Message answer = served(ground.space, actor("uid:7"), framed(body(4, "k_1", {secret(30), secret(31)})), nullptr, &after);
  CHECK_EQUAL(codeOf(answer), static_cast<int>(Status::AuditUnavailable));
  expectNoSecret(std::string(after.begin(), after.end()));
  CHECK_EQUAL(codeOf(served(ground.space, actor("uid:7"), framed(body(3, "k_2", {secret(30)})))), static_cast<int>(Status::AuditUnavailable));
  CHECK(ground.taken().empty());
  ground.audit->refuse(false);
  CHECK(encryptWith(thisThread(), key, Bytes{data.data(), data.size()}, {}, out.data()) > 0);
  expectSums(sumsOf(ground.taken()), {{"uid:0 k_1 encrypt ok", {1, 7}}});
  CHECK_EQUAL(usesLeft(ground.space), uint64_t{99});
}

TEST("past the deadline of a shared store nothing is done or used up, and it is told") {
  Ground ground(DataMode::Grouped);
  const Handle key = keys::published(ground.space, "k_1", 100);
  keys::published(ground.space, "k_2", 0);
  KeyTable::instance().retire(ground.space, "k_2", Retire::Disabled);
  std::vector<uint8_t> out(64);
  const Message data = secret(7);
  const Bytes view{data.data(), data.size()};
  ground.audit->keepFresh(sinceBoot() + int64_t{3600} * 1'000'000'000);
  const HotResult made = encryptWith(thisThread(), key, view, {}, out.data());
  CHECK(made > 0);
  ground.audit->keepFresh(sinceBoot());
  CHECK_EQUAL(encryptWith(thisThread(), key, view, {}, out.data()), hotFailure(Status::StoreUnavailable));
  CHECK_EQUAL(decryptWith(thisThread(), key, Bytes{out.data(), static_cast<size_t>(made)}, {}, out.data()), hotFailure(Status::StoreUnavailable));
  CHECK_EQUAL(encryptWith(thisThread(), KeyTable::instance().find(ground.space, "k_2"), view, {}, out.data()),
              hotFailure(Status::StoreUnavailable));
  CHECK_EQUAL(encryptWith(thisThread(), key, view, {}, out.data(), AuditActors::kUnaudited), hotFailure(Status::StoreUnavailable));
  Message after;
  const Message answer = served(ground.space, actor("uid:0"), framed(body(4, "k_1", {secret(30), secret(31)})), nullptr, &after);
  CHECK_EQUAL(codeOf(answer), static_cast<int>(Status::StoreUnavailable));
  expectNoSecret(std::string(after.begin(), after.end()));
  const std::string lines = ground.taken();
  CHECK(lines.find("STORE_UNAVAILABLE") != std::string::npos);
  ground.audit->keepFresh(sinceBoot() + int64_t{3600} * 1'000'000'000);
  CHECK(encryptWith(thisThread(), key, view, {}, out.data()) > 0);
  CHECK_EQUAL(usesLeft(ground.space), uint64_t{98});
}

TEST("who has no name gets nothing done where it would have to be written") {
  Ground ground(DataMode::Grouped);
  keys::published(ground.space, "k_1", 100);
  for (const uint32_t nobody : {AuditActors::kNone, AuditActors::kMost + 1}) {
    CHECK_EQUAL(codeOf(served(ground.space, nobody, framed(body(2, "k_1", {secret(3)})))), static_cast<int>(Status::AuditUnavailable));
  }
  ground.audit->set(DataMode::Off, AuditActors::kNone);
  CHECK_EQUAL(codeOf(served(ground.space, AuditActors::kNone, framed(body(2, "k_1", {secret(3)})))), 0);
  CHECK(ground.taken().empty());
}

TEST("what never came to a key is told by its id, if it is one") {
  Ground ground(DataMode::Grouped);
  const uint32_t who = actor("uid:7");
  const Message unknown = body(5, "k_unknown", {secret(3), secret(4)});
  CHECK_EQUAL(tellFrame(thisThread(), ground.space, who, unknown.data(), unknown.size(), Status::KeyNotFound), HotResult{0});
  const Message foreign = body(2, "no id", {secret(3)});
  CHECK_EQUAL(tellFrame(thisThread(), ground.space, who, foreign.data(), foreign.size(), Status::KeyNotFound), HotResult{0});
  const Message broken = {0x91};
  CHECK_EQUAL(tellFrame(thisThread(), ground.space, who, broken.data(), broken.size(), Status::KeyNotFound), HotResult{0});
  DataEvent event;
  event.actor = who;
  event.encrypts = true;
  event.items = 1;
  event.bytes = 9;
  event.outcome = Status::KeyExhausted;
  CHECK_EQUAL(tellData(thisThread(), ground.space, "k_unknown", event), HotResult{0});
  expectSums(sumsOf(ground.taken()), {{"uid:7 k_unknown decrypt KEY_NOT_FOUND", {2, 7}}, {"uid:7 k_unknown encrypt KEY_EXHAUSTED", {1, 9}}});
}

MAIN

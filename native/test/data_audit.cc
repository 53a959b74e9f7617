#include "core/data_audit.h"

#include <thread>

#include "audit_ground.h"

using namespace kms;
using namespace audit;

// What the hot path tells the audit log: exact counts, whatever comes, and nothing but ids and numbers.
namespace {

// Random requests of several actors under several keys, and what they have to add up to.
struct Load {
  Ground& ground;
  unsigned seed;
  std::vector<Handle> held;
  Sums expected;

  Load(Ground& where, unsigned from) : ground(where), seed(from) {
    for (int key = 0; key < 5; ++key) held.push_back(keys::published(ground.space, id(key), 1u << 20));
    KeyTable::instance().retire(ground.space, id(4), Retire::Disabled);
  }
  static std::string id(int key) { return "k_" + std::to_string(key); }
  static std::string actorName(int who) { return "uid:" + std::to_string(1000 + who); }
  int below(int bound) {
    seed = seed * 1664525 + 1013904223;
    return static_cast<int>((seed >> 16) % static_cast<unsigned>(bound));
  }
  void expect(const std::string& who, int key, bool encrypts, const char* outcome, size_t bytes) {
    Sum& sum = expected[who + " " + id(key) + (encrypts ? " encrypt " : " decrypt ") + outcome];
    sum.count += 1;
    sum.bytes += bytes;
  }

  void step() {
    const int operation = 2 + below(4), key = below(5), who = below(4);
    const bool encrypts = operation == 2 || operation == 4;
    const int count = operation >= 4 ? below(6) : 1;
    std::vector<Message> items;
    for (int i = 0; i < count; ++i) {
      Message item = secret(static_cast<size_t>(below(60)));
      const bool opens = !encrypts && below(2) == 0 && key != 4;
      if (opens) {
        HotResult result = 0;
        std::vector<uint8_t> out(item.size() + kOverheadBytes);
        result = encryptWith(thisThread(), held[static_cast<size_t>(key)], Bytes{item.data(), item.size()}, {}, out.data(), AuditActors::kUnaudited);
        CHECK(result > 0);
        item = out;
      }
      const char* const outcome = key == 4 ? "KEY_DISABLED" : encrypts || opens ? "ok" : "AUTHENTICATION_FAILED";
      expect(actorName(who), key, encrypts, outcome, item.size());
      items.push_back(item);
    }
    served(ground.space, actor(actorName(who)), framed(body(operation, id(key), items)));
  }

  // By handle, as the space's own actor.
  void embedded() {
    const int key = below(4);
    const Message data = secret(static_cast<size_t>(below(60)));
    const Bytes view{data.data(), data.size()};
    std::vector<uint8_t> out(data.size() + kOverheadBytes);
    if (below(2) == 0) {
      CHECK(encryptWith(thisThread(), held[static_cast<size_t>(key)], view, {}, out.data()) > 0);
      expect("uid:0", key, true, "ok", data.size());
    } else {
      CHECK(decryptWith(thisThread(), held[static_cast<size_t>(key)], view, {}, out.data()) < 0);
      expect("uid:0", key, false, "AUTHENTICATION_FAILED", data.size());
    }
  }
};

}  // namespace

TEST("groups and single events add up to what was done, whoever did what under which key") {
  for (const DataMode mode : {DataMode::Grouped, DataMode::Each}) {
    const auto seed = static_cast<unsigned>(time(nullptr)) * 2 + static_cast<unsigned>(mode);
    printf("seed %u\n", seed);
    Ground ground(mode);
    Load load(ground, seed);
    std::string text;
    for (int i = 0; i < 4000; ++i) {
      load.step();
      if (i % 3 == 0) load.embedded();
      if (i % 700 == 0) text += ground.taken();
    }
    text += ground.all();
    expectSums(sumsOf(text), load.expected);
    expectNoSecret(text);
    CHECK(load.expected.size() > 40);
  }
}

TEST("an interval has one line for each actor, key, way and outcome, with its time span") {
  Ground ground(DataMode::Grouped);
  keys::published(ground.space, "k_1", 1000);
  for (int i = 0; i < 10; ++i) served(ground.space, actor("uid:7"), framed(body(2, "k_1", {secret(5)})));
  served(ground.space, actor("uid:7"), framed(body(4, "k_1", {secret(5), secret(6), secret(0)})));
  const std::vector<std::string> lines = linesIn(ground.taken());
  CHECK_EQUAL(lines.size(), size_t{1});
  CHECK_EQUAL(nameOf(lines[0]), "uid:7 k_1 encrypt ok");
  CHECK_EQUAL(number(lines[0], "count"), uint64_t{13});
  CHECK_EQUAL(number(lines[0], "bytes"), uint64_t{61});
  CHECK_EQUAL(member(lines[0], "first").size(), kTimeBytes);
  CHECK(member(lines[0], "first") <= member(lines[0], "last"));
  CHECK(member(lines[0], "last") <= member(lines[0], "time"));
  CHECK(lines[0].find(",\"type\":\"encrypt\",\"actor\":\"uid:7\",\"key_id\":\"k_1\",\"outcome\":\"ok\",\"count\":13,\"bytes\":61,\"first\":\"") !=
        std::string::npos);
  CHECK(ground.taken().empty());
}

TEST("a single event's line says its bytes, and of a batch the items") {
  Ground ground(DataMode::Each);
  keys::published(ground.space, "k_1", 1000);
  served(ground.space, actor("uid:7"), framed(body(2, "k_1", {secret(5)})));
  served(ground.space, actor("uid:7"), framed(body(4, "k_1", {secret(5), secret(6)})));
  served(ground.space, actor("uid:7"), framed(body(5, "k_1", {secret(9), secret(40)})));
  served(ground.space, actor("uid:7"), framed(body(4, "k_1", {})));
  const std::vector<std::string> lines = linesIn(ground.taken());
  CHECK_EQUAL(lines.size(), size_t{3});
  CHECK(lines[0].find("\"type\":\"encrypt\",\"actor\":\"uid:7\",\"key_id\":\"k_1\",\"outcome\":\"ok\",\"bytes\":5},\"sig\"") != std::string::npos);
  CHECK(lines[1].find("\"outcome\":\"ok\",\"bytes\":11,\"items\":2},\"sig\"") != std::string::npos);
  CHECK(lines[2].find("\"type\":\"decrypt\",\"actor\":\"uid:7\",\"key_id\":\"k_1\",\"outcome\":\"AUTHENTICATION_FAILED\",\"bytes\":49,\"items\":2},") !=
        std::string::npos);
}

TEST("a group outlives its key, and another life of the key joins it") {
  Ground ground(DataMode::Grouped);
  for (int life = 0; life < 3; ++life) {
    keys::published(ground.space, "k_gone", 10);
    served(ground.space, actor("uid:7"), framed(body(2, "k_gone", {secret(4)})));
    KeyTable::instance().retire(ground.space, "k_gone", Retire::Evicted);
    // In its place.
    keys::published(ground.space, "k_other", 10);
    served(ground.space, actor("uid:7"), framed(body(2, "k_other", {secret(2)})));
    KeyTable::instance().retire(ground.space, "k_other", Retire::Evicted);
  }
  expectSums(sumsOf(ground.taken()), {{"uid:7 k_gone encrypt ok", {3, 12}}, {"uid:7 k_other encrypt ok", {3, 6}}});
}

TEST("what several threads did is one line, and those that ended are in it") {
  Ground ground(DataMode::Grouped);
  constexpr int kKeys = 600;
  for (int key = 0; key < kKeys; ++key) keys::published(ground.space, Load::id(key), 100);
  const auto work = [&] {
    for (int key = 0; key < kKeys; ++key) served(ground.space, actor("uid:7"), framed(body(2, Load::id(key), {secret(3)})));
  };
  work();
  std::thread other(work);
  other.join();
  const std::vector<std::string> lines = linesIn(ground.taken());
  // 600 of the one thread and 400 of the other are groups, of the same 600 keys.
  CHECK_EQUAL(lines.size(), size_t{601});
  uint64_t count = 0;
  for (const std::string& line : lines) count += number(line, "count");
  CHECK_EQUAL(count, uint64_t{2 * kKeys});
  CHECK_EQUAL(number(lines[600], "keys"), uint64_t{200});
}

TEST("room that an operation did not need is there for others") {
  Ground ground(DataMode::Each);
  DataEvent event;
  event.actor = actor("uid:7");
  event.items = 1;
  for (int i = 0; i < EventQueue::kCapacity + 1; ++i) CHECK_EQUAL(tellData(thisThread(), ground.space, "no id", event), HotResult{0});
  CHECK(ground.taken().empty());
}

TEST("beyond a thousand groups the rest is one line by actor, way and outcome, with how many keys they were") {
  Ground ground(DataMode::Grouped);
  constexpr int kKeys = 1300;
  for (int key = 0; key < kKeys; ++key) keys::published(ground.space, Load::id(key), 100);
  for (int round = 0; round < 2; ++round) {
    for (int key = 0; key < kKeys; ++key) served(ground.space, actor("uid:7"), framed(body(2, Load::id(key), {secret(3)})));
  }
  served(ground.space, actor("uid:8"), framed(body(2, Load::id(5), {secret(3)})));
  served(ground.space, actor("uid:7"), framed(body(3, Load::id(5), {secret(3)})));
  const std::vector<std::string> lines = linesIn(ground.taken());
  CHECK_EQUAL(lines.size(), size_t{1003});
  Sum grouped;
  std::map<std::string, std::string> rest;
  for (const std::string& line : lines) {
    if (member(line, "key_id").empty()) {
      rest[nameOf(line)] = member(line, "count") + " " + member(line, "bytes") + " " + member(line, "keys");
      CHECK(line.find("\"last\":\"" + member(line, "last") + "\",\"keys\":" + member(line, "keys") + "},\"sig\"") != std::string::npos);
    } else {
      CHECK(member(line, "keys").empty());
      CHECK_EQUAL(number(line, "count"), uint64_t{2});
      ++grouped.count;
    }
  }
  CHECK_EQUAL(grouped.count, uint64_t{1000});
  CHECK_EQUAL(rest["uid:7  encrypt ok"], "600 1800 300");
  CHECK_EQUAL(rest["uid:8  encrypt ok"], "1 3 1");
  CHECK_EQUAL(rest["uid:7  decrypt AUTHENTICATION_FAILED"], "1 3 1");
  // The groups are there for the next interval.
  served(ground.space, actor("uid:7"), framed(body(2, Load::id(1), {secret(3)})));
  expectSums(sumsOf(ground.taken()), {{"uid:7 k_1 encrypt ok", {1, 3}}});
}

TEST("no more lines come at once than fit, of groups and of what is beyond them too") {
  Ground ground(DataMode::Grouped);
  constexpr int kKeys = 990, kActors = 300;
  constexpr size_t kMost = 8 * DataAudit::kMaxDataLineBytes;
  for (int key = 0; key < kKeys; ++key) keys::published(ground.space, Load::id(key), 1000);
  Sums expected;
  for (int key = 0; key < kKeys; ++key) {
    served(ground.space, actor("uid:7"), framed(body(2, Load::id(key), {secret(3)})));
    expected["uid:7 " + Load::id(key) + " encrypt ok"] = {1, 3};
  }
  for (int who = 0; who < kActors; ++who) {
    served(ground.space, actor("uid:" + std::to_string(5000 + who)), framed(body(2, Load::id(1), {secret(3)})));
    expected["uid:" + std::to_string(5000 + who) + (who < 10 ? " k_1" : " ") + " encrypt ok"] = {1, 3};
  }
  std::string text;
  for (std::string more = ground.taken(kMost); !more.empty(); more = ground.taken(kMost)) {
    CHECK(more.size() <= kMost);
    text += more;
    // What is done meanwhile has its turn after what was there before.
    if (linesIn(text).size() < 100) served(ground.space, actor("uid:7"), framed(body(2, "k_0", {secret(3)})));
  }
  const uint64_t again = sumsOf(text)["uid:7 k_0 encrypt ok"].count;
  CHECK(again > 5);
  expected["uid:7 k_0 encrypt ok"] = {again, 3 * again};
  expectSums(sumsOf(text), expected);
}

TEST("different keys are counted once, beyond what is counted too") {
  DistinctKeys one, two;
  for (uint64_t hash = 0; hash < 5000; ++hash) {
    one.add(hash * 0x9e3779b97f4a7c15u);
    one.add(hash * 0x9e3779b97f4a7c15u);
    two.add((hash + 2500) * 0x9e3779b97f4a7c15u);
  }
  CHECK_EQUAL(one.count(), 5000u);
  one.absorb(two);
  CHECK_EQUAL(one.count(), 7500u);
  CHECK_EQUAL(two.count(), 0u);
  for (uint64_t hash = 1; hash <= DistinctKeys::kCountedKeys + 5; ++hash) two.add(hash);
  CHECK_EQUAL(one.count() + two.count(), static_cast<uint32_t>(DistinctKeys::kCountedKeys));
}

TEST("spaces keep their events apart, and what is refused by role or seal is none") {
  Ground one(DataMode::Grouped), other(DataMode::Each);
  keys::published(one.space, "k_1", 100);
  keys::published(other.space, "k_1", 100);
  Message output(1 << 12), chunk = framed(body(2, "k_1", {secret(3)}));
  std::vector<int32_t> report(Report::kLength);
  for (const uint32_t bits : {0u, kIsUnknown, kMayUseKeys | kIsSealed}) {
    report[Report::kUnits] = INT32_MAX;
    Message again = chunk;
    serveChunk(thisThread(), one.space, bits, actor("uid:7"), again.data(), 0, again.size(), output.data(), output.size(), report.data());
    CHECK_EQUAL(report[Report::kServed], 1);
  }
  for (int i = 0; i < 3; ++i) served(one.space, actor("uid:7"), chunk);
  served(other.space, actor("uid:7"), chunk);
  expectSums(sumsOf(one.taken()), {{"uid:7 k_1 encrypt ok", {3, 9}}});
  expectSums(sumsOf(other.taken()), {{"uid:7 k_1 encrypt ok", {1, 3}}});
}

TEST("a thread that goes to and fro between spaces counts in one place for each") {
  Ground one(DataMode::Grouped);
  // Threads remember spaces by their numbers' last bits.
  for (int i = 0; i < 7; ++i) KeyTable::instance().openSpace(1);
  Ground other(DataMode::Grouped);
  CHECK_EQUAL(other.space, one.space + 8);
  for (const Ground* ground : {&one, &other}) keys::published(ground->space, "k_1", 10000);
  constexpr uint64_t kTimes = 1500;
  for (uint64_t i = 0; i < kTimes; ++i) {
    for (const Ground* ground : {&one, &other}) served(ground->space, actor("uid:7"), framed(body(2, "k_1", {secret(3)})));
  }
  // What is not one group for each would be more groups than there may be.
  expectSums(sumsOf(one.taken()), {{"uid:7 k_1 encrypt ok", {kTimes, 3 * kTimes}}});
  expectSums(sumsOf(other.taken()), {{"uid:7 k_1 encrypt ok", {kTimes, 3 * kTimes}}});
}

TEST("events that a chain has no more lines for wait for the next chain") {
  for (const DataMode mode : {DataMode::Grouped, DataMode::Each}) {
    Ground ground(mode);
    keys::published(ground.space, "k_1", 100);
    keys::published(ground.space, "k_2", 100);
    for (const char* id : {"k_1", "k_2"}) served(ground.space, actor("uid:7"), framed(body(2, id, {secret(3)})));
    ground.chain->close();
    std::vector<uint8_t> lines;
    CHECK_FAILURE(ground.audit->take(*ground.chain, 1 << 20, &lines), Status::Sealed, "");
    CHECK(lines.empty());
    ground.newChain();
    served(ground.space, actor("uid:7"), framed(body(2, "k_1", {secret(3)})));
    expectSums(sumsOf(ground.all()), {{"uid:7 k_1 encrypt ok", {2, 6}}, {"uid:7 k_2 encrypt ok", {1, 3}}});
  }
}

MAIN

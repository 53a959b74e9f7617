#include <atomic>
#include <chrono>
#include <thread>

#include "audit_ground.h"

using namespace kms;
using namespace audit;

// Threads use keys while others evict and disable them, change how it is audited, take the lines and close spaces. What must hold:
// every operation that was done is in exactly one line.
namespace {

constexpr int kKeys = 24;
constexpr auto kRunning = std::chrono::milliseconds(2500);

std::string idOf(int key) { return "k_" + std::to_string(key); }

struct Shared {
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> handles[kKeys] = {};
  std::atomic<uint64_t> done{0}, bytes{0}, full{0}, refused{0};
};

uint64_t packed(Handle handle) { return uint64_t{handle.generation} << 32 | handle.slot; }
Handle unpacked(uint64_t bits) { return Handle{static_cast<uint32_t>(bits), static_cast<uint32_t>(bits >> 32)}; }

// By handle and by id, each operation with an outcome counts as one message.
void use(Ground& ground, Shared& shared, unsigned seed) {
  const uint32_t who = actor("uid:" + std::to_string(seed));
  ThreadState thread(8);
  std::vector<uint8_t> out(512);
  const Message data(11, 'x');
  while (!shared.stop) {
    seed = seed * 1664525 + 1013904223;
    const int key = static_cast<int>((seed >> 16) % kKeys);
    HotResult result = 0;
    if ((seed & 0x8000) != 0) {
      result = encryptWith(thread, unpacked(shared.handles[key].load()), Bytes{data.data(), data.size()}, {}, out.data(), who);
    } else {
      Message request = framed(body(2, idOf(key), {data}));
      std::vector<int32_t> report(Report::kLength);
      report[Report::kUnits] = INT32_MAX;
      serveChunk(thread, ground.space, kMayUseKeys, who, request.data(), 0, request.size(), out.data(), out.size(), report.data());
      if (report[Report::kDeferred] != 0) {
        result = report[Report::kFirst + 2] == Report::kNeedsRoomForEvents ? kNeedsAudit : kNotCached;
      } else if ((report[Report::kFlags] & Report::kOutputFull) != 0) {
        result = kNotCached;
      }
    }
    if (result == kNeedsAudit) shared.full.fetch_add(1);
    if (result == kNotCached || result == kNeedsUses || result == kNeedsAudit) {
      shared.refused.fetch_add(1);
      continue;
    }
    shared.done.fetch_add(1);
    shared.bytes.fetch_add(data.size());
  }
}

void change(Ground& ground, Shared& shared, unsigned seed) {
  while (!shared.stop) {
    seed = seed * 1664525 + 1013904223;
    const int key = static_cast<int>((seed >> 16) % kKeys);
    KeyTable::instance().retire(ground.space, idOf(key), (seed & 0x400) != 0 ? Retire::Evicted : Retire::Disabled);
    shared.handles[key] = packed(keys::published(ground.space, idOf(key), 200));
    KeyTable::instance().sweep(1, 0);
    std::this_thread::sleep_for(std::chrono::microseconds(20));
  }
}

// Lines are taken while modes go to and fro: what was reserved under one may be told under the other.
void take(Ground& ground, Shared& shared, std::string* text) {
  for (int round = 0; !shared.stop; ++round) {
    *text += ground.taken(64 * 1024);
    ground.audit->set(round % 2 == 0 ? DataMode::Each : DataMode::Grouped, actor("uid:0"));
    std::this_thread::sleep_for(std::chrono::milliseconds(3));
  }
}

}  // namespace

TEST("every operation is in one line, while keys, modes and takers change") {
  Ground ground(DataMode::Grouped, kKeys / 2);
  Shared shared;
  for (int key = 0; key < kKeys; ++key) shared.handles[key] = packed(keys::published(ground.space, idOf(key), 200));
  std::string text;
  std::vector<std::thread> threads;
  for (unsigned i = 1; i <= 3; ++i) threads.emplace_back([&, i] { use(ground, shared, i); });
  for (unsigned i = 1; i <= 2; ++i) threads.emplace_back([&, i] { change(ground, shared, i + 40); });
  threads.emplace_back([&] { take(ground, shared, &text); });
  std::this_thread::sleep_for(kRunning);
  for (int i = 0; i < 300 && shared.done <= 1000; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  shared.stop = true;
  for (std::thread& thread : threads) thread.join();
  text += ground.all();
  Sum all;
  for (const auto& [name, sum] : sumsOf(text)) {
    all.count += sum.count;
    all.bytes += sum.bytes;
  }
  printf("%llu done, %llu refused, %llu for want of room\n", static_cast<unsigned long long>(shared.done.load()),
         static_cast<unsigned long long>(shared.refused.load()), static_cast<unsigned long long>(shared.full.load()));
  CHECK(shared.done > 1000);
  CHECK_EQUAL(all.count, shared.done.load());
  CHECK_EQUAL(all.bytes, shared.bytes.load());
}

TEST("once all keys of a space are retired, what was done with them is told, and nothing more is done") {
  for (int round = 0; round < 60; ++round) {
    Ground ground(round % 2 == 0 ? DataMode::Grouped : DataMode::Each);
    const Handle key = keys::published(ground.space, "k_1", 1u << 20);
    keys::published(ground.space, "k_2", 0);
    KeyTable::instance().retire(ground.space, "k_2", Retire::Disabled);
    std::atomic<uint64_t> done{0};
    std::vector<std::thread> threads;
    for (int i = 0; i < 3; ++i) {
      threads.emplace_back([&] {
        ThreadState thread(8);
        // As long as the pool's are.
        const Message data(40000, 'x');
        std::vector<uint8_t> out(data.size() + kOverheadBytes);
        for (;;) {
          const HotResult result = encryptWith(thread, key, Bytes{data.data(), data.size()}, {}, out.data(), actor("uid:1"));
          if (result == kNotCached) break;
          CHECK(result > 0);
          done.fetch_add(1);
        }
      });
    }
    while (done < 5) std::this_thread::yield();
    KeyTable::instance().retireAll(ground.space);
    const std::string text = ground.all();
    for (std::thread& thread : threads) thread.join();
    CHECK_EQUAL(sumsOf(text + ground.all())["uid:1 k_1 encrypt ok"].count, done.load());
    CHECK_EQUAL(sumsOf(text)["uid:1 k_1 encrypt ok"].count, done.load());
    for (const char* id : {"k_1", "k_2"}) CHECK(KeyTable::instance().find(ground.space, id).none());
    // The space itself is there, and keys of it that are not cached: the chain's, for one.
    std::vector<uint8_t> line;
    CHECK_OK(ground.chain->line("\"type\":\"seal\"", Handle{}, &line));
  }
}

TEST("spaces close and open under their users and takers") {
  std::atomic<bool> stop{false};
  std::atomic<SpaceId> space{0};
  std::atomic<uint64_t> done{0}, lines{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      ThreadState thread(8);
      std::vector<uint8_t> out(512);
      while (!stop) {
        Message request = framed(body(2, "k_1", {Message(5, 'x')}));
        std::vector<int32_t> report(Report::kLength);
        report[Report::kUnits] = INT32_MAX;
        serveChunk(thread, space, kMayUseKeys, actor("uid:1"), request.data(), 0, request.size(), out.data(), out.size(), report.data());
        done += static_cast<uint64_t>(report[Report::kServed]);
      }
    });
  }
  for (int round = 0; round < 200 || (round < 20000 && (done < 100 || lines == 0)); ++round) {
    Ground ground(round % 2 == 0 ? DataMode::Each : DataMode::Grouped, 4);
    keys::published(ground.space, "k_1", 1000);
    space = ground.space;
    const std::shared_ptr<AuditChain> chain = ground.chain;
    const std::shared_ptr<DataAudit> audit = ground.audit;
    std::thread taker([&] {
      for (int i = 0; i < 5; ++i) {
        std::vector<uint8_t> taken;
        // Sealed once the space is closed, with no line then.
        static_cast<void>(audit->take(*chain, 64 * 1024, &taken));
        lines += static_cast<uint64_t>(std::count(taken.begin(), taken.end(), '\n'));
        std::this_thread::yield();
      }
    });
    std::this_thread::sleep_for(std::chrono::microseconds(500));
    KeyTable::instance().closeSpace(ground.space);
    DataAudits::instance().forget(ground.space);
    taker.join();
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  printf("%llu served, %llu lines\n", static_cast<unsigned long long>(done.load()), static_cast<unsigned long long>(lines.load()));
  CHECK(done >= 100);
  CHECK(lines > 0);
}

MAIN

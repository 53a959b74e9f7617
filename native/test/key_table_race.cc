#include <atomic>
#include <chrono>
#include <thread>

#include "check.h"
#include "keys.h"

using namespace kms;

// Threads encrypt and decrypt while others disable, destroy, evict, sweep, grant and seal. What must hold: no operation
// with a handle succeeds once the call that retired it has returned; what was sealed opens to what it was. Then threads
// use up what one key is granted: not one use more is taken than was given, and none is lost.
namespace {

constexpr int kKeys = 24;
constexpr int kUsers = 3;
constexpr auto kRunning = std::chrono::milliseconds(2500);

struct Shared {
  std::atomic<uint64_t> handle{0};
  std::atomic<uint64_t> retired{0};
};

uint64_t packed(Handle handle) { return uint64_t{handle.generation} << 32 | handle.slot; }
Handle unpacked(uint64_t bits) { return Handle{static_cast<uint32_t>(bits), static_cast<uint32_t>(bits >> 32)}; }

Shared slots[kKeys];
std::atomic<bool> stop{false};
std::atomic<uint64_t> used{0}, afterDeath{0}, wrong{0}, refused{0};
std::atomic<SpaceId> space{0};

std::string idOf(int key) { return "k_" + std::to_string(key); }

void useKeys(unsigned seed) {
  while (!stop) {
    seed = seed * 1664525 + 1013904223;
    Shared& slot = slots[(seed >> 16) % kKeys];
    // Every other time on purpose a handle that was retired last.
    const uint64_t bits = (seed & 0x8000) != 0 ? slot.handle.load() : slot.retired.load();
    // Read before the operation: if this very handle was retired by then, the operation must not succeed.
    const bool dead = slot.retired.load() == bits;
    HotResult result = 0;
    std::string text;
    const std::vector<uint8_t> ciphertext = keys::sealed(unpacked(bits), "some text", &result);
    if (result < 0) {
      refused.fetch_add(1);
      continue;
    }
    used.fetch_add(1);
    if (dead) afterDeath.fetch_add(1);
    result = keys::opened(unpacked(bits), ciphertext, &text);
    if (result >= 0 && text != "some text") wrong.fetch_add(1);
    if (result == hotFailure(Status::AuthenticationFailed)) wrong.fetch_add(1);
  }
}

void publishAgain(int key) {
  slots[key].handle = packed(keys::published(space, idOf(key), 200));
}

void retireKeys(unsigned seed, Retire how) {
  KeyTable& table = KeyTable::instance();
  while (!stop) {
    seed = seed * 1664525 + 1013904223;
    const int key = static_cast<int>((seed >> 16) % kKeys);
    // Of one space: while another takes its place, a call for the new one retires no key of the old.
    const SpaceId of = space;
    const uint64_t bits = packed(table.find(of, idOf(key)));
    table.retire(of, idOf(key), how);
    if (bits >> 32 != 0) slots[key].retired = bits;
    publishAgain(key);
  }
}

void tend() {
  KeyTable& table = KeyTable::instance();
  for (int round = 0; !stop; ++round) {
    table.sweep(1, 3);
    table.grantUses(space, idOf(round % kKeys), 50);
    table.takeUseRequests(space);
    // Reads what the other threads are counting.
    table.counts();
    std::this_thread::yield();
  }
}

void sealAll() {
  KeyTable& table = KeyTable::instance();
  while (!stop) {
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
    uint64_t before[kKeys];
    for (int key = 0; key < kKeys; ++key) before[key] = slots[key].handle;
    const SpaceId old = space;
    space = table.openSpace(kKeys / 2);
    table.closeSpace(old);
    for (int key = 0; key < kKeys; ++key) slots[key].retired = before[key];
    for (int key = 0; key < kKeys; ++key) publishAgain(key);
  }
}

// Takes uses of the one key until there are none to take and none will come; how many it got. Now and then the thread's
// state ends with uses it had taken ahead, and another begins.
uint64_t exhaust(uint32_t keptContexts, Handle key, uint32_t most, const std::atomic<bool>& allGranted) {
  KeyTable& table = KeyTable::instance();
  uint64_t got = 0;
  for (;;) {
    ThreadState thread(keptContexts);
    for (uint32_t round = 0; round < 100; ++round) {
      const uint32_t uses = 1 + round % most;
      // Read before the try: what is refused after the last grant is refused for good.
      const bool last = allGranted;
      Context* context = nullptr;
      if (table.enter(thread, key, uses, &context) == 0) {
        got += uses;
        table.leave(context);
      } else if (last) {
        return got;
      } else {
        std::this_thread::yield();
      }
    }
  }
}

}  // namespace

TEST("no key is used after its retirement returned") {
  CHECK(KeyTable::instance().open(256 * 1024, 8).ok());
  space = KeyTable::instance().openSpace(kKeys / 2);
  for (int key = 0; key < kKeys; ++key) publishAgain(key);
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kUsers; ++i) threads.emplace_back(useKeys, i + 1);
  threads.emplace_back(retireKeys, 77, Retire::Disabled);
  threads.emplace_back(retireKeys, 78, Retire::Evicted);
  threads.emplace_back(retireKeys, 79, Retire::Destroyed);
  threads.emplace_back(tend);
  threads.emplace_back(sealAll);
  std::this_thread::sleep_for(kRunning);
  stop = true;
  for (std::thread& thread : threads) thread.join();
  printf("%llu encryptions, %llu refused\n", static_cast<unsigned long long>(used.load()),
         static_cast<unsigned long long>(refused.load()));
  CHECK(used > 1000);
  CHECK(refused > 0);
  CHECK_EQUAL(afterDeath.load(), uint64_t{0});
  CHECK_EQUAL(wrong.load(), uint64_t{0});
  KeyTable::instance().closeSpace(space);
  CHECK_EQUAL(Arena::instance().used(), 0u);
}

TEST("exactly as many uses are taken as were granted, whoever takes them and gives them back") {
  constexpr uint64_t kGrant = 500, kGrants = 400;
  KeyTable& table = KeyTable::instance();
  const SpaceId own = table.openSpace(4);
  const Handle key = keys::published(own, "k_1", 0);
  std::atomic<bool> allGranted{false};
  std::atomic<uint64_t> taken{0};
  std::vector<std::thread> threads;
  // Those that keep no context have no uses ahead, so that each is a step on the shared counter; the others take blocks of
  // it, of which the ends of their states and the sweeps give the rest back.
  for (int i = 0; i < 2; ++i) threads.emplace_back([&] { taken += exhaust(0, key, 1, allGranted); });
  for (int i = 0; i < 2; ++i) threads.emplace_back([&] { taken += exhaust(8, key, 3, allGranted); });
  for (uint64_t i = 0; i < kGrants; ++i) {
    table.grantUses(own, "k_1", kGrant);
    table.sweep(1, 0);
    std::this_thread::yield();
  }
  allGranted = true;
  for (std::thread& thread : threads) thread.join();
  uint64_t unused = 0;
  for (const auto& rest : table.takeUnusedUses(own)) unused += rest.second;
  printf("%llu uses taken, %llu left\n", static_cast<unsigned long long>(taken.load()), static_cast<unsigned long long>(unused));
  CHECK(taken <= kGrant * kGrants);
  CHECK_EQUAL(taken + unused, kGrant * kGrants);
  // It was used up: what is left is what threads held when the last was refused.
  CHECK(unused < kGrant);
  table.closeSpace(own);
}

TEST("no key is entered for a policy that was found for another, while slots change hands") {
  constexpr int kThreads = 3;
  KeyTable& table = KeyTable::instance();
  const SpaceId own = table.openSpace(kKeys / 2);
  const uint32_t policies[2] = {table.newPolicy(), table.newPolicy()};
  std::atomic<bool> done{false};
  std::atomic<uint64_t> entered{0}, turnedAway{0}, foreign{0};
  // A key's number says which of the two covers it; each is asked for both.
  const auto use = [&](unsigned seed) {
    ThreadState thread(8);
    while (!done) {
      seed = seed * 1664525 + 1013904223;
      const int key = static_cast<int>((seed >> 16) % kKeys);
      const int asker = static_cast<int>(seed >> 8 & 1);
      Context* context = nullptr;
      const HotResult result = table.enterById(thread, own, idOf(key), policies[asker], 0, &context);
      if (result == 0) {
        table.leave(context);
        entered.fetch_add(1);
        if (key % 2 != asker) foreign.fetch_add(1);
      } else {
        turnedAway.fetch_add(1);
      }
    }
  };
  const auto change = [&](unsigned seed) {
    while (!done) {
      seed = seed * 1664525 + 1013904223;
      const int key = static_cast<int>((seed >> 16) % kKeys);
      if ((seed >> 8 & 3) == 0) table.retire(own, idOf(key), Retire::Evicted);
      keys::published(own, idOf(key), 1);
      table.cover(own, idOf(key), policies[key % 2]);
      // Writers come first: without a pause nobody else would be let in.
      std::this_thread::sleep_for(std::chrono::microseconds(20));
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) threads.emplace_back(use, i + 1);
  for (unsigned i = 0; i < 2; ++i) threads.emplace_back(change, i + 80);
  std::this_thread::sleep_for(kRunning);
  // On a machine with other work it takes longer until enough has happened.
  for (int i = 0; i < 300 && (entered <= 1000 || turnedAway <= 1000); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(100));
  done = true;
  for (std::thread& thread : threads) thread.join();
  printf("%llu entered, %llu turned away\n", static_cast<unsigned long long>(entered.load()),
         static_cast<unsigned long long>(turnedAway.load()));
  CHECK(entered > 1000);
  CHECK(turnedAway > 1000);
  CHECK_EQUAL(foreign.load(), uint64_t{0});
  table.closeSpace(own);
}

MAIN

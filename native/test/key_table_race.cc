#include <atomic>
#include <chrono>
#include <thread>

#include "check.h"
#include "keys.h"

using namespace kms;

// Threads encrypt and decrypt while others disable, destroy, evict, sweep, grant and seal. What must hold: no operation
// with a handle succeeds once the call that retired it has returned; what was sealed opens to what it was; no more
// encryptions succeed than uses were granted.
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
std::atomic<uint64_t> granted{0}, used{0}, afterDeath{0}, wrong{0}, refused{0};
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
  granted.fetch_add(200);
  slots[key].handle = packed(keys::published(space, idOf(key), 200));
}

void retireKeys(unsigned seed, Retire how) {
  KeyTable& table = KeyTable::instance();
  while (!stop) {
    seed = seed * 1664525 + 1013904223;
    const int key = static_cast<int>((seed >> 16) % kKeys);
    const uint64_t bits = packed(table.find(space, idOf(key)));
    table.retire(space, idOf(key), how);
    if (bits >> 32 != 0) slots[key].retired = bits;
    publishAgain(key);
  }
}

void tend() {
  KeyTable& table = KeyTable::instance();
  for (int round = 0; !stop; ++round) {
    table.sweep(1, 3);
    granted.fetch_add(50);
    table.grantUses(space, idOf(round % kKeys), 50);
    table.takeUseRequests(space);
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
  printf("%llu encryptions, %llu refused, %llu uses granted\n", static_cast<unsigned long long>(used.load()),
         static_cast<unsigned long long>(refused.load()), static_cast<unsigned long long>(granted.load()));
  CHECK(used > 1000);
  CHECK(refused > 0);
  CHECK_EQUAL(afterDeath.load(), uint64_t{0});
  CHECK_EQUAL(wrong.load(), uint64_t{0});
  CHECK(used <= granted);
  KeyTable::instance().closeSpace(space);
  CHECK_EQUAL(Arena::instance().used(), 0u);
}

MAIN

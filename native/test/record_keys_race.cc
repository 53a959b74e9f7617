#include <atomic>
#include <chrono>
#include <thread>

#include "check.h"
#include "core/record_keys.h"
#include "core/record_ring.h"
#include "keys.h"

using namespace kms;

// Threads load, move and compare records and use their keys while the ring is replaced, KEKs are wiped and made anew, keys are evicted
// and destroyed, and at last the space is closed. What must hold: what opens is the right key, and once the space is closed nothing
// opens.
namespace {

constexpr int kKeys = 32;
constexpr uint32_t kCached = 12;
constexpr auto kRunning = std::chrono::milliseconds(2500);
const std::string kStoreId(32, 'a'), kAt = "2026-01-31T12:00:00.000Z";

std::atomic<bool> stop{false};
std::atomic<uint64_t> loads{0}, moves{0}, compared{0}, wrong{0};

struct Ground {
  SpaceId space = 0;
  RecordRing ring;
  Handle deks[kKeys];
  std::vector<uint8_t> records[kKeys];
};

std::string idOf(int key) { return "k_" + std::to_string(key); }
Bytes bytesOf(const std::vector<uint8_t>& bytes) { return {bytes.data(), bytes.size()}; }

// A message of the key itself opens under what was loaded.
void useLoaded(const Ground& ground, int key, const std::vector<uint8_t>& sealed) {
  Handle serving;
  if (loadRecord(ground.space, idOf(key), bytesOf(ground.records[key]), &serving) != 0) return;
  loads.fetch_add(1);
  std::string text;
  const HotResult result = keys::opened(serving, sealed, &text);
  if (result >= 0 && text != idOf(key)) wrong.fetch_add(1);
  if (result == hotFailure(Status::AuthenticationFailed)) wrong.fetch_add(1);
}

void useRecords(const Ground& ground, const std::vector<std::vector<uint8_t>>& sealed, unsigned seed) {
  uint8_t moved[kMaxPackedBytes], made[kMaxPackedBytes];
  while (!stop) {
    seed = seed * 1664525 + 1013904223;
    const int key = static_cast<int>((seed >> 16) % kKeys);
    useLoaded(ground, key, sealed[static_cast<size_t>(key)]);
    const HotResult length = moveRecord(thisThread(), ground.space, idOf(key), bytesOf(ground.records[key]), kAt, moved);
    if (length > 0) {
      moves.fetch_add(1);
      const HotResult same = holdSameKey(ground.space, Bytes{moved, static_cast<size_t>(length)}, bytesOf(ground.records[key]));
      if (same == 0) wrong.fetch_add(1);
      if (same == 1) compared.fetch_add(1);
    }
    const std::string id = idOf(key);
    const NewRecord draft{id, "", "uid:1", kAt, 1};
    makeRecord(thisThread(), ground.space, draft, ground.deks[key], made);
  }
}

// The second KEK of the ring is active by turns; a third one comes and goes.
void replaceRing(const Ground& ground) {
  RecordRing ring = ground.ring;
  while (!stop) {
    std::swap(ring.keks[0], ring.keks[1]);
    RecordRing more = ring;
    more.keks.push_back({"kek_" + std::string(32, 'f'), 3, keys::loose(ground.space, Kind::Kek)});
    const Handle passing = more.keks.back().key;
    if (!passing.none()) RecordRings::instance().set(ground.space, std::move(more));
    KeyTable::instance().release(passing);
    RecordRings::instance().set(ground.space, ring);
  }
}

void retire(const Ground& ground, unsigned seed) {
  KeyTable& table = KeyTable::instance();
  while (!stop) {
    seed = seed * 1664525 + 1013904223;
    const std::string id = idOf(static_cast<int>((seed >> 16) % kKeys));
    table.retire(ground.space, id, (seed & 0x8000) != 0 ? Retire::Evicted : Retire::Destroyed);
    table.sweep(1, 3);
    std::this_thread::sleep_for(std::chrono::microseconds(50));
  }
}

bool prepare(Ground& ground, std::vector<std::vector<uint8_t>>& sealed) {
  KeyTable& table = KeyTable::instance();
  if (!table.open(1 << 20, 8).ok()) return false;
  ground.space = table.openSpace(kCached);
  ground.ring.storeId = kStoreId;
  ground.ring.recordMac = keys::loose(ground.space, Kind::Mac);
  ground.ring.keks = {{"kek_" + std::string(32, '1'), 1, keys::loose(ground.space, Kind::Kek)},
                      {"kek_" + std::string(32, '2'), 2, keys::loose(ground.space, Kind::Kek)}};
  if (!RecordRings::instance().set(ground.space, ground.ring).ok()) return false;
  for (int key = 0; key < kKeys; ++key) {
    ground.deks[key] = keys::loose(ground.space);
    ground.records[key].resize(kMaxPackedBytes);
    const std::string id = idOf(key);
    const NewRecord made{id, "thread:1", "uid:1", kAt, 1};
    const HotResult length = makeRecord(thisThread(), ground.space, made, ground.deks[key], ground.records[key].data());
    if (length <= 0) return false;
    ground.records[key].resize(static_cast<size_t>(length));
    Handle serving;
    if (loadRecord(ground.space, id, bytesOf(ground.records[key]), &serving) != 0) return false;
    table.grantUses(ground.space, id, 1);
    HotResult result = 0;
    sealed.push_back(keys::sealed(serving, id, &result));
    if (result < 0) return false;
  }
  return true;
}

}  // namespace

TEST("records are loaded, moved and compared rightly while rings, KEKs and keys come and go") {
  Ground ground;
  std::vector<std::vector<uint8_t>> sealed;
  CHECK(prepare(ground, sealed));
  std::vector<std::thread> threads;
  for (unsigned seed = 1; seed <= 3; ++seed) threads.emplace_back([&, seed] { useRecords(ground, sealed, seed); });
  threads.emplace_back([&] { replaceRing(ground); });
  threads.emplace_back([&] { retire(ground, 7); });
  std::this_thread::sleep_for(kRunning);
  KeyTable::instance().closeSpace(ground.space);
  RecordRings::instance().forget(ground.space);
  for (int key = 0; key < kKeys; ++key) {
    Handle serving;
    CHECK(loadRecord(ground.space, idOf(key), bytesOf(ground.records[key]), &serving) < 0);
  }
  stop = true;
  for (std::thread& thread : threads) thread.join();
  RecordRings::instance().forget(ground.space);
  CHECK_EQUAL(wrong.load(), uint64_t{0});
  CHECK(loads > 0 && moves > 0 && compared > 0);
}

MAIN

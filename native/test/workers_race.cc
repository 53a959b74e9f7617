#include <array>
#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>

#include "check.h"
#include "core/serve_chunk.h"
#include "keys.h"

using namespace kms;

// The daemon's threads: workers serve chunks of frames, and end and begin again; the main thread brings keys, rotates the KEK that
// wraps them, evicts, disables and destroys, seals and unseals. What must hold: what one worker sealed, any opens to what it was,
// whatever happened to KEK and space in between; and what was sealed under a key that was destroyed opens to nobody.
namespace {

constexpr int kKeys = 16;
constexpr int kWorkers = 3;
constexpr int kChunk = 8;
constexpr size_t kPlainBytes = 8;
constexpr size_t kSealedBytes = kPlainBytes + kOverheadBytes;
constexpr auto kRunning = std::chrono::milliseconds(3000);
// Of a request: a frame's header, and [id, op, "k_xx", bin, nil].
constexpr size_t kIdBytes = 4;

using Blob = std::array<uint8_t, kWrappedBytes>;

// One DEK after the other lives under an id; the number of the life says which.
struct StoredKey {
  std::atomic<uint32_t> life{1};
  std::atomic<bool> wanted{true};
  Blob wrapped{};
};

// A ciphertext, and the life of the key that it was made in.
struct Sealed {
  int key = 0;
  uint32_t life = 0;
  std::array<uint8_t, kSealedBytes> bytes{};
};

StoredKey stored[kKeys];
std::atomic<SpaceId> space{0};
std::atomic<bool> stop{false};
std::atomic<uint64_t> sealedCount{0}, openedCount{0}, left{0}, refused{0}, wrong{0}, fromTheDead{0};
std::mutex pileMutex;
std::vector<Sealed> pile;

std::string idOf(int key) { return std::string("k_") + static_cast<char>('a' + key / 10) + static_cast<char>('0' + key % 10); }

void appendRequest(std::vector<uint8_t>& chunk, uint8_t id, uint8_t op, int key, Bytes data) {
  const size_t body = 3 + 1 + kIdBytes + 2 + data.length + 1;
  chunk.insert(chunk.end(), {0, 0, 0, static_cast<uint8_t>(body), 0x95, id, op, 0xa0 + kIdBytes});
  for (const char one : idOf(key)) chunk.push_back(static_cast<uint8_t>(one));
  chunk.insert(chunk.end(), {0xc4, static_cast<uint8_t>(data.length)});
  chunk.insert(chunk.end(), data.data, data.data + data.length);
  chunk.push_back(0xc0);
}

// What a chunk was answered with: `take(id, code, data)` for each answer, and the keys of what was left are wanted.
template <typename Take>
void serve(ThreadState& thread, std::vector<uint8_t>& chunk, const int* keys, Take&& take) {
  uint8_t output[4096];
  int32_t report[Report::kLength];
  report[Report::kUnits] = INT32_MAX;
  serveChunk(thread, space, kMayUseKeys, AuditActors::kNone, chunk.data(), 0, chunk.size(), output, sizeof output, report);
  for (int i = 0; i < report[Report::kDeferred]; ++i) {
    const int32_t body = report[Report::kFirst + i * Report::kFields];
    stored[keys[chunk[static_cast<size_t>(body) + 1]]].wanted = true;
    left.fetch_add(1);
  }
  const auto written = static_cast<size_t>(report[Report::kWritten]);
  for (size_t at = 0; at < written; at += 4 + output[at + 3]) take(output[at + 5], output[at + 6], output + at + 9);
}

void sealSome(ThreadState& thread, unsigned seed) {
  int keys[kChunk];
  uint32_t lives[kChunk];
  std::vector<uint8_t> chunk;
  for (uint8_t i = 0; i < kChunk; ++i) {
    keys[i] = static_cast<int>((seed >> i) % kKeys);
    lives[i] = stored[keys[i]].life;
    const uint8_t plain[kPlainBytes] = {static_cast<uint8_t>(keys[i]), 1, 2, 3, 4, 5, 6, 7};
    appendRequest(chunk, i, 2, keys[i], {plain, sizeof plain});
  }
  serve(thread, chunk, keys, [&](uint8_t id, uint8_t code, const uint8_t* data) {
    if (code != 0) {
      refused.fetch_add(1);
      return;
    }
    sealedCount.fetch_add(1);
    // The key was changed meanwhile: nobody can say in which life it was used.
    if (stored[keys[id]].life != lives[id]) return;
    Sealed made{keys[id], lives[id], {}};
    memcpy(made.bytes.data(), data, kSealedBytes);
    const std::lock_guard<std::mutex> hold(pileMutex);
    if (pile.size() < 256) pile.push_back(made);
    else pile[(seed >> 3) % 256] = made;
  });
}

void openSome(ThreadState& thread, unsigned seed) {
  std::vector<Sealed> some;
  {
    const std::lock_guard<std::mutex> hold(pileMutex);
    for (unsigned i = 0; i < kChunk && !pile.empty(); ++i) some.push_back(pile[(seed + i * 37) % pile.size()]);
  }
  int keys[kChunk] = {};
  bool dead[kChunk] = {};
  std::vector<uint8_t> chunk;
  for (uint8_t i = 0; i < some.size(); ++i) {
    keys[i] = some[i].key;
    // Read before: what was destroyed by then must not open.
    dead[i] = stored[keys[i]].life != some[i].life;
    appendRequest(chunk, i, 3, keys[i], {some[i].bytes.data(), kSealedBytes});
  }
  if (chunk.empty()) return;
  serve(thread, chunk, keys, [&](uint8_t id, uint8_t code, const uint8_t* data) {
    if (code == 0) {
      openedCount.fetch_add(1);
      if (data[0] != keys[id] || data[kPlainBytes - 1] != 7) wrong.fetch_add(1);
      if (dead[id]) fromTheDead.fetch_add(1);
    } else {
      refused.fetch_add(1);
      const bool isStillIts = stored[keys[id]].life == some[id].life;
      if (code == static_cast<uint8_t>(Status::AuthenticationFailed) && isStillIts) wrong.fetch_add(1);
    }
  });
}

void work(unsigned seed) {
  while (!stop) {
    // One that has ended is replaced.
    ThreadState thread(8);
    for (int chunks = 0; chunks < 200 && !stop; ++chunks) {
      seed = seed * 1664525 + 1013904223;
      sealSome(thread, seed >> 8);
      openSome(thread, seed >> 8);
    }
  }
}

// The main thread: the only one that reads and changes the store.
class Main {
 public:
  Main() : rootSpace_(table().openSpace(1)), root_(keys::loose(rootSpace_, Kind::Root)) {
    space = table().openSpace(kKeys / 2);
    kek_ = keys::loose(space, Kind::Kek);
    keepKek();
    for (StoredKey& one : stored) makeDek(one);
  }
  ~Main() {
    table().closeSpace(space);
    table().closeSpace(rootSpace_);
  }

  void run() {
    unsigned seed = 99;
    for (int round = 0; !stop; ++round) {
      for (int key = 0; key < kKeys; ++key) {
        if (stored[key].wanted.exchange(false)) bring(key);
      }
      seed = seed * 1664525 + 1013904223;
      const int key = static_cast<int>((seed >> 16) % kKeys);
      if (round % 7 == 0) table().retire(space, idOf(key), Retire::Evicted);
      if (round % 31 == 0) table().retire(space, idOf(key), Retire::Disabled);
      // Enabled again: the marker goes, and whoever asks next brings the key.
      if (round % 31 == 15) table().retire(space, idOf(key), Retire::Evicted);
      if (round % 41 == 0) destroy(key);
      if (round % 97 == 0) rotate();
      if (round % 331 == 0) sealAndUnseal();
      if (round % 5 == 0) table().sweep(1, 3);
      std::this_thread::yield();
    }
  }

  std::atomic<int> rotations{0}, seals{0}, destroyed{0};

  bool hasDoneEnough() const { return rotations > 3 && seals > 1 && destroyed > 3; }

 private:
  static KeyTable& table() { return KeyTable::instance(); }

  Handle unwrapped(SpaceId into, Handle under, Kind kind, const Blob& blob) {
    Handle handle;
    const Failure failure = table().add(into, kind, [&](uint8_t* key) {
      return Failure(table().with(under, KeyTable::bit(Kind::Root) | KeyTable::bit(Kind::Kek), [&](const uint8_t* wrapping) {
        return unwrapKey(wrapping, {blob.data(), blob.size()}, {}, key);
      }));
    }, &handle);
    if (!failure.ok()) wrong.fetch_add(1);
    return handle;
  }
  void wrap(Handle under, Handle key, Blob* blob) {
    const uint32_t kinds = KeyTable::bit(Kind::Root) | KeyTable::bit(Kind::Kek) | KeyTable::bit(Kind::Dek);
    const Status status = table().withTwo(under, kinds, key, kinds, [&](const uint8_t* wrapping, const uint8_t* wrappee) {
      return wrapKey(wrapping, wrappee, {}, blob->data());
    });
    if (status != Status::Ok) wrong.fetch_add(1);
  }
  void keepKek() { wrap(root_, kek_, &wrappedKek_); }
  void makeDek(StoredKey& one) {
    const Handle dek = keys::loose(space);
    wrap(kek_, dek, &one.wrapped);
    table().release(dek);
  }
  void bring(int key) {
    Handle serving;
    const Handle dek = unwrapped(space, kek_, Kind::Dek, stored[key].wrapped);
    table().publish(space, dek, idOf(key), 1, 500, &serving);
    table().grantUses(space, idOf(key), 500);
  }
  void destroy(int key) {
    table().retire(space, idOf(key), Retire::Destroyed);
    // Nobody uses it any more; what comes under its id is another one.
    stored[key].life.fetch_add(1);
    table().retire(space, idOf(key), Retire::Evicted);
    makeDek(stored[key]);
    ++destroyed;
  }
  void rotate() {
    const Handle next = keys::loose(space, Kind::Kek);
    for (StoredKey& one : stored) {
      const Handle dek = unwrapped(space, kek_, Kind::Dek, one.wrapped);
      wrap(next, dek, &one.wrapped);
      table().release(dek);
    }
    table().release(kek_);
    kek_ = next;
    keepKek();
    ++rotations;
  }
  void sealAndUnseal() {
    const SpaceId old = space;
    table().retireAll(old);
    table().closeSpace(old);
    // Workers may still name the old space: it has no keys, and what they ask for is left.
    const SpaceId opened = table().openSpace(kKeys / 2);
    kek_ = unwrapped(opened, root_, Kind::Kek, wrappedKek_);
    space = opened;
    ++seals;
  }

  const SpaceId rootSpace_;
  const Handle root_;
  Handle kek_;
  Blob wrappedKek_{};
};

}  // namespace

TEST("what workers seal opens for all of them through rotations, evictions and seals, and never after a destroy") {
  CHECK(KeyTable::instance().open(256 * 1024, 8).ok());
  {
    Main main;
    std::vector<std::thread> workers;
    for (unsigned i = 0; i < kWorkers; ++i) workers.emplace_back(work, i + 1);
    std::thread reader([] {
      while (!stop) {
        KeyTable::instance().counts();
        KeyTable::instance().takeUseRequests(space);
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
    });
    std::thread mainThread([&] { main.run(); });
    std::this_thread::sleep_for(kRunning);
    // On a machine with other work it takes longer until enough has happened.
    for (int i = 0; i < 300 && (openedCount <= 1000 || left <= 100 || !main.hasDoneEnough()); ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
    stop = true;
    for (std::thread& worker : workers) worker.join();
    reader.join();
    mainThread.join();
    printf("%llu sealed, %llu opened, %llu left, %llu refused; %d rotations, %d seals, %d destroyed\n",
           static_cast<unsigned long long>(sealedCount.load()), static_cast<unsigned long long>(openedCount.load()),
           static_cast<unsigned long long>(left.load()), static_cast<unsigned long long>(refused.load()), main.rotations.load(),
           main.seals.load(), main.destroyed.load());
    CHECK(main.hasDoneEnough());
  }
  CHECK(sealedCount > 1000);
  CHECK(openedCount > 1000);
  CHECK(left > 100);
  CHECK_EQUAL(wrong.load(), uint64_t{0});
  CHECK_EQUAL(fromTheDead.load(), uint64_t{0});
  CHECK_EQUAL(Arena::instance().used(), 0u);
}

MAIN

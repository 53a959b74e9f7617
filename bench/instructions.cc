// The hot paths of the native core, for scripts/instruction-gate.js, which runs this under callgrind: each case is warmed up, and
// what its operations take is dumped under its name. Linked with the objects of the addon itself.
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <valgrind/callgrind.h>

#include <cstdint>
#include <string>
#include <vector>

#include "core/data_audit.h"
#include "core/serve_chunk.h"

using namespace kms;

// In place of the C library's: a draw of nonces that came when the clock said so, or a hash that depends on chance, would give
// another count each time.
extern "C" int clock_gettime(clockid_t, timespec* now) noexcept {
  static long microseconds = 0;
  ++microseconds;
  *now = timespec{1700000000 + microseconds / 1000000, microseconds % 1000000 * 1000};
  return 0;
}

extern "C" ssize_t getrandom(void* out, size_t length, unsigned) {
  static uint64_t state = 1;
  for (size_t at = 0; at < length; at += sizeof state) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    memcpy(static_cast<uint8_t*>(out) + at, &state, length - at < sizeof state ? length - at : sizeof state);
  }
  return static_cast<ssize_t>(length);
}

namespace {

using Message = std::vector<uint8_t>;

constexpr int kKeys = 4, kFrames = 64, kItems = 16;
constexpr uint64_t kUses = 1u << 24;
constexpr size_t kAad = 32;

void demand(bool holds, const char* what) {
  if (holds) return;
  fprintf(stderr, "instructions: %s\n", what);
  exit(1);
}

std::string keyId(int key) { return "k_" + std::string(31, '0') + static_cast<char>('1' + key % kKeys); }

// As a daemon's: use counters, audit in groups, contexts kept.
struct Ground {
  ThreadState& thread;
  SpaceId space = 0;
  uint32_t actor = 0;
  uint32_t policy = 0;
  std::vector<Handle> held;

  // The table is open: a thread keeps as many contexts as it says.
  Ground() : thread(thisThread()) {
    KeyTable& table = KeyTable::instance();
    space = table.openSpace(64);
    actor = AuditActors::instance().numberOf("uid:1000");
    DataAudits::instance().of(space)->set(DataMode::Grouped, actor);
    policy = table.newPolicy();
    for (int key = 0; key < kKeys; ++key) {
      Handle loose, serving;
      const auto fill = [](uint8_t* bytes) { return fillRandom(bytes, kKeyBytes) ? Failure() : Failure(Status::Internal); };
      demand(table.add(space, Kind::Dek, fill, &loose).ok() && table.publish(space, loose, keyId(key), 1, kUses, &serving).ok(), "no key");
      table.cover(space, keyId(key), policy);
      held.push_back(serving);
    }
  }
};

void append(Message& message, std::initializer_list<int> bytes) {
  for (const int byte : bytes) message.push_back(static_cast<uint8_t>(byte));
}

void appendBinary(Message& message, const Message& data) {
  const int size = static_cast<int>(data.size());
  if (size < 256) {
    append(message, {0xc4, size});
  } else {
    append(message, {0xc5, size >> 8, size & 255});
  }
  message.insert(message.end(), data.begin(), data.end());
}

// A frame [number, operation, id, data | [items…], aad] as our client makes it.
void appendFrame(Message& chunk, int number, int operation, int key, const std::vector<Message>& items) {
  const std::string id = keyId(key);
  Message body;
  append(body, {0x95, 0xce, 0, 0, number >> 8 & 255, number & 255, operation, 0xd9, static_cast<int>(id.size())});
  body.insert(body.end(), id.begin(), id.end());
  if (operation >= 4) append(body, {0xdc, 0, static_cast<int>(items.size())});
  for (const Message& item : items) appendBinary(body, item);
  appendBinary(body, Message(kAad, 0x61));
  append(chunk, {0, 0, static_cast<int>(body.size() >> 8), static_cast<int>(body.size() & 255)});
  chunk.insert(chunk.end(), body.begin(), body.end());
}

Message sealed(Ground& ground, int key, const Message& plaintext) {
  Message out(plaintext.size() + kOverheadBytes);
  const Message aad(kAad, 0x61);
  const HotResult result = encryptWith(ground.thread, ground.held[static_cast<size_t>(key % kKeys)], Bytes{plaintext.data(), plaintext.size()},
                                       Bytes{aad.data(), aad.size()}, out.data());
  demand(result == static_cast<HotResult>(out.size()), "a message was not sealed");
  return out;
}

Message chunkOf(Ground& ground, int operation, int frames, size_t size, int items) {
  Message chunk;
  for (int i = 0; i < frames; ++i) {
    const Message plaintext(size, 0x5a);
    const bool opens = operation == 3 || operation == 5;
    appendFrame(chunk, i, operation, i, std::vector<Message>(static_cast<size_t>(items), opens ? sealed(ground, i, plaintext) : plaintext));
  }
  return chunk;
}

// Runs `once`, which does `operations` of them, `rounds` times unseen, and as often again under the name. `prepare` is not counted.
template <typename Prepare, typename Once>
void measured(const char* name, int operations, int rounds, Prepare&& prepare, Once&& once) {
  for (int i = 0; i < rounds; ++i) {
    prepare();
    once();
  }
  for (int i = 0; i < rounds; ++i) {
    prepare();
    CALLGRIND_TOGGLE_COLLECT;
    once();
    CALLGRIND_TOGGLE_COLLECT;
  }
  const std::string trigger = std::to_string(operations * rounds) + " x " + name;
  CALLGRIND_DUMP_STATS_AT(trigger.c_str());
}

struct Chunk {
  const char* name;
  int operation;
  int frames;
  size_t size;
  int items;
  bool narrowed;
};

void serveChunks(Ground& ground, const Chunk& kind, int rounds) {
  const Message made = chunkOf(ground, kind.operation, kind.frames, kind.size, kind.items);
  Message input(made), output(256 * 1024);
  std::vector<int32_t> report(Report::kLength);
  const uint32_t bits = kMayUseKeys | (kind.narrowed ? ground.policy << kPolicyShift : 0);
  // What is encrypted is wiped in place.
  const auto prepare = [&] {
    memcpy(input.data(), made.data(), made.size());
    report[Report::kUnits] = INT32_MAX;
  };
  measured(kind.name, kind.frames, rounds, prepare, [&] {
    serveChunk(ground.thread, ground.space, bits, ground.actor, input.data(), 0, input.size(), output.data(), output.size(), report.data());
  });
  demand(report[Report::kServed] == kind.frames && report[Report::kDeferred] == 0 && output[6] == 0, kind.name);
}

void embedded(Ground& ground, size_t size, int rounds) {
  const Message plaintext(size, 0x5a), aad(kAad, 0x61), ciphertext = sealed(ground, 0, plaintext);
  Message out(size + kOverheadBytes);
  const Bytes extra{aad.data(), aad.size()};
  HotResult result = 0;
  const auto nothing = [] {};
  measured("seal into a buffer, 1 KiB", 1, rounds, nothing, [&] {
    ground.thread.nonces().expire();
    result = encryptWith(ground.thread, ground.held[0], Bytes{plaintext.data(), size}, extra, out.data());
  });
  demand(result == static_cast<HotResult>(out.size()), "a message was not sealed");
  measured("open into a buffer, 1 KiB", 1, rounds, nothing, [&] {
    result = decryptWith(ground.thread, ground.held[0], Bytes{ciphertext.data(), ciphertext.size()}, extra, out.data());
  });
  demand(result == static_cast<HotResult>(size) && memcmp(out.data(), plaintext.data(), size) == 0, "a message was not opened");
}

constexpr Chunk kChunks[] = {
    {"encrypt, 64 B, chunk of 64", 2, kFrames, 64, 1, false},
    {"encrypt, 1 KiB, chunk of 64", 2, kFrames, 1024, 1, false},
    {"encrypt, 1 KiB, chunk of 1", 2, 1, 1024, 1, false},
    {"encrypt, 1 KiB, chunk of 64, narrowed peer", 2, kFrames, 1024, 1, true},
    {"decrypt, 64 B, chunk of 64", 3, kFrames, 64, 1, false},
    {"decrypt, 1 KiB, chunk of 64", 3, kFrames, 1024, 1, false},
    {"encrypt many, 16 items of 64 B, chunk of 64", 4, kFrames, 64, kItems, false},
    {"decrypt many, 16 items of 64 B, chunk of 64", 5, kFrames, 64, kItems, false},
};

}  // namespace

int main() {
  demand(KeyTable::instance().open(256 * 1024, 64).ok() && Cipher::available(), "no arena or no cipher");
  Ground ground;
  for (const Chunk& kind : kChunks) serveChunks(ground, kind, kind.frames == 1 ? 1024 : 16);
  embedded(ground, 1024, 1024);
  return 0;
}

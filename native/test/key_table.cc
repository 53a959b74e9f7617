#include <signal.h>

#include <atomic>
#include <chrono>
#include <thread>

#include "check.h"
#include "keys.h"

using namespace kms;

namespace kms {
struct SpaceNumbers {
  static void goOnFrom(KeyTable& table, SpaceId next) { table.nextSpace_ = next; }
};
}  // namespace kms

namespace {

KeyTable& table() {
  KeyTable& instance = KeyTable::instance();
  static const bool open = instance.open(256 * 1024, 16).ok();
  if (!open) abort();
  return instance;
}

HotResult status(Status one) { return hotFailure(one); }

}  // namespace

// The first case: a child sees no arena that its parent made (MADV_DONTFORK), so it has to be the one that makes it.
TEST("damage behind a key ends the process, and only that") {
  const auto releaseAfter = [](uint8_t damage) {
    return check::inChild([damage] {
      const SpaceId space = table().openSpace(8);
      const Handle key = keys::loose(space);
      table().with(key, ~0u, [damage](const uint8_t* bytes) {
        const_cast<uint8_t*>(bytes)[kKeyBytes] ^= damage;
        return Status::Ok;
      });
      table().release(key);
      return 0;
    });
  };
  CHECK_EQUAL(releaseAfter(0), 0);
  CHECK_EQUAL(releaseAfter(1), 128 + SIGABRT);
}

TEST("a published key encrypts and decrypts") {
  const SpaceId space = table().openSpace(10);
  const Handle key = keys::published(space, "k_1", 5);
  HotResult result = 0;
  std::string text;
  const std::vector<uint8_t> ciphertext = keys::sealed(key, "hello", &result);
  CHECK_EQUAL(result, HotResult{5 + 28});
  CHECK_EQUAL(keys::opened(key, ciphertext, &text), HotResult{5});
  CHECK_EQUAL(text, "hello");
  table().closeSpace(space);
}

TEST("a handle of a wiped key is refused even after its slot is used again") {
  const SpaceId space = table().openSpace(10);
  const Handle key = keys::published(space, "k_1", 5);
  table().retire(space, "k_1", Retire::Evicted);
  const Handle next = keys::published(space, "k_2", 5);
  CHECK_EQUAL(next.slot, key.slot);
  HotResult result = 0;
  keys::sealed(key, "hello", &result);
  CHECK_EQUAL(result, kNotCached);
  keys::sealed(next, "hello", &result);
  CHECK(result > 0);
  table().closeSpace(space);
  keys::sealed(next, "hello", &result);
  CHECK_EQUAL(result, kNotCached);
}

TEST("disabled and destroyed keys answer with their state") {
  const SpaceId space = table().openSpace(10);
  const Handle before = keys::published(space, "k_1", 5);
  table().retire(space, "k_1", Retire::Disabled);
  table().retire(space, "k_2", Retire::Destroyed);
  HotResult result = 0;
  keys::sealed(before, "hello", &result);
  CHECK_EQUAL(result, kNotCached);
  keys::sealed(table().find(space, "k_1"), "hello", &result);
  CHECK_EQUAL(result, status(Status::KeyDisabled));
  keys::sealed(table().find(space, "k_2"), "hello", &result);
  CHECK_EQUAL(result, status(Status::KeyDestroyed));
  table().closeSpace(space);
}

TEST("uses run out are asked for at half and survive an eviction") {
  const SpaceId space = table().openSpace(10);
  int32_t bell = 0;
  thisThread().setDoorbell(&bell);
  const Handle key = keys::published(space, "k_0123456789abcdef0123456789abcdef", 1000);
  HotResult result = 0;
  for (int i = 0; i < 400; ++i) keys::sealed(key, "x", &result);
  CHECK_EQUAL(bell, 0);
  for (int i = 0; i < 200; ++i) keys::sealed(key, "x", &result);
  CHECK_EQUAL(bell, 1);
  CHECK_EQUAL(table().takeUseRequests(space).size(), size_t{1});
  CHECK_EQUAL(table().takeUseRequests(space).size(), size_t{0});
  table().retire(space, "k_0123456789abcdef0123456789abcdef", Retire::Evicted);
  const Handle again = keys::published(space, "k_0123456789abcdef0123456789abcdef", 0);
  int done = 0;
  while (keys::sealed(again, "x", &result).size() > 0) ++done;
  CHECK_EQUAL(done, 400);
  CHECK_EQUAL(result, kNeedsUses);
  table().grantUses(space, "k_0123456789abcdef0123456789abcdef", 3);
  while (keys::sealed(again, "x", &result).size() > 0) ++done;
  CHECK_EQUAL(done, 403);
  thisThread().setDoorbell(nullptr);
  table().closeSpace(space);
}

TEST("unused uses come back exactly") {
  const SpaceId space = table().openSpace(2);
  HotResult result = 0;
  const std::string ids[] = {"k_00000000000000000000000000000001", "k_0000000000000000000000000000000f", "k_imported"};
  for (const std::string& id : ids) {
    const Handle key = keys::published(space, id, 100);
    for (int i = 0; i < 30; ++i) keys::sealed(key, "x", &result);
  }
  uint64_t total = 0;
  for (const auto& [id, uses] : table().takeUnusedUses(space)) {
    CHECK_EQUAL(uses, uint64_t{70});
    total += uses;
  }
  CHECK_EQUAL(total, uint64_t{210});
  keys::sealed(table().find(space, "k_imported"), "x", &result);
  CHECK_EQUAL(result, kNeedsUses);
  table().closeSpace(space);
}

TEST("uses that an idle context had taken come back exactly when it is wiped") {
  const SpaceId space = table().openSpace(8);
  const Handle key = keys::published(space, "k_1", 1000);
  Context* context = nullptr;
  CHECK_EQUAL(table().enter(thisThread(), key, 3, &context), HotResult{0});
  CHECK(context->kept && context->credit > 0);
  table().leave(context);
  for (int i = 0; i < 3; ++i) table().sweep(1, 0);
  CHECK(context->key.none());
  CHECK_EQUAL(context->credit, 0u);
  const auto unused = table().takeUnusedUses(space);
  CHECK_EQUAL(unused.size(), size_t{1});
  CHECK_EQUAL(unused[0].second, uint64_t{1000 - 3});
  table().closeSpace(space);
}

TEST("uses of a context that another key took over come back exactly") {
  // More keys than a thread keeps contexts: some share one.
  constexpr int kKeys = 40;
  const SpaceId space = table().openSpace(kKeys);
  for (int round = 0; round < 2; ++round) {
    for (int i = 0; i < kKeys; ++i) {
      const std::string id = "k_" + std::to_string(i);
      const Handle key = round == 0 ? keys::published(space, id, 1000) : table().find(space, id);
      Context* context = nullptr;
      CHECK_EQUAL(table().enter(thisThread(), key, 3, &context), HotResult{0});
      table().leave(context);
    }
  }
  const auto unused = table().takeUnusedUses(space);
  CHECK_EQUAL(unused.size(), size_t{kKeys});
  for (const auto& rest : unused) CHECK_EQUAL(rest.second, uint64_t{1000 - 6});
  table().closeSpace(space);
}

TEST("a retirement returns when the last operation with the key has ended, and no sooner") {
  for (ThreadState* const thread : {&thisThread(), &thisPoolThread()}) {
    for (const Retire how : {Retire::Evicted, Retire::Disabled, Retire::Destroyed}) {
      const SpaceId space = table().openSpace(8);
      const Handle key = keys::published(space, "k_1", 10);
      Context* context = nullptr;
      CHECK_EQUAL(table().enter(*thread, key, 1, &context), HotResult{0});
      std::atomic<bool> begun{false}, returned{false};
      std::thread retiring([&] {
        begun = true;
        table().retire(space, "k_1", how);
        returned = true;
      });
      while (!begun) std::this_thread::yield();
      // Long enough for one that does not wait to be seen; one that waits passes however slow the machine is.
      for (int i = 0; i < 50 && !returned; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      CHECK(!returned);
      CHECK(context->key == key);
      table().leave(context);
      retiring.join();
      CHECK(context->key.none());
      CHECK_EQUAL(table().enter(*thread, key, 1, &context), kNotCached);
      table().closeSpace(space);
    }
  }
}

TEST("a full space evicts and a closed one gives every cell back") {
  const uint32_t before = Arena::instance().used();
  const SpaceId space = table().openSpace(8);
  for (int i = 0; i < 100; ++i) keys::published(space, "k_" + std::to_string(i), 1);
  CHECK_EQUAL(table().cachedKeys(space), 8u);
  CHECK_EQUAL(Arena::instance().used(), before + 8);
  table().closeSpace(space);
  CHECK_EQUAL(Arena::instance().used(), before);
}

TEST("a space with room for few keys keeps none of them for ever while others come") {
  const SpaceId space = table().openSpace(4);
  const auto name = [](int key) { return "k_" + std::to_string(key); };
  for (int key = 0; key < 4; ++key) keys::published(space, name(key), 0);
  for (int key = 4; key < 40; ++key) {
    keys::published(space, name(key), 0);
    CHECK_EQUAL(table().cachedKeys(space), 4u);
    for (int before = 0; before <= key - 8; ++before) CHECK(table().find(space, name(before)).none());
  }
  table().closeSpace(space);
}

TEST("spaces whose keys come and go among each other evict, empty and end with their own keys alone") {
  KeyTable& table = KeyTable::instance();
  const uint32_t before = Arena::instance().used();
  const SpaceId small = table.openSpace(3), large = table.openSpace(100);
  const auto idOf = [](int i) { return "k_" + std::to_string(i); };
  for (int i = 0; i < 60; ++i) {
    keys::published(large, idOf(i), 0);
    keys::published(small, idOf(i), 0);
    if (i % 3 == 0) table.retire(large, idOf(i), Retire::Evicted);
    if (i % 7 == 0) table.retire(large, idOf(i), Retire::Destroyed);
  }
  CHECK_EQUAL(table.cachedKeys(small), 3u);
  // 20 were evicted; 3 of them, and 6 others, stand as destroyed.
  CHECK_EQUAL(table.cachedKeys(large), 43u);
  CHECK_EQUAL(Arena::instance().used(), before + 3 + 34);
  const Handle loose = keys::loose(small);
  Handle serving;
  CHECK_FAILURE(table.publish(large, loose, "k_other", 1, 0, &serving), Status::InvalidArgument, "not a loose data key");
  table.retireAll(small);
  CHECK_EQUAL(table.cachedKeys(small), 0u);
  CHECK_EQUAL(Arena::instance().used(), before + 1 + 34);
  CHECK(!table.find(large, idOf(59)).none());
  table.closeSpace(small);
  CHECK_EQUAL(Arena::instance().used(), before + 34);
  CHECK(!table.find(large, idOf(59)).none());
  table.closeSpace(large);
  CHECK_EQUAL(Arena::instance().used(), before);
}

TEST("an idle sweep wipes what was not used") {
  const SpaceId space = table().openSpace(8);
  const Handle idle = keys::published(space, "k_idle", 10);
  const Handle busy = keys::published(space, "k_busy", 10);
  HotResult result = 0;
  for (int i = 0; i < 4; ++i) {
    keys::sealed(busy, "x", &result);
    table().sweep(1, 2);
  }
  keys::sealed(idle, "x", &result);
  CHECK_EQUAL(result, kNotCached);
  keys::sealed(busy, "x", &result);
  CHECK(result > 0);
  table().closeSpace(space);
}

TEST("a key serves only what its kind is for") {
  const SpaceId space = table().openSpace(8);
  const Handle root = keys::loose(space, Kind::Root);
  HotResult result = 0;
  keys::sealed(root, "x", &result);
  CHECK_EQUAL(result, status(Status::InvalidArgument));
  Handle serving;
  CHECK_FAILURE(table().publish(space, root, "k_1", 1, 1, &serving), Status::InvalidArgument, "");
  CHECK_EQUAL(table().with(root, KeyTable::bit(Kind::Kek), [](const uint8_t*) { return Status::Ok; }), Status::InvalidArgument);
  table().closeSpace(space);
}

TEST("numbers of spaces go round without one being given twice, or that of none") {
  const SpaceId first = table().openSpace(8);
  keys::published(first, "k_first", 10);
  SpaceNumbers::goOnFrom(table(), UINT32_MAX);
  const SpaceId last = table().openSpace(8);
  CHECK_EQUAL(last, UINT32_MAX);
  const SpaceId next = table().openSpace(8);
  CHECK(next != 0 && next != first);
  SpaceNumbers::goOnFrom(table(), first);
  const SpaceId beside = table().openSpace(8);
  CHECK(beside != first && table().find(beside, "k_first").none());
  for (const SpaceId space : {last, next, beside}) table().closeSpace(space);
  CHECK(!table().find(first, "k_first").none());
  table().closeSpace(first);
}

TEST("the cipher passes its self test") { CHECK(selfTest().ok()); }

MAIN

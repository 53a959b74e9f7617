#include <thread>

#include "check.h"
#include "core/serve_chunk.h"
#include "keys.h"

using namespace kms;

namespace {

using Counts = KeyTable::Counts;
using Message = std::vector<uint8_t>;

KeyTable& table() {
  KeyTable& table = KeyTable::instance();
  if (!table.open(256 * 1024, 16).ok()) abort();
  return table;
}

uint32_t outcomeAt(uint32_t operation, Status status) {
  return Tally::operationOf(operation) * Tally::kOutcomes + static_cast<uint32_t>(status);
}

// How often the time of an operation was taken.
uint64_t timesOf(const Counts& counts, uint32_t operation) {
  uint64_t times = 0;
  for (uint32_t i = 0; i < Tally::kBuckets; ++i) {
    times += counts.values[Tally::kTimesAt + Tally::operationOf(operation) * Tally::kBuckets + i];
  }
  return times;
}

// [7, operation, "k_1", six bytes, nil]
Message frame(uint8_t operation, char key) {
  const auto last = static_cast<uint8_t>(key);
  return {0, 0, 0, 16, 0x95, 7, operation, 0xa3, 'k', '_', last, 0xc4, 6, 1, 2, 3, 4, 5, 6, 0xc0};
}

void serve(SpaceId space, uint32_t bits, const std::vector<Message>& frames) {
  Message chunk;
  for (const Message& one : frames) chunk.insert(chunk.end(), one.begin(), one.end());
  std::vector<uint8_t> output(64 * 1024);
  std::vector<int32_t> report(Report::kLength);
  report[Report::kUnits] = INT32_MAX;
  serveChunk(thisThread(), space, bits, AuditActors::kNone, chunk.data(), 0, chunk.size(), output.data(), output.size(), report.data());
}

}  // namespace

TEST("a time falls into the first bucket that ends at it or above") {
  CHECK_EQUAL(Tally::bucketOf(0), 0u);
  uint64_t end = Tally::kFirstBucketNanoseconds;
  for (uint32_t i = 0; i + 1 < Tally::kBuckets; ++i, end *= 2) {
    CHECK_EQUAL(Tally::bucketOf(end), i);
    CHECK_EQUAL(Tally::bucketOf(end + 1), i + 1);
  }
  CHECK_EQUAL(Tally::bucketOf(UINT64_MAX / 2), Tally::kBuckets - 1);
}

TEST("a chunk's answers are counted by operation and outcome, and each has its time") {
  const SpaceId space = table().openSpace(4);
  keys::published(space, "k_1", 1000);
  const Counts before = table().counts();
  // A ciphertext of six bytes cannot be one; six bytes are no batch; the key k_2 is not there.
  serve(space, kMayUseKeys, {frame(2, '1'), frame(2, '1'), frame(3, '1'), frame(4, '1'), frame(2, '2')});
  serve(space, 0, {frame(2, '1')});
  serve(space, kMayUseKeys, {{0, 0, 0, 0}});
  const Counts after = table().counts();
  const auto grown = [&](uint32_t at) { return after.values[at] - before.values[at]; };
  CHECK_EQUAL(grown(outcomeAt(2, Status::Ok)), 2u);
  CHECK_EQUAL(grown(outcomeAt(2, Status::PermissionDenied)), 1u);
  CHECK_EQUAL(grown(outcomeAt(3, Status::AuthenticationFailed)), 1u);
  CHECK_EQUAL(grown(outcomeAt(4, Status::InvalidArgument)), 1u);
  CHECK_EQUAL(grown(outcomeAt(0, Status::InvalidArgument)), 1u);
  CHECK_EQUAL(timesOf(after, 2) - timesOf(before, 2), 3u);
  CHECK_EQUAL(timesOf(after, 3) - timesOf(before, 3), 1u);
  CHECK_EQUAL(timesOf(after, 4) - timesOf(before, 4), 1u);
  CHECK_EQUAL(timesOf(after, 0) - timesOf(before, 0), 1u);
  CHECK_EQUAL(grown(Tally::kHits), 3u);
  CHECK_EQUAL(grown(Counts::kMisses), 1u);
  table().closeSpace(space);
}

TEST("a frame that has waited is counted, and its time is not taken again") {
  const SpaceId space = table().openSpace(4);
  keys::published(space, "k_1", 1000);
  const Counts before = table().counts();
  serve(space, kMayUseKeys | kUntimed, {frame(2, '1')});
  const Counts after = table().counts();
  CHECK_EQUAL(after.values[outcomeAt(2, Status::Ok)] - before.values[outcomeAt(2, Status::Ok)], 1u);
  CHECK_EQUAL(timesOf(after, 2), timesOf(before, 2));
  table().closeSpace(space);
}

TEST("evictions are counted by their reason, and contexts while they are keyed") {
  const SpaceId space = table().openSpace(2);
  const Counts before = table().counts();
  HotResult result = 0;
  keys::sealed(keys::published(space, "k_1", 10), "x", &result);
  keys::sealed(keys::published(space, "k_2", 10), "x", &result);
  CHECK_EQUAL(table().counts().values[Counts::kContexts] - before.values[Counts::kContexts], 2u);
  const Handle evicted = table().find(space, "k_1");
  keys::published(space, "k_3", 10);
  CHECK_EQUAL(table().counts().values[Counts::kEvictedForRoom] - before.values[Counts::kEvictedForRoom], 1u);
  for (int i = 0; i < 3; ++i) table().sweep(0, 1);
  const Counts after = table().counts();
  CHECK_EQUAL(after.values[Counts::kEvictedIdle] - before.values[Counts::kEvictedIdle], 2u);
  CHECK_EQUAL(after.values[Counts::kContexts], before.values[Counts::kContexts]);
  keys::sealed(evicted, "x", &result);
  CHECK_EQUAL(result, kNotCached);
  CHECK_EQUAL(table().counts().values[Counts::kMisses] - before.values[Counts::kMisses], 1u);
  table().closeSpace(space);
}

TEST("what a thread has counted stays when it ends") {
  const SpaceId space = table().openSpace(4);
  keys::published(space, "k_1", 1000);
  const Counts before = table().counts();
  std::thread([&] { serve(space, kMayUseKeys, {frame(2, '1')}); }).join();
  const Counts after = table().counts();
  CHECK_EQUAL(after.values[outcomeAt(2, Status::Ok)] - before.values[outcomeAt(2, Status::Ok)], 1u);
  CHECK_EQUAL(after.values[Tally::kHits] - before.values[Tally::kHits], 1u);
  table().closeSpace(space);
}

MAIN

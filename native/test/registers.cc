#include "core/registers.h"

#include <algorithm>
#include <iterator>

#include "check.h"
#include "core/key_file.h"
#include "core/serve_chunk.h"
#include "keys.h"

using namespace kms;

#if defined(__x86_64__)

namespace {

#define KMS_ALL_32(X)                                                                                                          \
  X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15) X(16) X(17) X(18) X(19) X(20) X(21) X(22) \
      X(23) X(24) X(25) X(26) X(27) X(28) X(29) X(30) X(31)
#define KMS_FIRST_16(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

constexpr size_t kWidth = 64;
constexpr uint8_t kFill = 0xa7;
uint8_t seen[32][kWidth];

#define KMS_LOAD_512(n) "vmovdqu64 (%0), %%zmm" #n "\n\t"
#define KMS_LOAD_256(n) "vmovups (%0), %%ymm" #n "\n\t"
#define KMS_LOAD_128(n) "movups (%0), %%xmm" #n "\n\t"
#define KMS_STORE_512(n) "vmovdqu64 %%zmm" #n ", 64*" #n "(%0)\n\t"
#define KMS_STORE_256(n) "vmovups %%ymm" #n ", 64*" #n "(%0)\n\t"
#define KMS_STORE_128(n) "movups %%xmm" #n ", 64*" #n "(%0)\n\t"
#define KMS_CHANGED                                                                                                              \
  "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", \
      "xmm15", "memory"

// As full as a cipher could leave them. Whatever is called next has to clear them, of whatever OpenSSL it makes use.
__attribute__((noinline)) void fillRegisters() {
  static uint8_t filled[kWidth];
  memset(filled, kFill, sizeof filled);
  memset(seen, 0, sizeof seen);
  if (__builtin_cpu_supports("avx512vl")) {
    __asm__ volatile(KMS_ALL_32(KMS_LOAD_512)::"r"(filled) : KMS_CHANGED);
  } else if (__builtin_cpu_supports("avx")) {
    __asm__ volatile(KMS_FIRST_16(KMS_LOAD_256)::"r"(filled) : KMS_CHANGED);
  } else {
    __asm__ volatile(KMS_FIRST_16(KMS_LOAD_128)::"r"(filled) : KMS_CHANGED);
  }
}

__attribute__((noinline)) void readRegisters() {
  if (__builtin_cpu_supports("avx512vl")) {
    __asm__ volatile(KMS_ALL_32(KMS_STORE_512)::"r"(seen) : "memory");
  } else if (__builtin_cpu_supports("avx")) {
    __asm__ volatile(KMS_FIRST_16(KMS_STORE_256)::"r"(seen) : "memory");
  } else {
    __asm__ volatile(KMS_FIRST_16(KMS_STORE_128)::"r"(seen) : "memory");
  }
}

// Whether four bytes in a row are as they were filled: what a sanitizer's own code has written there meanwhile is no secret.
bool holdsFill(const uint8_t* one) {
  const uint8_t fill[4] = {kFill, kFill, kFill, kFill};
  return std::search(one, one + kWidth, std::begin(fill), std::end(fill)) != one + kWidth;
}

// How many registers something was left in.
int64_t left() { return std::count_if(std::begin(seen), std::end(seen), holdsFill); }

template <typename Operation>
int64_t leftBy(Operation&& operation) {
  fillRegisters();
  operation();
  readRegisters();
  return left();
}

}  // namespace

TEST("a wipe clears every register in its full width") {
  const int64_t all = __builtin_cpu_supports("avx512vl") ? 32 : 16;
  CHECK_EQUAL(leftBy([] {}), all);
  CHECK_EQUAL(leftBy([] { wipeRegisters(); }), int64_t{0});
  CHECK_EQUAL(leftBy([] { wipeStack(); }), int64_t{0});
}

TEST("no use of a key, nor a refusal, leaves anything in a register") {
  KeyTable& table = KeyTable::instance();
  CHECK_OK(table.open(256 * 1024, 16));
  const SpaceId space = table.openSpace(8);
  Handle made;
  CHECK_EQUAL(leftBy([&] {
                table.add(space, Kind::Dek, [](uint8_t* key) { return memset(key, 7, kKeyBytes), Failure(); }, &made);
              }),
              int64_t{0});
  const auto nothing = [](const uint8_t*, const uint8_t* = nullptr) { return Status::Ok; };
  for (const Handle key : {made, Handle{}}) {
    CHECK_EQUAL(leftBy([&] { table.with(key, ~0u, nothing); }), int64_t{0});
    CHECK_EQUAL(leftBy([&] { table.withTwo(key, ~0u, key, ~0u, nothing); }), int64_t{0});
  }
  uint8_t text[16] = {}, sealed[16 + kOverheadBytes];
  for (const Handle key : {keys::published(space, "k_1", 5), Handle{}}) {
    CHECK_EQUAL(leftBy([&] { encryptWith(thisThread(), key, Bytes{text, sizeof text}, {}, sealed); }), int64_t{0});
    CHECK_EQUAL(leftBy([&] { decryptWith(thisThread(), key, Bytes{sealed, sizeof sealed}, {}, text); }), int64_t{0});
  }
  int32_t report[Report::kLength] = {};
  uint8_t frame[1] = {}, output[64];
  uint8_t* answer = nullptr;
  CHECK_EQUAL(leftBy([&] { serveChunk(thisThread(), space, kMayUseKeys, AuditActors::kNone, frame, 0, 0, output, sizeof output, report); }), int64_t{0});
  CHECK_EQUAL(leftBy([&] { serveLarge(thisPoolThread(), space, kMayUseKeys, AuditActors::kNone, frame, sizeof frame, &answer); }), int64_t{0});
  const check::Directory directory;
  const std::string path = directory / "master.key";
  CHECK_EQUAL(leftBy([&] { writeKeyFile(path.c_str()); }), int64_t{0});
  CHECK_EQUAL(access(path.c_str(), R_OK), 0);
  table.closeSpace(space);
}

#else

TEST("SKIPPED, NOTHING WAS TESTED: registers are read on x86-64 only") {}

#endif

MAIN

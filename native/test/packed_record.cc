#include "core/packed_record.h"

#include "check.h"
#include "core/record_keys.h"
#include "core/record_ring.h"
#include "keys.h"

using namespace kms;

namespace {

const std::string kId32 = "0123456789abcdef0123456789abcdef";
const std::string kAt = "2026-01-31T12:00:00.000Z";
const std::string kLater = "2026-02-01T00:00:00.000Z";

std::string field(const std::string& text) {
  const size_t length = text.size();
  std::string out;
  for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<char>(length >> shift));
  return out + text;
}

using Fields = std::vector<std::string>;

Fields recordFields() {
  return {"progressdb-kms/record/v1", "1", kId32, "k_" + kId32, "tenant/a:1", "A256GCM", "active", "9007199254740991",
          std::string(60, '\x07'), "kek_" + kId32, "4294967295", "4294967296", kAt, kLater, "uid:1000"};
}

std::string packedOf(const Fields& fields) {
  std::string out;
  for (const std::string& each : fields) out += field(each);
  return out + std::string(32, '\x09');
}

Fields with(Fields fields, size_t at, const std::string& text) {
  fields[at] = text;
  return fields;
}

// One reading from memory of just that size.
Failure read(const std::string& packed, Record* out) {
  const check::Exact exact(packed);
  const Failure failure = readPackedRecord(exact.data(), exact.size(), out);
  CHECK(failure.ok() != out->keyId.empty());
  return failure;
}
Failure read(const Fields& fields) {
  Record out;
  return read(packedOf(fields), &out);
}

// A space with two KEKs, the older one second, and a data key.
struct Ground {
  explicit Ground(uint32_t cachedKeys = 16) {
    KeyTable& table = KeyTable::instance();
    CHECK_OK(table.open(1 << 20, 16));
    space = table.openSpace(cachedKeys);
    ring.storeId = kId32;
    ring.recordMac = keys::loose(space, Kind::Mac);
    ring.keks = {{"kek_" + kId32, 2, keys::loose(space, Kind::Kek)}, {"kek_" + std::string(32, 'a'), 1, keys::loose(space, Kind::Kek)}};
    CHECK_OK(RecordRings::instance().set(space, ring));
    dek = keys::loose(space);
  }
  ~Ground() {
    RecordRings::instance().forget(space);
    KeyTable::instance().closeSpace(space);
  }
  std::string make(const std::string& id) const {
    const NewRecord made{id, "thread:1", "uid:1", kAt, 1024};
    std::vector<uint8_t> out(kMaxPackedBytes);
    const HotResult length = makeRecord(thisThread(), space, made, dek, out.data());
    CHECK(length > 0);
    return length > 0 ? std::string(out.begin(), out.begin() + length) : std::string();
  }
  HotResult load(const std::string& id, const std::string& packed, Handle* serving) const {
    const check::Exact exact(packed);
    return loadRecord(space, id, Bytes{exact.data(), exact.size()}, serving);
  }
  HotResult load(const std::string& id, const std::string& packed) const {
    Handle serving;
    return load(id, packed, &serving);
  }
  std::string move(const std::string& id, const std::string& packed, HotResult* result) const {
    const check::Exact exact(packed);
    std::vector<uint8_t> out(kMaxPackedBytes);
    *result = moveRecord(thisThread(), space, id, Bytes{exact.data(), exact.size()}, kLater, out.data());
    return *result > 0 ? std::string(out.begin(), out.begin() + *result) : std::string();
  }
  // The other KEK becomes the active one.
  void rotate() {
    std::swap(ring.keks[0], ring.keks[1]);
    CHECK_OK(RecordRings::instance().set(space, ring));
  }

  SpaceId space = 0;
  RecordRing ring;
  Handle dek;
};

bool sameKey(Handle a, Handle b) {
  bool same = false;
  const uint32_t dek = KeyTable::bit(Kind::Dek);
  CHECK(KeyTable::instance().withTwo(a, dek, b, dek, [&](const uint8_t* one, const uint8_t* other) {
    same = memcmp(one, other, kKeyBytes) == 0;
    return Status::Ok;
  }) == Status::Ok);
  return same;
}

}  // namespace

TEST("a packed record is read member for member, and written as it was read") {
  const std::string bytes = packedOf(recordFields());
  Record out;
  CHECK_OK(read(bytes, &out));
  CHECK_EQUAL(out.format, 1u);
  CHECK_EQUAL(out.storeId, kId32);
  CHECK_EQUAL(out.keyId, "k_" + kId32);
  CHECK_EQUAL(out.threadId, std::string("tenant/a:1"));
  CHECK_EQUAL(out.alg, std::string("A256GCM"));
  CHECK_EQUAL(out.state, std::string("active"));
  CHECK_EQUAL(out.version, 9007199254740991u);
  CHECK(out.wrapped == std::vector<uint8_t>(60, 7));
  CHECK_EQUAL(out.kekId, "kek_" + kId32);
  CHECK_EQUAL(out.kekVersion, 4294967295u);
  CHECK_EQUAL(out.usesReserved, 4294967296u);
  CHECK_EQUAL(out.createdAt, kAt);
  CHECK_EQUAL(out.updatedAt, kLater);
  CHECK_EQUAL(out.createdBy, std::string("uid:1000"));
  CHECK(out.mac == std::vector<uint8_t>(32, 9));
  PackedRecord packed;
  PackedFault fault;
  CHECK(unpack(keys::bytes(bytes), &packed, &fault));
  uint8_t canonical[kMaxCanonicalBytes], aad[kMaxDekAadBytes];
  const Bytes written = canonicalOf(packed, canonical);
  CHECK_EQUAL(std::string(written.data, written.data + written.length) + std::string(32, '\x09'), bytes);
  const Bytes bound = dekAadOf(packed, aad);
  std::string expected;
  for (const std::string& each : {std::string("progressdb-kms/dek/v1"), kId32, "k_" + kId32, std::string("tenant/a:1"), std::string("A256GCM"),
                                  kAt, std::string("uid:1000"), "kek_" + kId32, std::string("4294967295")}) {
    expected += field(each);
  }
  CHECK_EQUAL(std::string(bound.data, bound.data + bound.length), expected);
}

TEST("the longest record takes just the room that there is for it") {
  Fields longest = recordFields();
  longest[3] = "k_" + std::string(64, 'z');
  longest[4] = std::string(256, 'T');
  longest[6] = "destroyed";
  longest[14] = std::string(64, 'a');
  CHECK_EQUAL(packedOf(longest).size(), kMaxPackedBytes);
  CHECK_FAILURE(read(longest), Status::StoreUnavailable, "record: wrapped must be empty exactly when destroyed");
  PackedRecord packed;
  PackedFault fault;
  const std::string bytes = packedOf(with(longest, 6, "disabled"));
  CHECK(unpack(keys::bytes(bytes), &packed, &fault));
  uint8_t aad[kMaxDekAadBytes];
  CHECK_EQUAL(dekAadOf(packed, aad).length, kMaxDekAadBytes);
}

TEST("each member of a packed record is held to its rule and named, its content is not") {
  const char* const names[] = {"its first field", "format", "store_id", "key_id", "thread_id", "alg", "state", "version", "wrapped", "kek_id",
                               "kek_version", "uses_reserved", "created_at", "updated_at", "created_by"};
  const Fields good = recordFields();
  for (size_t i = 0; i < good.size(); ++i) {
    for (const std::string& wrong : {std::string("s3cret!"), good[i] + " ", std::string(300, 'x')}) {
      const Failure failure = read(with(good, i, wrong));
      CHECK_FAILURE(failure, Status::StoreUnavailable, "record: " + std::string(names[i]) + " does not follow its rule");
      CHECK(failure.detail.find("s3cret") == std::string::npos);
    }
  }
  for (const std::string wrong : {"0", "01", "-1", "+1", "1.0", "1e3", "", "9007199254740992", "99999999999999999999999"}) {
    CHECK_FAILURE(read(with(good, 7, wrong)), Status::StoreUnavailable, "version");
  }
  for (const std::string wrong : {"0", "4294967296"}) CHECK_FAILURE(read(with(good, 10, wrong)), Status::StoreUnavailable, "kek_version");
  CHECK_FAILURE(read(with(good, 11, "4294967297")), Status::StoreUnavailable, "uses_reserved");
  CHECK_OK(read(with(good, 4, "")));
  CHECK_OK(read(with(with(good, 6, "destroyed"), 8, "")));
  CHECK_FAILURE(read(with(good, 8, "")), Status::StoreUnavailable, "wrapped must be empty exactly when destroyed");
}

TEST("a packed record that is cut off or goes on is refused") {
  const std::string bytes = packedOf(recordFields());
  Record out;
  for (size_t length = 0; length < bytes.size(); ++length) CHECK(!read(bytes.substr(0, length), &out).ok());
  CHECK_FAILURE(read(bytes + std::string(1, '\0'), &out), Status::StoreUnavailable, "record: ");
  Fields more = recordFields();
  more.push_back("");
  CHECK_FAILURE(read(more), Status::StoreUnavailable, "goes on after its end");
  CHECK_FAILURE(read(std::string(kMaxPackedBytes + 1, 'x'), &out), Status::StoreUnavailable, "is too long");
  // A length beyond all memory.
  std::string endless = bytes;
  endless.replace(0, 4, "\xff\xff\xff\xff", 4);
  CHECK_FAILURE(read(endless, &out), Status::StoreUnavailable, "its first field");
}

TEST("a newer format is refused by name") {
  CHECK_FAILURE(read(with(recordFields(), 1, "2")), Status::Unsupported, "format 2 is newer than this version knows");
  CHECK_FAILURE(read(with(with(recordFields(), 0, "progressdb-kms/record/v3"), 1, "3")), Status::Unsupported, "format 3");
  CHECK_FAILURE(read(with(with(recordFields(), 0, "progressdb-kms/dek/v3"), 1, "3")), Status::StoreUnavailable, "its first field");
}

TEST("a key is made, loaded, moved and compared") {
  Ground ground;
  const std::string record = ground.make("k_1");
  Handle serving;
  CHECK_EQUAL(ground.load("k_1", record, &serving), HotResult{0});
  CHECK(sameKey(serving, ground.dek));
  CHECK_EQUAL(KeyTable::instance().kekVersionOf(serving), 2u);
  HotResult result = 1;
  CHECK(ground.move("k_1", record, &result).empty());
  CHECK_EQUAL(result, HotResult{0});
  ground.rotate();
  const std::string moved = ground.move("k_1", record, &result);
  Record out;
  CHECK_OK(read(moved, &out));
  CHECK_EQUAL(out.version, 2u);
  CHECK_EQUAL(out.kekVersion, 1u);
  CHECK_EQUAL(out.createdAt, kAt);
  CHECK_EQUAL(out.updatedAt, kLater);
  CHECK_EQUAL(out.usesReserved, 1024u);
  CHECK_EQUAL(holdSameKey(ground.space, keys::bytes(moved), keys::bytes(record)), HotResult{1});
  KeyTable::instance().retire(ground.space, "k_1", Retire::Evicted);
  CHECK_EQUAL(ground.load("k_1", moved, &serving), HotResult{0});
  CHECK(sameKey(serving, ground.dek));
  const Handle first = ground.dek;
  ground.dek = keys::loose(ground.space);
  CHECK_EQUAL(holdSameKey(ground.space, keys::bytes(moved), keys::bytes(ground.make("k_1"))), HotResult{0});
  CHECK(!sameKey(first, ground.dek));
}

TEST("every change of a byte is refused by every call, and leaves no key behind") {
  Ground ground;
  const std::string record = ground.make("k_1");
  ground.rotate();
  const uint32_t used = Arena::instance().used();
  for (size_t at = 0; at < record.size(); ++at) {
    for (const int bit : {1, 32, 128}) {
      std::string changed = record;
      changed[at] = static_cast<char>(changed[at] ^ bit);
      HotResult result = 0;
      CHECK(ground.load("k_1", changed) < 0);
      CHECK(ground.move("k_1", changed, &result).empty() && result < 0);
      CHECK(holdSameKey(ground.space, keys::bytes(record), keys::bytes(changed)) < 0);
      CHECK(holdSameKey(ground.space, keys::bytes(changed), keys::bytes(record)) < 0);
    }
  }
  CHECK_EQUAL(Arena::instance().used(), used);
  CHECK_EQUAL(ground.load("k_1", record), HotResult{0});
}

TEST("keys of another space, of another kind, and wiped ones make no ring and serve in none") {
  Ground ground, other;
  RecordRings& rings = RecordRings::instance();
  RecordRing ring = ground.ring;
  ring.recordMac = other.ring.recordMac;
  CHECK_FAILURE(rings.set(ground.space, ring), Status::InvalidArgument, "not a ring of this space");
  ring = ground.ring;
  ring.keks.clear();
  CHECK_FAILURE(rings.set(ground.space, ring), Status::InvalidArgument, "not a ring of this space");
  CHECK_FAILURE(rings.set(ground.space + 1000, ground.ring), Status::Sealed, "");
  const std::string record = ground.make("k_1");
  ring = ground.ring;
  std::swap(ring.recordMac, ring.keks[0].key);
  CHECK_OK(rings.set(ground.space, ring));
  CHECK_EQUAL(ground.load("k_1", record), hotFailure(Status::InvalidArgument));
  CHECK_OK(rings.set(ground.space, ground.ring));
  CHECK_EQUAL(other.load("k_1", record), hotFailure(Status::StoreUnavailable));
  KeyTable::instance().release(ground.ring.keks[0].key);
  CHECK_EQUAL(ground.load("k_1", record), hotFailure(Status::InvalidArgument));
  rings.forget(ground.space);
  CHECK_EQUAL(ground.load("k_1", record), hotFailure(Status::Sealed));
}

TEST("a full table makes room for each key that is loaded, and one that is there stays") {
  Ground ground(4);
  std::vector<std::string> records;
  for (int i = 0; i < 20; ++i) records.push_back(ground.make("k_" + std::to_string(i)));
  const uint32_t used = Arena::instance().used();
  for (int i = 0; i < 20; ++i) {
    Handle first, again;
    const std::string id = "k_" + std::to_string(i);
    CHECK_EQUAL(ground.load(id, records[static_cast<size_t>(i)], &first), HotResult{0});
    CHECK_EQUAL(ground.load(id, records[static_cast<size_t>(i)], &again), HotResult{0});
    CHECK(first == again);
  }
  CHECK_EQUAL(KeyTable::instance().cachedKeys(ground.space), 4u);
  CHECK_EQUAL(Arena::instance().used(), used + 4);
}

MAIN

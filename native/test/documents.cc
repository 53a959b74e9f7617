#include "core/document_rules.h"
#include "core/documents.h"

#include <string>
#include <utility>
#include <vector>

#include "test/check.h"

using kms::Failure;
using kms::Keyring;
using kms::Record;
using kms::Status;

using Members = std::vector<std::pair<std::string, std::string>>;  // name, JSON of the value

static std::string quoted(const std::string& text) { return "\"" + text + "\""; }
static std::string base64Of(size_t bytes) {
  std::string text((bytes + 2) / 3 * 4, 'A');
  for (size_t i = 0; i < (3 - bytes % 3) % 3; i++) text[text.size() - 1 - i] = '=';
  return quoted(text);
}
static const std::string kId32 = "0123456789abcdef0123456789abcdef";
static const std::string kTime = "2026-01-31T12:00:00.000Z";

static Members recordMembers() {
  return {{"format", "1"},
          {"store_id", quoted(kId32)},
          {"key_id", quoted("k_" + kId32)},
          {"thread_id", quoted("tenant/a:1@x.y_z-1")},
          {"alg", quoted("A256GCM")},
          {"state", quoted("active")},
          {"version", "9007199254740991"},
          {"wrapped", base64Of(60)},
          {"kek_id", quoted("kek_" + kId32)},
          {"kek_version", "4294967295"},
          {"uses_reserved", "4294967296"},
          {"created_at", quoted(kTime)},
          {"updated_at", quoted("2024-02-29T23:59:59.999Z")},
          {"created_by", quoted("uid:1000")},
          {"mac", base64Of(32)}};
}

static Members slotMembers() {
  return {{"slot_id", quoted("s_" + kId32)},
          {"kind", quoted("recovery")},
          {"state", quoted("pending")},
          {"expires_at", quoted("2026-02-07T12:00:00.000Z")},
          {"salt", base64Of(32)},
          {"root", base64Of(60)},
          {"slot_key", base64Of(60)},
          {"created_at", quoted(kTime)}};
}

static Members firstSlotMembers() {
  Members members = slotMembers();
  members.erase(members.begin() + 1, members.begin() + 4);
  return members;
}

static Members auditKeyMembers() {
  return {{"public", base64Of(32)}, {"wrapped", base64Of(60)}, {"created_at", quoted(kTime)}};
}

static Members kekMembers() {
  return {{"kek_id", quoted("kek_" + kId32)}, {"kek_version", "1"},    {"state", quoted("active")},
          {"wrapped", base64Of(60)},          {"wraps_reserved", "0"}, {"created_at", quoted(kTime)}};
}

static std::string object(const Members& members) {
  std::string json;
  for (const auto& member : members) json += (json.empty() ? "{" : ",") + quoted(member.first) + ":" + member.second;
  return json + "}";
}

static std::string list(const Members& item, size_t count) {
  std::string json = "[";
  for (size_t i = 0; i < count; i++) json += (i == 0 ? "" : ",") + object(item);
  return json + "]";
}

static Members keyringMembers() {
  return {{"format", "2"},
          {"store_id", quoted(kId32)},
          {"generation", "1"},
          {"slots", list(slotMembers(), 2)},
          {"keks", list(kekMembers(), 3)},
          {"record_mac", base64Of(60)},
          {"audit_keys", list(auditKeyMembers(), 2)},
          {"default_key_id", quoted("")},
          {"sha256", quoted(kId32 + kId32)},
          {"mac", base64Of(32)}};
}

static Members firstKeyringMembers() {
  return {{"format", "1"},
          {"store_id", quoted(kId32)},
          {"generation", "1"},
          {"slots", list(firstSlotMembers(), 2)},
          {"keks", list(kekMembers(), 3)},
          {"default_key_id", quoted("")},
          {"sha256", quoted(kId32 + kId32)},
          {"mac", base64Of(32)}};
}

static Members with(Members members, const std::string& name, const std::string& value) {
  for (auto& member : members) {
    if (member.first == name) member.second = value;
  }
  return members;
}

static Members without(Members members, size_t index) {
  members.erase(members.begin() + static_cast<ptrdiff_t>(index));
  return members;
}

static bool isEmpty(const Record& r) {
  return r.format + r.version + r.kekVersion + r.usesReserved == 0 && r.wrapped.empty() && r.mac.empty() &&
         (r.storeId + r.keyId + r.threadId + r.alg + r.state + r.kekId + r.createdAt + r.updatedAt + r.createdBy).empty();
}

static bool isEmpty(const Keyring& k) {
  return k.format + k.generation == 0 && k.slots.empty() && k.keks.empty() && k.recordMac.empty() && k.auditKeys.empty() &&
         k.sha256.empty() && k.mac.empty() &&
         (k.storeId + k.defaultKeyId).empty();
}

// One reading, with what must hold after every reading: nothing is left of a document that was refused, nor of one before.
template <typename Document>
static Failure settled(Failure (*read)(const uint8_t*, size_t, Document*), const std::string& json, Document* out) {
  const check::Exact text(json);
  const Failure failure = read(text.data(), text.size(), out);
  CHECK(failure.ok() != isEmpty(*out));
  return failure;
}

static Failure record(const std::string& json, Record* out) { return settled(kms::readRecord, json, out); }
static Failure record(const Members& members) {
  Record out;
  CHECK_OK(record(object(recordMembers()), &out));
  return record(object(members), &out);
}
static Failure keyring(const std::string& json, Keyring* out) { return settled(kms::readKeyring, json, out); }
static Failure keyring(const Members& members) {
  Keyring out;
  CHECK_OK(keyring(object(keyringMembers()), &out));
  return keyring(object(members), &out);
}

TEST("a record is read member for member") {
  Record out;
  CHECK_OK(record(object(recordMembers()), &out));
  CHECK_EQUAL(out.format, 1u);
  CHECK_EQUAL(out.storeId, kId32);
  CHECK_EQUAL(out.keyId, "k_" + kId32);
  CHECK_EQUAL(out.threadId, std::string("tenant/a:1@x.y_z-1"));
  CHECK_EQUAL(out.alg, std::string("A256GCM"));
  CHECK_EQUAL(out.state, std::string("active"));
  CHECK_EQUAL(out.version, 9007199254740991u);
  CHECK(out.wrapped == std::vector<uint8_t>(60));
  CHECK_EQUAL(out.kekId, "kek_" + kId32);
  CHECK_EQUAL(out.kekVersion, 4294967295u);
  CHECK_EQUAL(out.usesReserved, 4294967296u);
  CHECK_EQUAL(out.createdAt, kTime);
  CHECK_EQUAL(out.updatedAt, std::string("2024-02-29T23:59:59.999Z"));
  CHECK_EQUAL(out.createdBy, std::string("uid:1000"));
  CHECK(out.mac == std::vector<uint8_t>(32));
}

TEST("members may come in any order and with escapes") {
  Members members = recordMembers();
  std::swap(members.front(), members.back());
  std::swap(members[3], members[9]);
  CHECK_OK(record(members));
  CHECK_OK(record(with(members, "alg", "\"\\u0041256GCM\"")));
}

TEST("each member of a record is needed, once, and no other may be there") {
  const Members members = recordMembers();
  for (size_t i = 0; i < members.size(); i++) {
    CHECK_FAILURE(record(without(members, i)), Status::StoreUnavailable, "record: " + members[i].first + " is missing");
    Members twice = members;
    twice.push_back(members[i]);
    CHECK_FAILURE(record(twice), Status::StoreUnavailable, "record: " + members[i].first + " stands twice");
  }
  Members more = members;
  more.push_back({"s3cret", "1"});
  const Failure unknown = record(more);
  CHECK_FAILURE(unknown, Status::StoreUnavailable, "record: has an unknown member");
  CHECK(unknown.detail.find("s3cret") == std::string::npos);
}

TEST("each member of a record is held to its rule and named, its content is not") {
  const std::string long65(65, 'a'), long257(257, 'a');
  const Members wrong = {
      {"format", "0"}, {"format", "\"1\""},
      {"store_id", quoted(kId32 + "0")}, {"store_id", quoted("0123456789ABCDEF0123456789abcdef")}, {"store_id", "1"},
      {"key_id", quoted("k_")}, {"key_id", quoted("k_A")}, {"key_id", quoted("q_1")}, {"key_id", quoted("k_../x")},
      {"key_id", quoted("k_" + long65)}, {"key_id", quoted("")}, {"key_id", "\"k_1\\u0000\""},
      {"thread_id", quoted("a b")}, {"thread_id", quoted(long257)}, {"thread_id", quoted("\xc3\xa9")}, {"thread_id", "null"},
      {"alg", quoted("A128GCM")}, {"alg", quoted("")},
      {"state", quoted("Active")}, {"state", quoted("decrypt-only")},
      {"version", "0"}, {"version", "9007199254740992"}, {"version", "1.0"}, {"version", "-1"},
      {"wrapped", base64Of(59)}, {"wrapped", base64Of(61)}, {"wrapped", base64Of(32)}, {"wrapped", quoted(std::string(80, '*'))},
      {"kek_id", quoted("kek_" + kId32 + "0")}, {"kek_id", quoted("k_" + kId32)},
      {"kek_version", "0"}, {"kek_version", "4294967296"},
      {"uses_reserved", "4294967297"}, {"uses_reserved", "\"0\""},
      {"created_at", quoted("2026-01-31T12:00:00Z")}, {"created_at", quoted("2026-01-31 12:00:00.000Z")},
      {"created_at", quoted("2026-02-29T12:00:00.000Z")}, {"created_at", quoted("1900-02-29T12:00:00.000Z")},
      {"created_at", quoted("2026-04-31T12:00:00.000Z")}, {"created_at", quoted("2026-13-01T12:00:00.000Z")},
      {"created_at", quoted("2026-00-01T12:00:00.000Z")}, {"created_at", quoted("2026-01-00T12:00:00.000Z")},
      {"updated_at", quoted("2026-01-01T24:00:00.000Z")}, {"updated_at", quoted("2026-01-01T00:60:00.000Z")},
      {"updated_at", quoted("2026-01-01T00:00:60.000Z")}, {"updated_at", quoted("2026-01-01T00:00:00.000+")},
      {"created_by", quoted("")}, {"created_by", quoted(long65)}, {"created_by", quoted("uid 1")},
      {"mac", base64Of(31)}, {"mac", base64Of(33)}, {"mac", quoted("")},
      {"mac", quoted(std::string(42, 'A') + "B=")}, {"mac", quoted(std::string(43, 'A') + "\\n")},
  };
  for (const auto& member : wrong) {
    CHECK_FAILURE(record(with(recordMembers(), member.first, member.second)), Status::StoreUnavailable,
                  "record: " + member.first + " does not follow its rule");
  }
}

TEST("the edges of the rules are inside") {
  const Members right = {{"thread_id", quoted("")}, {"thread_id", quoted(std::string(256, 'Z'))}, {"version", "1"},
                         {"kek_version", "1"}, {"uses_reserved", "0"}, {"key_id", quoted("k_z")},
                         {"key_id", quoted("k_" + std::string(64, '9'))}, {"created_by", quoted(std::string(64, '-'))},
                         {"created_at", quoted("2000-02-29T00:00:00.000Z")}, {"state", quoted("disabled")}};
  for (const auto& member : right) CHECK_OK(record(with(recordMembers(), member.first, member.second)));
}

TEST("wrapped is empty exactly when the key is destroyed") {
  const Members destroyed = with(recordMembers(), "state", quoted("destroyed"));
  const std::string detail = "wrapped must be empty exactly when destroyed";
  CHECK_FAILURE(record(destroyed), Status::StoreUnavailable, detail);
  CHECK_FAILURE(record(with(recordMembers(), "wrapped", quoted(""))), Status::StoreUnavailable, detail);
  Record out;
  CHECK_OK(record(object(recordMembers()), &out));
  CHECK_OK(record(object(with(destroyed, "wrapped", quoted(""))), &out));
  CHECK(out.wrapped.empty());
}

TEST("a newer format is refused by name, whatever else the document holds") {
  const std::string detail = "format 2 is newer than this version knows";
  CHECK_FAILURE(record(with(recordMembers(), "format", "2")), Status::Unsupported, detail);
  CHECK_FAILURE(keyring(with(keyringMembers(), "format", "3")), Status::Unsupported, "format 3 is newer than this version knows");
  CHECK_FAILURE(record({{"new", "[{\"deep\":[[[[-1.5e3,null]]]]}]"}, {"format", "2"}}), Status::Unsupported, detail);
  CHECK_FAILURE(record({{"format", "2"}, {"long", quoted(std::string(5000, 'x'))}}), Status::Unsupported, detail);
  CHECK_FAILURE(keyring({{"format", "7"}}), Status::Unsupported, "format 7 is newer");
}

TEST("a document that is no JSON, is cut short, goes on or is too long is refused") {
  Record out;
  const std::string json = object(recordMembers());
  for (size_t i = 0; i < json.size(); i++) {
    CHECK_EQUAL(record(json.substr(0, i), &out).status, Status::StoreUnavailable);
  }
  CHECK_FAILURE(record("", &out), Status::StoreUnavailable, "record: is not valid JSON");
  CHECK_FAILURE(record(json + "{}", &out), Status::StoreUnavailable, "record: goes on after its end");
  CHECK_OK(record(json + std::string(4096 - json.size(), '\n'), &out));
  CHECK_FAILURE(record(json + std::string(4097 - json.size(), '\n'), &out), Status::StoreUnavailable, "record: is too long");
}

TEST("a keyring that is cut short is refused") {
  Keyring out;
  const std::string json = object(keyringMembers());
  for (size_t i = 0; i < json.size(); i++) CHECK_EQUAL(keyring(json.substr(0, i), &out).status, Status::StoreUnavailable);
}

TEST("a keyring is read member for member") {
  Keyring out;
  CHECK_OK(keyring(object(with(keyringMembers(), "default_key_id", quoted("k_1"))), &out));
  CHECK_EQUAL(out.storeId, kId32);
  CHECK_EQUAL(out.generation, 1u);
  CHECK_EQUAL(out.slots.size(), size_t{2});
  CHECK_EQUAL(out.slots[1].slotId, "s_" + kId32);
  CHECK_EQUAL(out.slots[1].kind, std::string("recovery"));
  CHECK_EQUAL(out.slots[1].state, std::string("pending"));
  CHECK_EQUAL(out.slots[1].expiresAt, std::string("2026-02-07T12:00:00.000Z"));
  CHECK_EQUAL(out.recordMac.size(), size_t{60});
  CHECK_EQUAL(out.auditKeys.size(), size_t{2});
  CHECK_EQUAL(out.auditKeys[1].publicKey.size() + out.auditKeys[1].wrapped.size(), size_t{92});
  CHECK_EQUAL(out.auditKeys[1].createdAt, kTime);
  CHECK_EQUAL(out.slots[1].salt.size() + out.slots[1].root.size() + out.slots[1].slotKey.size(), size_t{152});
  CHECK_EQUAL(out.keks.size(), size_t{3});
  CHECK_EQUAL(out.keks[2].kekId, "kek_" + kId32);
  CHECK_EQUAL(out.keks[2].wrapped.size(), size_t{60});
  CHECK_EQUAL(out.defaultKeyId, std::string("k_1"));
  CHECK_EQUAL(out.sha256.size(), size_t{32});
  CHECK_EQUAL(unsigned{out.sha256[1]}, 0x23u);
  CHECK_EQUAL(out.mac.size(), size_t{32});
}

TEST("each member of a keyring, of a slot and of a KEK is needed, once") {
  const Members members = keyringMembers();
  for (size_t i = 0; i < members.size(); i++) {
    CHECK_FAILURE(keyring(without(members, i)), Status::StoreUnavailable, "keyring: " + members[i].first + " is missing");
  }
  const Members slot = slotMembers();
  for (size_t i = 0; i < slot.size(); i++) {
    CHECK_FAILURE(keyring(with(members, "slots", list(without(slot, i), 1))), Status::StoreUnavailable,
                  "keyring: slots[0]: " + slot[i].first + " is missing");
  }
  Members kek = kekMembers();
  for (size_t i = 0; i < kek.size(); i++) {
    CHECK_FAILURE(keyring(with(members, "keks", list(without(kek, i), 1))), Status::StoreUnavailable,
                  "keyring: keks[0]: " + kek[i].first + " is missing");
  }
  const Members auditKey = auditKeyMembers();
  for (size_t i = 0; i < auditKey.size(); i++) {
    CHECK_FAILURE(keyring(with(members, "audit_keys", list(without(auditKey, i), 1))), Status::StoreUnavailable,
                  "keyring: audit_keys[0]: " + auditKey[i].first + " is missing");
  }
  kek.push_back(kek.front());
  CHECK_FAILURE(keyring(with(members, "keks", list(kek, 1))), Status::StoreUnavailable, "keks[0]: kek_id stands twice");
}

TEST("the edges of a keyring's rules are inside") {
  const Members slots = {{"kind", quoted("master")}, {"state", quoted("active")}, {"state", quoted("successor")}, {"expires_at", quoted("")}};
  for (const auto& member : slots) {
    CHECK_OK(keyring(with(keyringMembers(), "slots", list(with(slotMembers(), member.first, member.second), 1))));
  }
  CHECK_OK(keyring(with(keyringMembers(), "audit_keys", "[]")));
}

TEST("a keyring of format 1 is read with what that format left unsaid") {
  Keyring out;
  CHECK_OK(keyring(object(firstKeyringMembers()), &out));
  CHECK_EQUAL(out.format, 1u);
  CHECK_EQUAL(out.slots.size(), size_t{2});
  CHECK_EQUAL(out.slots[1].kind, std::string("master"));
  CHECK_EQUAL(out.slots[1].state, std::string("active"));
  CHECK(out.slots[1].expiresAt.empty() && out.recordMac.empty() && out.auditKeys.empty());
}

TEST("the members of the two formats of a keyring are not mixed") {
  CHECK_FAILURE(keyring(with(keyringMembers(), "format", "1")), Status::StoreUnavailable, "slots[0]: has an unknown member");
  CHECK_FAILURE(keyring(with(firstKeyringMembers(), "format", "2")), Status::StoreUnavailable, "slots[0]: kind is missing");
  CHECK_FAILURE(keyring(with(firstKeyringMembers(), "slots", list(slotMembers(), 1))), Status::StoreUnavailable,
                "slots[0]: has an unknown member");
}

TEST("each member of a keyring is held to its rule") {
  const Members members = keyringMembers();
  const Members wrong = {
      {"generation", "0"}, {"slots", "[]"}, {"slots", "{}"}, {"slots", list(slotMembers(), 65)}, {"keks", "[]"},
      {"keks", list(kekMembers(), 1025)}, {"record_mac", quoted("")}, {"record_mac", base64Of(32)},
      {"audit_keys", list(auditKeyMembers(), 3)}, {"audit_keys", "{}"}, {"default_key_id", quoted("k_A")}, {"sha256", quoted(kId32)},
      {"sha256", quoted(kId32 + "0123456789ABCDEF0123456789ABCDEF")}, {"mac", quoted("")}};
  for (const auto& member : wrong) {
    CHECK_FAILURE(keyring(with(members, member.first, member.second)), Status::StoreUnavailable,
                  "keyring: " + member.first + " does not follow its rule");
  }
  const std::string good = object(slotMembers());
  const Members badSlots = {{"slot_id", quoted("s_1")}, {"kind", quoted("")}, {"kind", quoted("Master")}, {"state", quoted("")},
                            {"state", quoted("disabled")}, {"expires_at", quoted("never")}, {"expires_at", "null"}, {"salt", base64Of(31)}, {"root", quoted("")}, {"slot_key", base64Of(32)},
                            {"created_at", quoted("now")}};
  for (const auto& member : badSlots) {
    const std::string slots = "[" + good + "," + object(with(slotMembers(), member.first, member.second)) + "]";
    CHECK_FAILURE(keyring(with(members, "slots", slots)), Status::StoreUnavailable,
                  "keyring: slots[1]: " + member.first + " does not follow its rule");
  }
  const Members badKeks = {{"kek_id", quoted("kek_1")}, {"kek_version", "0"}, {"state", quoted("disabled")},
                           {"wrapped", quoted("")}, {"wraps_reserved", "4294967297"}, {"created_at", quoted(kTime + "Z")}};
  for (const auto& member : badKeks) {
    CHECK_FAILURE(keyring(with(members, "keks", list(with(kekMembers(), member.first, member.second), 1))),
                  Status::StoreUnavailable, "keyring: keks[0]: " + member.first + " does not follow its rule");
  }
  const Members badAuditKeys = {{"public", base64Of(60)}, {"wrapped", base64Of(32)}, {"created_at", quoted("")}};
  for (const auto& member : badAuditKeys) {
    CHECK_FAILURE(keyring(with(members, "audit_keys", list(with(auditKeyMembers(), member.first, member.second), 1))),
                  Status::StoreUnavailable, "keyring: audit_keys[0]: " + member.first + " does not follow its rule");
  }
  CHECK_FAILURE(keyring(with(members, "slots", "[1]")), Status::StoreUnavailable, "keyring: slots[0] is not valid");
  CHECK_OK(keyring(with(members, "slots", list(slotMembers(), 64))));
  CHECK_OK(keyring(with(members, "keks", list(with(kekMembers(), "state", quoted("decrypt-only")), 1024))));
}

TEST("key ids and thread ids follow their patterns") {
  CHECK(kms::isKeyId("k_0az9") && kms::isKeyId("k_" + std::string(64, 'a')));
  for (const std::string id : {"", "k", "k_", "K_1", "k_-", "k_1\n", "xk_1"}) CHECK(!kms::isKeyId(id));
  CHECK(!kms::isKeyId("k_" + std::string(65, 'a')));
  CHECK(kms::isThreadId("AZaz09._:@/-") && kms::isThreadId(std::string(256, 'x')));
  for (const std::string id : {"", " ", "a b", "a\n", "a+b", "\xc3\xa9"}) CHECK(!kms::isThreadId(id));
  CHECK(!kms::isThreadId(std::string(257, 'x')));
  CHECK(!kms::isThreadId(std::string_view("a\0b", 3)));
}

MAIN

#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "check.h"
#include "core/data_audit.h"
#include "core/serve_chunk.h"
#include "keys.h"

// A space with a chain, requests for it, and its lines taken apart.
namespace audit {

using namespace kms;
using Message = std::vector<uint8_t>;

constexpr char kStore[] = "00112233445566778899aabbccddeeff";
constexpr char kBoot[] = "0123456789abcdef";

inline uint32_t actor(const std::string& name) { return AuditActors::instance().numberOf(name); }

struct Ground {
  SpaceId space = 0;
  std::shared_ptr<AuditChain> chain;
  std::shared_ptr<DataAudit> audit;

  explicit Ground(DataMode mode, uint32_t cachedKeys = 2000) {
    if (!KeyTable::instance().open(512 * 1024, 64).ok()) abort();
    space = KeyTable::instance().openSpace(cachedKeys);
    newChain();
    audit = DataAudits::instance().of(space);
    audit->set(mode, actor("uid:0"));
  }
  ~Ground() {
    KeyTable::instance().closeSpace(space);
    DataAudits::instance().forget(space);
  }
  void newChain() { CHECK_OK(AuditChain::open(space, kStore, kBoot, ChainHead(), &chain)); }

  std::string taken(size_t most = 1 << 20) {
    std::vector<uint8_t> lines;
    CHECK_OK(audit->take(*chain, most, &lines));
    return std::string(lines.begin(), lines.end());
  }
  // Until there is nothing more.
  std::string all() {
    std::string text;
    for (std::string more = taken(); !more.empty(); more = taken()) text += more;
    return text;
  }
};

inline std::vector<std::string> linesIn(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    CHECK(end != std::string::npos);
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

// A member of a line's event, "" if there is none.
inline std::string member(const std::string& line, const std::string& name) {
  const std::string before = "\"" + name + "\":";
  size_t from = line.find(before);
  if (from == std::string::npos) return "";
  from += before.size();
  if (line[from] == '"') return line.substr(from + 1, line.find('"', from + 1) - from - 1);
  return line.substr(from, line.find_first_of(",}", from) - from);
}

inline uint64_t number(const std::string& line, const std::string& name) {
  const std::string text = member(line, name);
  return text.empty() ? 0 : std::stoull(text);
}

// What an event is told by: actor, key, way and outcome. Of a line without a key id the key is "".
inline std::string nameOf(const std::string& line) {
  return member(line, "actor") + " " + member(line, "key_id") + " " + member(line, "type") + " " + member(line, "outcome");
}

struct Sum {
  uint64_t count = 0, bytes = 0;
  bool operator==(const Sum& other) const { return count == other.count && bytes == other.bytes; }
};
using Sums = std::map<std::string, Sum>;

// All lines, in groups or single, added up.
inline Sums sumsOf(const std::string& text) {
  Sums sums;
  for (const std::string& line : linesIn(text)) {
    Sum& sum = sums[nameOf(line)];
    sum.count += !member(line, "count").empty() ? number(line, "count") : !member(line, "items").empty() ? number(line, "items") : 1;
    sum.bytes += number(line, "bytes");
  }
  return sums;
}

inline void expectSums(const Sums& got, const Sums& expected) {
  for (const auto& [name, sum] : expected) {
    const auto found = got.find(name);
    check::report(found != got.end() && found->second == sum, __FILE__, __LINE__,
                  name + " is " + (found == got.end() ? "missing" : std::to_string(found->second.count) + "/" + std::to_string(found->second.bytes)) +
                      ", not " + std::to_string(sum.count) + "/" + std::to_string(sum.bytes));
  }
  for (const auto& [name, sum] : got) check::report(expected.count(name) != 0, __FILE__, __LINE__, name + " was not expected");
}

inline void append(Message& message, std::initializer_list<int> bytes) {
  for (const int byte : bytes) message.push_back(static_cast<uint8_t>(byte));
}

inline void appendBinary(Message& message, const Message& data) {
  append(message, {0xc6, static_cast<int>(data.size() >> 24 & 255), static_cast<int>(data.size() >> 16 & 255), static_cast<int>(data.size() >> 8 & 255),
                   static_cast<int>(data.size() & 255)});
  message.insert(message.end(), data.begin(), data.end());
}

// The body [7, operation, id, data | [items…], nil].
inline Message body(int operation, const std::string& id, const std::vector<Message>& items) {
  Message made;
  append(made, {0x95, 7, operation, 0xd9, static_cast<int>(id.size())});
  made.insert(made.end(), id.begin(), id.end());
  if (operation >= 4) append(made, {0xdc, static_cast<int>(items.size() >> 8 & 255), static_cast<int>(items.size() & 255)});
  for (const Message& item : items) appendBinary(made, item);
  append(made, {0xc0});
  return made;
}

inline Message framed(const Message& made) {
  Message frame;
  append(frame, {static_cast<int>(made.size() >> 24), static_cast<int>(made.size() >> 16 & 255), static_cast<int>(made.size() >> 8 & 255),
                 static_cast<int>(made.size() & 255)});
  frame.insert(frame.end(), made.begin(), made.end());
  return frame;
}

// The answer's frames; why the first frame was deferred stands in `deferred`, -1 if none was.
inline Message served(SpaceId space, uint32_t who, Message chunk, int32_t* deferred = nullptr, Message* after = nullptr) {
  Message output(1 << 20);
  std::vector<int32_t> report(Report::kLength);
  report[Report::kUnits] = INT32_MAX;
  serveChunk(thisThread(), space, kMayUseKeys, who, chunk.data(), 0, chunk.size(), output.data(), output.size(), report.data());
  if (deferred != nullptr) *deferred = report[Report::kDeferred] == 0 ? -1 : report[Report::kFirst + 2];
  if (after != nullptr) *after = chunk;
  output.resize(static_cast<size_t>(report[Report::kWritten]));
  return output;
}

// The code of `[7, code, …]` in an answer's frame.
inline int codeOf(const Message& frame) { return frame.size() < 7 ? -1 : frame[6]; }

// What no line may hold.
inline constexpr char kSecret[] = "plaintext-that-no-line-may-hold!";

inline Message secret(size_t length) {
  Message data;
  while (data.size() < length) data.push_back(static_cast<uint8_t>(kSecret[data.size() % (sizeof kSecret - 1)]));
  return data;
}

inline uint64_t usesLeft(SpaceId space) {
  uint64_t left = 0;
  for (const auto& rest : KeyTable::instance().takeUnusedUses(space)) left += rest.second;
  return left;
}

inline void expectNoSecret(const std::string& text) {
  for (size_t i = 0; i + 8 <= sizeof kSecret - 1; ++i) CHECK(text.find(std::string(kSecret + i, 8)) == std::string::npos);
}

}  // namespace audit

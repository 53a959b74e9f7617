// memory-scan PID < needles: looks for byte strings in all readable memory of a process, except the key arena.
// A needle is a line `name hex`. Prints one JSON object: what was read, what was left out and why, and every hit with its
// mapping and the bytes around it.

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iostream>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

struct Needle {
  std::string name;
  std::string bytes;
};

struct Mapping {
  uint64_t start = 0;
  uint64_t end = 0;
  std::string permissions;
  std::string name;
  std::string flags;

  bool has(const char* flag) const { return (" " + flags + " ").find(std::string(" ") + flag + " ") != std::string::npos; }
  // By name where the kernel names it; else as what nothing but the arena is: locked, not dumped, not forked.
  bool isArena() const {
    return name.rfind("/secretmem", 0) == 0 || name == "[anon:progressdb-kms arena]" || (has("lo") && has("dd") && has("dc"));
  }
};

std::string hex(const std::string& bytes) {
  std::string text;
  char digits[3];
  for (const char byte : bytes) {
    snprintf(digits, sizeof digits, "%02x", static_cast<unsigned char>(byte));
    text += digits;
  }
  return text;
}

std::string unhex(const std::string& text) {
  std::string bytes;
  for (size_t i = 0; i + 1 < text.size(); i += 2) bytes.push_back(static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return bytes;
}

std::vector<Mapping> mappingsOf(const std::string& pid) {
  std::vector<Mapping> mappings;
  std::ifstream smaps("/proc/" + pid + "/smaps");
  for (std::string line; std::getline(smaps, line);) {
    Mapping mapping;
    char permissions[8] = {};
    int nameAt = 0;
    if (sscanf(line.c_str(), "%lx-%lx %7s %*s %*s %*s %n", &mapping.start, &mapping.end, permissions, &nameAt) == 3) {
      mapping.permissions = permissions;
      if (nameAt != 0) mapping.name = line.substr(static_cast<size_t>(nameAt));
      mappings.push_back(mapping);
    } else if (line.rfind("VmFlags:", 0) == 0 && !mappings.empty()) {
      mappings.back().flags = line.substr(8);
    }
  }
  return mappings;
}

// Every needle by its first eight bytes, behind a filter on the first two that lets almost nothing through.
class Finder {
 public:
  static constexpr size_t kKeyBytes = 8;

  explicit Finder(const std::vector<Needle>& needles) : filter_(1 << 16, false) {
    for (const Needle& needle : needles) {
      longest_ = std::max(longest_, needle.bytes.size());
      filter_[start(needle.bytes.data())] = true;
      byKey_[key(needle.bytes.data())].push_back(&needle);
    }
  }

  size_t longest() const { return longest_; }

  // Hits that begin in data[0, starts) and end before `length`.
  template <typename Found>
  void search(const char* data, size_t starts, size_t length, Found&& found) const {
    for (size_t at = 0; at < starts && at + kKeyBytes <= length; ++at) {
      if (!filter_[start(data + at)]) continue;
      const auto candidates = byKey_.find(key(data + at));
      if (candidates == byKey_.end()) continue;
      for (const Needle* needle : candidates->second) {
        const size_t size = needle->bytes.size();
        if (at + size <= length && memcmp(data + at, needle->bytes.data(), size) == 0) found(*needle, at);
      }
    }
  }

 private:
  static uint16_t start(const char* at) {
    uint16_t value;
    memcpy(&value, at, sizeof value);
    return value;
  }
  static uint64_t key(const char* at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
  }

  std::vector<char> filter_;
  std::unordered_map<uint64_t, std::vector<const Needle*>> byKey_;
  size_t longest_ = 0;
};

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) out += c == '"' || c == '\\' || static_cast<unsigned char>(c) < 0x20 ? '?' : c;
  return out + "\"";
}

struct Report {
  std::vector<std::string> hits, arenas, unread;
  uint64_t bytes = 0;

  static void list(const char* name, const std::vector<std::string>& items) {
    printf("\"%s\":[", name);
    for (size_t i = 0; i < items.size(); ++i) printf("%s%s", i == 0 ? "" : ",", items[i].c_str());
    printf("],");
  }
  void print() const {
    printf("{");
    list("hits", hits);
    list("arenas", arenas);
    list("unread", unread);
    printf("\"bytes\":%lu}\n", bytes);
  }
};

constexpr size_t kChunk = 1 << 20;
constexpr size_t kAround = 64;

void scan(int memory, const Mapping& mapping, const Finder& finder, Report* report) {
  std::vector<char> chunk(kChunk + finder.longest());
  for (uint64_t from = mapping.start; from < mapping.end; from += kChunk) {
    const size_t starts = std::min<uint64_t>(kChunk, mapping.end - from);
    const size_t wanted = std::min<uint64_t>(chunk.size(), mapping.end - from);
    const ssize_t got = pread(memory, chunk.data(), wanted, static_cast<off_t>(from));
    if (got < static_cast<ssize_t>(starts)) {
      report->unread.push_back(quoted(mapping.permissions + " " + mapping.name));
      if (got <= 0) return;
    }
    report->bytes += std::min<uint64_t>(starts, static_cast<uint64_t>(got));
    finder.search(chunk.data(), starts, static_cast<size_t>(got), [&](const Needle& needle, size_t at) {
      const size_t before = std::min(at, kAround);
      const size_t after = std::min(static_cast<size_t>(got) - at, needle.bytes.size() + kAround);
      char address[32];
      snprintf(address, sizeof address, "%lx", from + at);
      report->hits.push_back("{\"needle\":" + quoted(needle.name) + ",\"address\":" + quoted(address) + ",\"mapping\":" +
                             quoted(mapping.permissions + " " + mapping.name) + ",\"before\":" +
                             quoted(hex(std::string(chunk.data() + at - before, before))) + ",\"from\":" +
                             quoted(hex(std::string(chunk.data() + at, after))) + "}");
    });
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::vector<Needle> needles;
  for (std::string name, digits; std::cin >> name >> digits;) {
    needles.push_back({name, unhex(digits)});
    if (needles.back().bytes.size() < Finder::kKeyBytes) return 2;
  }
  const std::string pid = argv[1];
  const int memory = open(("/proc/" + pid + "/mem").c_str(), O_RDONLY);
  if (memory < 0) {
    perror("memory-scan: /proc/PID/mem");
    return 1;
  }
  const Finder finder(needles);
  Report report;
  for (const Mapping& mapping : mappingsOf(pid)) {
    if (mapping.isArena()) {
      report.arenas.push_back(std::to_string(mapping.end - mapping.start));
    } else if (mapping.permissions[0] == 'r') {
      scan(memory, mapping, finder, &report);
    }
  }
  close(memory);
  report.print();
  return 0;
}

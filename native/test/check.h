#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "core/status.h"

// The few lines of a test framework that the core's tests need. TEST names a behaviour; a CHECK that fails prints its
// place and lets the case go on; MAIN runs the cases of the file and answers non-zero if one failed.

namespace check {

struct Case {
  const char* name;
  void (*run)();
};

inline std::vector<Case>& cases() {
  static std::vector<Case> all;
  return all;
}

inline int& failures() {
  static int count = 0;
  return count;
}

struct Registration {
  Registration(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

inline void report(bool holds, const char* file, int line, const std::string& text) {
  if (holds) return;
  failures()++;
  fprintf(stderr, "%s:%d: %s\n", file, line, text.c_str());
}

template <typename Value>
std::string show(const Value& value) {
  if constexpr (std::is_same_v<Value, kms::Status>) {
    return value == kms::Status::Ok ? "OK" : kms::statusCode(value);
  } else if constexpr (std::is_arithmetic_v<Value>) {
    return std::to_string(value);
  } else {
    return "\"" + std::string(value) + "\"";
  }
}

template <typename A, typename B>
void equal(const A& actual, const B& expected, const char* text, const char* file, int line) {
  if (actual == expected) return;
  report(false, file, line, std::string(text) + " is " + show(actual) + ", not " + show(expected));
}

// `failure` has this status and its detail holds `part`.
inline void failure(const kms::Failure& got, kms::Status status, std::string_view part, const char* file, int line) {
  const bool holds = got.status == status && got.detail.find(part) != std::string::npos;
  report(holds, file, line, show(got.status) + " " + show(got.detail) + ", expected " + show(status) + " " + show(part));
}

// What a child process answers: for what changes a whole process, or needs another uid.
inline int inChild(const std::function<int()>& body) {
  fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

// A copy on the heap of exactly its size. Nothing follows it, as a NUL follows the text of a std::string: a byte read or
// written beyond its end is seen by the address sanitizer.
class Exact {
 public:
  explicit Exact(std::string_view text) : size_(text.size()) {
    // An empty allocation is one byte to the sanitizer, so the empty copy stands behind one.
    const size_t before = size_ == 0 ? 1 : 0;
    memory_.reset(new uint8_t[before + size_]);
    data_ = memory_.get() + before;
    if (size_ != 0) memcpy(data_, text.data(), size_);
  }
  explicit Exact(const std::vector<uint8_t>& bytes)
      : Exact(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size())) {}
  uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  uint8_t* begin() const { return data_; }
  uint8_t* end() const { return data_ + size_; }

 private:
  std::unique_ptr<uint8_t[]> memory_;
  uint8_t* data_ = nullptr;
  size_t size_;
};

// A directory that goes with its content at the end of the case.
class Directory {
 public:
  Directory() {
    char name[] = "/tmp/kms-test-XXXXXX";
    if (mkdtemp(name) == nullptr) abort();
    path_ = name;
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  ~Directory() {
    if (system(("rm -rf " + path_).c_str()) != 0) fprintf(stderr, "%s stays\n", path_.c_str());
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

inline int run() {
  int failed = 0;
  for (const Case& each : cases()) {
    const int before = failures();
    each.run();
    const bool good = failures() == before;
    printf("%s %s\n", good ? "ok    " : "FAILED", each.name);
    if (!good) failed++;
  }
  printf("%zu cases, %d failed\n", cases().size(), failed);
  return failed == 0 && !cases().empty() ? 0 : 1;
}

}  // namespace check

#define CHECK_JOIN2(a, b) a##b
#define CHECK_JOIN(a, b) CHECK_JOIN2(a, b)
#define TEST(name)                                                                                              \
  static void CHECK_JOIN(case, __LINE__)();                                                                     \
  static const check::Registration CHECK_JOIN(registration, __LINE__)(name, CHECK_JOIN(case, __LINE__));         \
  static void CHECK_JOIN(case, __LINE__)()
#define CHECK(condition) check::report((condition), __FILE__, __LINE__, #condition " does not hold")
#define CHECK_EQUAL(actual, expected) check::equal((actual), (expected), #actual, __FILE__, __LINE__)
#define CHECK_FAILURE(got, status, part) check::failure((got), (status), (part), __FILE__, __LINE__)
#define CHECK_OK(got) check::failure((got), kms::Status::Ok, "", __FILE__, __LINE__)
#define MAIN int main() { return check::run(); }

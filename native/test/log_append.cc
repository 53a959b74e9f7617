#include "core/log_append.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>

#include "core/descriptor.h"
#include "test/check.h"

using check::Directory;
using kms::Appended;
using kms::appendToLog;
using kms::Bytes;
using kms::Descriptor;

namespace {

constexpr int kLogFlags = O_RDWR | O_CREAT | O_APPEND;

Bytes bytesOf(const std::string& text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

std::string contentOf(const std::string& path) {
  const Descriptor file(open(path.c_str(), O_RDONLY));
  std::string content(1 << 16, '\0');
  const ssize_t count = read(file.fd(), content.data(), content.size());
  content.resize(count < 0 ? 0 : static_cast<size_t>(count));
  return content;
}

}  // namespace

TEST("lines go to the end of the file, all of them") {
  const Directory directory;
  const std::string path = directory / "log";
  const Descriptor file(open(path.c_str(), kLogFlags, 0600));
  for (const char* const lines : {"one\n", "two\nthree\n"}) {
    const Appended result = appendToLog(file.fd(), bytesOf(lines), path.c_str());
    CHECK_EQUAL(result.written, strlen(lines));
    CHECK_EQUAL(result.error, 0);
    CHECK(result.isInPlace);
  }
  CHECK_EQUAL(contentOf(path), std::string("one\ntwo\nthree\n"));
}

TEST("a file that was removed, renamed or replaced is not in its place") {
  const Directory directory;
  const std::string path = directory / "log", other = directory / "other";
  const Descriptor file(open(path.c_str(), kLogFlags, 0600));
  const auto isInPlace = [&] { return appendToLog(file.fd(), bytesOf("line\n"), path.c_str()).isInPlace; };
  CHECK(isInPlace());
  CHECK(rename(path.c_str(), other.c_str()) == 0);
  CHECK(!isInPlace());
  // A link to it by the old name is another file, that is none.
  CHECK(symlink(other.c_str(), path.c_str()) == 0);
  CHECK(!isInPlace());
  CHECK(unlink(path.c_str()) == 0);
  const Descriptor successor(open(path.c_str(), kLogFlags, 0600));
  CHECK(!isInPlace());
  CHECK(rename(other.c_str(), path.c_str()) == 0);
  CHECK(isInPlace());
  CHECK(unlink(path.c_str()) == 0);
  CHECK(!isInPlace());
}

TEST("what has no room is cut, and told how far it came and why") {
  const Directory directory;
  const std::string path = directory / "log";
  const int status = check::inChild([&] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{10, 10};
    const Descriptor file(open(path.c_str(), kLogFlags, 0600));
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0) return 1;
    const Appended result = appendToLog(file.fd(), bytesOf("123456789 123456789\n"), path.c_str());
    return result.written == 10 && result.error == EFBIG && !result.isInPlace ? 0 : 2;
  });
  CHECK_EQUAL(status, 0);
  CHECK_EQUAL(contentOf(path), std::string("123456789 "));
}

TEST("a full device takes nothing, and what cannot be synced says so when all is written") {
  const Descriptor full(open("/dev/full", O_WRONLY));
  const Appended refused = appendToLog(full.fd(), bytesOf("line\n"), "/dev/full");
  CHECK_EQUAL(refused.written, 0u);
  CHECK_EQUAL(refused.error, ENOSPC);
  int ends[2];
  CHECK(pipe(ends) == 0);
  const Descriptor from(ends[0]), to(ends[1]);
  const Appended unsynced = appendToLog(to.fd(), bytesOf("line\n"), "/dev/null");
  CHECK_EQUAL(unsynced.written, 5u);
  CHECK_EQUAL(unsynced.error, EINVAL);
}

MAIN

#include "core/key_file.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <string>
#include <tuple>
#include <vector>

#include "core/encoding.h"
#include "test/check.h"

using check::Directory;
using kms::Failure;
using kms::Status;

static const std::string kHex = "00112233445566778899aabbccddeeff0123456789abcdefFEDCBA9876543210";
static const std::string kBase64 = "ABEiM0RVZneImaq7zN3u/wEjRWeJq83v/ty6mHZUMhA=";

static std::string raw() {
  std::string key(32, '\0');
  kms::decodeHex(reinterpret_cast<const uint8_t*>(kHex.data()), 64, reinterpret_cast<uint8_t*>(&key[0]), 32);
  return key;
}

static std::string put(const std::string& path, const std::string& content, mode_t mode = 0600) {
  unlink(path.c_str());  // one of an earlier mode may not be writable
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0600);
  if (fd < 0 || write(fd, content.data(), content.size()) != static_cast<ssize_t>(content.size())) abort();
  if (fchmod(fd, mode) != 0) abort();
  close(fd);
  return path;
}

// One reading, with what must hold after every reading: the scratch is wiped, and the key unless it was read.
struct Reading {
  uint8_t scratch[5000];
  uint8_t key[32];
  Failure failure;

  Reading() {
    memset(scratch, 0xaa, sizeof scratch);
    memset(key, 0xaa, sizeof key);
  }
  Reading& file(const std::string& path, bool groupReadable = false, size_t scratchLength = sizeof scratch) {
    failure = kms::readKeyFile(path.c_str(), groupReadable, scratch, scratchLength, key);
    return settled(scratchLength);
  }
  Reading& descriptor(int fd) {
    failure = kms::readKeyDescriptor(fd, scratch, sizeof scratch, key);
    return settled(sizeof scratch);
  }
  Reading& settled(size_t scratchLength) {
    const auto isZero = [](uint8_t byte) { return byte == 0; };
    CHECK(std::all_of(scratch, scratch + scratchLength, isZero));
    CHECK(failure.ok() || std::all_of(key, key + 32, isZero));
    return *this;
  }
  std::string value() const { return std::string(key, key + 32); }
};

static void reads(const std::string& content) {
  const Directory directory;
  Reading reading;
  CHECK_OK(reading.file(put(directory / "key", content)).failure);
  CHECK(reading.value() == raw());
}

static void refuses(const std::string& content, const std::string& why) {
  const Directory directory;
  Reading reading;
  const std::string path = put(directory / "key", content);
  CHECK_FAILURE(reading.file(path).failure, Status::InvalidArgument, path + " " + why);
  CHECK(content.size() < 8 || reading.failure.detail.find(content.substr(0, 8)) == std::string::npos);
}

// Straight from memory, with nothing after the text that was given.
static Failure decodes(const std::string& text) {
  const check::Exact exact(text);
  uint8_t key[32];
  const Failure failure = kms::decodeKey(exact.data(), exact.size(), "input", key);
  CHECK(!failure.ok() || std::string(key, key + 32) == raw());
  return failure;
}

TEST("a text is decoded from its own bytes only, whatever its length") {
  // A text, and from which to which of its lengths it is the key.
  const std::tuple<std::string, size_t, size_t> texts[] = {
      {kHex + " \r\n", 64, 67}, {kBase64 + "\t\n", 44, 46}, {raw() + kHex, 32, 32}, {std::string(70, '\n'), 71, 71}};
  for (const auto& [whole, first, last] : texts) {
    for (size_t length = 0; length <= whole.size(); length++) {
      const Status expected = length >= first && length <= last ? Status::Ok : Status::InvalidArgument;
      CHECK_EQUAL(decodes(whole.substr(0, length)).status, expected);
    }
  }
}

TEST("hex, base64 and raw bytes are read, with white space after the texts") {
  reads(kHex);
  reads(kHex + "\n");
  reads(kHex + " \t\r\n\n");
  reads(kBase64);
  reads(kBase64 + "\n");
  reads(kBase64 + "\r\n");
  reads(raw());
  reads(kHex + std::string(4096 - 64, ' '));
}

TEST("a raw key that ends in a newline keeps its last byte") {
  const Directory directory;
  const std::string key = raw().substr(0, 31) + "\n";
  Reading reading;
  CHECK_OK(reading.file(put(directory / "key", key)).failure);
  CHECK(reading.value() == key);
}

TEST("a passphrase of 32 characters is refused as a likely mistake") {
  refuses("correct horse battery staple 123", "holds 32 printable characters");
  refuses("correct horse battery staple 12\n", "holds 32 printable characters");
}

TEST("a key of one repeated byte is refused in every form") {
  const std::string why = "holds one byte repeated";
  refuses(std::string(32, '\0'), why);
  refuses(std::string(32, '\xff'), why);
  refuses(std::string(64, '0') + "\n", why);
  refuses(std::string(64, 'a'), why);
  refuses(std::string(43, 'A') + "=", why);
}

TEST("content of any other length or alphabet is refused") {
  refuses("", "is empty");
  refuses("\n", "holds no key");
  refuses(raw().substr(1), "holds no key");
  refuses(raw() + "\n", "holds no key");
  refuses(kHex.substr(1), "holds no key");
  refuses(kHex + "0", "holds no key");
  refuses(" " + kHex, "holds no key");
  refuses("g" + kHex.substr(1), "holds no key");
  refuses(kBase64.substr(0, 43), "holds no key");
  refuses(kBase64.substr(0, 42) + "B=", "holds no key");
  refuses("-" + kBase64.substr(1), "holds no key");
  refuses(std::string("\xef\xbb\xbf") + kHex, "holds no key");
  refuses(kHex + "\n" + kHex + "\n", "holds no key");
}

TEST("a file above 4,096 bytes or above the scratch is refused") {
  refuses(kHex + std::string(4097 - 64, ' '), "is longer than 4096 bytes");
  const Directory directory;
  Reading reading;
  CHECK_FAILURE(reading.file(put(directory / "key", kHex + "\n"), false, 64).failure, Status::InvalidArgument, "is longer than 64");
  CHECK_OK(Reading().file(put(directory / "key", kHex), false, 64).failure);
  CHECK_FAILURE(Reading().file(put(directory / "key", kHex), false, 0).failure, Status::InvalidArgument, "is longer than 0");
}

TEST("a file that others may write or read is refused with the command that mends it") {
  const Directory directory;
  const std::string path = directory / "key";
  for (const mode_t mode : {0620, 0602, 0660, 0666, 0622, 0777, 0604, 0644, 0640}) {
    put(path, kHex, mode);
    CHECK_FAILURE(Reading().file(path).failure, Status::PermissionDenied, ": chmod 600 " + path);
  }
  for (const mode_t mode : {0620, 0660, 0644, 0604, 0642}) {
    put(path, kHex, mode);
    CHECK_FAILURE(Reading().file(path, true).failure, Status::PermissionDenied, ": chmod 640 " + path);
  }
  for (const mode_t mode : {0600, 0400, 0700}) CHECK_OK(Reading().file(put(path, kHex, mode)).failure);
  for (const mode_t mode : {0600, 0440, 0640}) CHECK_OK(Reading().file(put(path, kHex, mode), true).failure);
}

TEST("a symlink is followed once and its target passes the same test") {
  const Directory directory;
  const std::string target = put(directory / "target", kHex);
  const std::string link = directory / "link";
  const std::string second = directory / "second";
  CHECK(symlink("target", link.c_str()) == 0 && symlink(link.c_str(), second.c_str()) == 0);
  CHECK_OK(Reading().file(link).failure);
  CHECK_OK(Reading().file(second).failure);
  chmod(target.c_str(), 0644);
  CHECK_FAILURE(Reading().file(link).failure, Status::PermissionDenied, "may be read by others: chmod 600 " + link);
  CHECK(unlink(target.c_str()) == 0);
  CHECK_FAILURE(Reading().file(link).failure, Status::InvalidArgument, link + " cannot be opened");
  CHECK(unlink(link.c_str()) == 0 && symlink("second", link.c_str()) == 0);
  CHECK_FAILURE(Reading().file(link).failure, Status::InvalidArgument, link + " cannot be opened");
}

TEST("what is not a regular file is refused without waiting") {
  const Directory directory;
  const std::string fifo = directory / "fifo";
  CHECK(mkfifo(fifo.c_str(), 0600) == 0);
  CHECK_FAILURE(Reading().file(fifo).failure, Status::InvalidArgument, fifo + " is not a regular file");
  CHECK_FAILURE(Reading().file(directory.path()).failure, Status::InvalidArgument, "is not a regular file");
  CHECK_FAILURE(Reading().file("/dev/zero").failure, Status::InvalidArgument, "is not a regular file");
  CHECK_FAILURE(Reading().file(directory / "none").failure, Status::InvalidArgument, "cannot be opened");
}

TEST("a file of another user is refused, one of root is not") {
  if (geteuid() != 0) {
    printf("skipped: needs root\n");
    return;
  }
  const Directory directory;
  const std::string path = put(directory / "key", kHex);
  CHECK(chown(path.c_str(), 12345, 12345) == 0);
  CHECK_FAILURE(Reading().file(path).failure, Status::PermissionDenied, path + " is owned by uid 12345");
  CHECK(chown(path.c_str(), 0, 12346) == 0 && chmod(path.c_str(), 0640) == 0 && chmod(directory.path().c_str(), 0755) == 0);
  const int answer = check::inChild([&path] {
    if (setgid(12346) != 0 || setuid(12345) != 0) return 1;
    Reading reading;
    if (kms::readKeyFile(path.c_str(), false, reading.scratch, 4096, reading.key).status != Status::PermissionDenied) return 2;
    return reading.file(path, true).failure.ok() && reading.value() == raw() ? 0 : 3;
  });
  CHECK_EQUAL(answer, 0);
}

TEST("a descriptor is read to its end, in pieces and though it was left non-blocking") {
  int ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends) == 0);
  const pid_t writer = fork();
  if (writer == 0) {
    close(ends[0]);
    for (const char c : kHex + "\n") {
      usleep(200);  // the reader has to wait between the pieces
      if (write(ends[1], &c, 1) != 1) _exit(1);
    }
    _exit(0);
  }
  close(ends[1]);
  Reading reading;
  CHECK_OK(reading.descriptor(ends[0]).failure);
  CHECK(reading.value() == raw());
  waitpid(writer, nullptr, 0);
  close(ends[0]);
  CHECK_FAILURE(Reading().descriptor(ends[0]).failure, Status::InvalidArgument, "cannot be read");
}

TEST("a file's descriptor can be read again, from where it stood") {
  const Directory directory;
  const int fd = open((directory / "k").c_str(), O_RDWR | O_CREAT, 0600);
  const std::string text = "no key\n" + kHex;
  CHECK(write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
  CHECK(lseek(fd, 7, SEEK_SET) == 7);
  for (int round = 0; round < 2; round++) CHECK_OK(Reading().descriptor(fd).failure);
  CHECK_EQUAL(lseek(fd, 0, SEEK_CUR), 7);
  close(fd);
}

TEST("a new key file holds 64 hex digits and a newline, for us alone, and can be read") {
  const Directory directory;
  const std::string path = directory / "key";
  const mode_t before = umask(0);
  CHECK_OK(kms::writeKeyFile(path.c_str()));
  umask(before);
  struct stat status {};
  CHECK(stat(path.c_str(), &status) == 0);
  CHECK_EQUAL(status.st_mode & 07777, 0600u);
  CHECK_EQUAL(status.st_size, 65);
  Reading first, second;
  CHECK_OK(first.file(path).failure);
  CHECK_OK(kms::writeKeyFile((path + "2").c_str()));
  CHECK_OK(second.file(path + "2").failure);
  CHECK(first.value() != second.value());
  CHECK_EQUAL(system(("test \"$(ls -A " + directory.path() + ")\" = \"$(printf 'key\\nkey2')\"").c_str()), 0);
}

TEST("an existing file is never overwritten, nor written through a link") {
  const Directory directory;
  const std::string path = put(directory / "key", kHex);
  CHECK_FAILURE(kms::writeKeyFile(path.c_str()), Status::Conflict, path + " exists already");
  Reading reading;
  CHECK_OK(reading.file(path).failure);
  CHECK(reading.value() == raw());
  const std::string link = directory / "link";
  CHECK(symlink("nowhere", link.c_str()) == 0);
  CHECK_FAILURE(kms::writeKeyFile(link.c_str()), Status::Conflict, "exists already");
  CHECK(access((directory / "nowhere").c_str(), F_OK) != 0);
}

TEST("a key file that cannot be made leaves nothing behind") {
  const Directory directory;
  CHECK_FAILURE(kms::writeKeyFile((directory / "none/key").c_str()), Status::InvalidArgument, "cannot be opened");
  CHECK_FAILURE(kms::writeKeyFile((directory.path() + "/").c_str()), Status::InvalidArgument, "names no file");
  const std::string path = directory / "key";
  const int answer = check::inChild([&path] {
    signal(SIGXFSZ, SIG_IGN);
    const rlimit little{10, 10};
    if (setrlimit(RLIMIT_FSIZE, &little) != 0) return 1;
    return kms::writeKeyFile(path.c_str()).status == Status::InvalidArgument ? 0 : 2;
  });
  CHECK_EQUAL(answer, 0);
  CHECK(access(path.c_str(), F_OK) != 0);
}

MAIN

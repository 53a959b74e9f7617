#include "core/key_file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <string>

#include "core/descriptor.h"
#include "core/encoding.h"
#include "core/entropy.h"
#include "core/os_error.h"
#include "core/registers.h"

namespace kms {
namespace {

constexpr size_t kHexLength = 2 * kKeyBytes;

Failure refuse(const std::string& name, const std::string& why) {
  return Failure(Status::InvalidArgument, name + " " + why);
}

Failure deny(const std::string& name, const std::string& why) {
  return Failure(Status::PermissionDenied, name + " " + why);
}

// Wipes on every way out; disarm() keeps the bytes of a success.
struct Wiped {
  uint8_t* data;
  size_t length;
  Wiped(uint8_t* bytes, size_t count) : data(bytes), length(count) {}
  Wiped(const Wiped&) = delete;
  Wiped& operator=(const Wiped&) = delete;
  ~Wiped() { wipe(data, length); }
  void disarm() { length = 0; }
};

// O_NONBLOCK: opening a FIFO, or what somebody put there instead of a file, must not hang the start.
int openForRead(const char* path) { return open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC); }

bool isSymlink(const char* path) {
  struct stat status {};
  return lstat(path, &status) == 0 && S_ISLNK(status.st_mode);
}

// Systems disagree about the errno of O_NOFOLLOW on a link, so the path is asked. The target gets no second chance.
int openOrFollow(const char* path) {
  const int fd = openForRead(path);
  if (fd >= 0 || !isSymlink(path)) return fd;
  char* target = realpath(path, nullptr);
  if (target == nullptr) return -1;
  const int followed = openForRead(target);
  const int error = errno;
  free(target);
  errno = error;
  return followed;
}

// On the descriptor that will be read, so that nothing can be put in between.
Failure checkFile(const char* path, int fd, bool mayBeGroupReadable) {
  struct stat status {};
  if (fstat(fd, &status) != 0) return osFailure(path, "read", errno);
  if (!S_ISREG(status.st_mode)) return refuse(path, "is not a regular file");
  const uid_t us = geteuid();
  if (status.st_uid != us && status.st_uid != 0) {
    return deny(path, "is owned by uid " + std::to_string(status.st_uid) + ", it must be owned by " +
                          (us == 0 ? "" : "uid " + std::to_string(us) + " or ") + "root");
  }
  const std::string mend = std::string(mayBeGroupReadable ? ": chmod 640 " : ": chmod 600 ") + path;
  if ((status.st_mode & (S_IWGRP | S_IWOTH)) != 0) return deny(path, "may be written by others" + mend);
  if ((status.st_mode & S_IROTH) != 0) return deny(path, "may be read by others" + mend);
  if ((status.st_mode & S_IRGRP) != 0 && !mayBeGroupReadable) return deny(path, "may be read by its group" + mend);
  return Failure();
}

// Where a file is read from, negative for what has no places (a pipe). The offset itself is not moved: it is shared with
// whoever passed us the descriptor, who may pass it to our successor.
off_t placeIn(int fd) {
  struct stat status {};
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) ? lseek(fd, 0, SEEK_CUR) : -1;
}

// One read(2) that waits for descriptors left non-blocking by whoever passed them.
ssize_t readSome(int fd, off_t place, uint8_t* out, size_t length) {
  for (;;) {
    const ssize_t got = place < 0 ? read(fd, out, length) : pread(fd, out, length, place);
    if (got >= 0) return got;
    if (errno == EAGAIN) {
      pollfd ready{fd, POLLIN, 0};
      if (poll(&ready, 1, -1) < 0 && errno != EINTR) return -1;
    } else if (errno != EINTR) {
      return -1;
    }
  }
}

Failure readKey(int fd, const char* name, uint8_t* scratch, size_t scratchLength, uint8_t* key) {
  const size_t most = std::min(scratchLength, kMaxKeyFileBytes);
  const off_t first = placeIn(fd);
  const auto place = [first](size_t read) { return first < 0 ? first : first + static_cast<off_t>(read); };
  size_t length = 0;
  while (length < most) {
    const ssize_t got = readSome(fd, place(length), scratch + length, most - length);
    if (got < 0) return osFailure(name, "read", errno);
    if (got == 0) break;
    length += static_cast<size_t>(got);
  }
  // A full scratch may be the whole file: only the end tells. The byte read to find out is refused with the rest.
  if (length == most && (most == 0 || readSome(fd, place(length), scratch, 1) != 0)) {
    return refuse(name, "is longer than " + std::to_string(most) + " bytes");
  }
  return decodeKey(scratch, length, name, key);
}

bool isSpace(uint8_t c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

// Whether all bytes are text: a passphrase, most likely. Looks at every byte whatever the first ones are.
bool isText(const uint8_t* data, size_t length) {
  unsigned other = 0;
  for (size_t i = 0; i < length; i++) {
    const unsigned printable = static_cast<unsigned>(data[i] >= 0x20) & static_cast<unsigned>(data[i] < 0x7f);
    other |= 1u ^ (printable | static_cast<unsigned>(isSpace(data[i])));
  }
  return other == 0;
}

bool isUniform(const uint8_t* data, size_t length) {
  unsigned difference = 0;
  for (size_t i = 1; i < length; i++) difference |= static_cast<unsigned>(data[i] ^ data[0]);
  return difference == 0;
}

bool writeAll(int fd, const uint8_t* data, size_t length) {
  while (length > 0) {
    const ssize_t put = write(fd, data, length);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return false;
    data += put;
    length -= static_cast<size_t>(put);
  }
  return true;
}

// 0, or the errno of what failed. fchmod, because the umask may have taken more than it should.
int writeNewKey(int fd) {
  uint8_t secret[kKeyBytes + kHexLength + 1];
  const Wiped guard(secret, sizeof secret);
  uint8_t* text = secret + kKeyBytes;
  errno = EIO;
  if (!fillRandom(secret, kKeyBytes)) return errno;
  encodeHex(secret, kKeyBytes, text);
  text[kHexLength] = '\n';
  if (fchmod(fd, S_IRUSR | S_IWUSR) != 0 || !writeAll(fd, text, kHexLength + 1)) return errno;
  return fsync(fd) != 0 ? errno : 0;
}

// Gives the finished file its name, which a link refuses to take from another; 0 or an errno.
int publish(int directory, const std::string& temporary, const std::string& base) {
  if (linkat(directory, temporary.c_str(), directory, base.c_str(), 0) != 0) return errno;
  // Before the fsync: the other name must not come back with a power cut.
  unlinkat(directory, temporary.c_str(), 0);
  return fsync(directory) != 0 ? errno : 0;
}

}  // namespace

Failure decodeKey(const uint8_t* text, size_t length, const char* name, uint8_t key[kKeyBytes]) {
  Wiped unlessGood(key, kKeyBytes);
  size_t trimmed = length;
  while (trimmed > 0 && isSpace(text[trimmed - 1])) trimmed--;
  if (length == 0) return refuse(name, "is empty");
  if (length == kKeyBytes) {  // before any trimming: a raw key may end in a byte that looks like white space
    if (isText(text, length)) {
      return refuse(name, "holds 32 printable characters: a passphrase is no key; give 64 hex digits, base64 or raw bytes");
    }
    std::copy(text, text + length, key);
  } else if (!(trimmed == kHexLength && decodeHex(text, trimmed, key, kKeyBytes)) &&
             !(trimmed == base64Length(kKeyBytes) && decodeBase64(text, trimmed, key, kKeyBytes))) {
    return refuse(name, "holds no key: 64 hex digits, the base64 of 32 bytes, or 32 raw bytes (it has " +
                            std::to_string(length) + " bytes)");
  }
  if (isUniform(key, kKeyBytes)) return refuse(name, "holds one byte repeated 32 times, which is no key");
  unlessGood.disarm();
  return Failure();
}

Failure readKeyFile(const char* path, bool mayBeGroupReadable, uint8_t* scratch, size_t scratchLength,
                    uint8_t key[kKeyBytes]) {
  const Wiped guard(scratch, scratchLength);
  wipe(key, kKeyBytes);
  const Descriptor file(openOrFollow(path));
  if (file.fd() < 0) return osFailure(path, "opened", errno);
  const Failure refused = checkFile(path, file.fd(), mayBeGroupReadable);
  return refused.ok() ? readKey(file.fd(), path, scratch, scratchLength, key) : refused;
}

Failure readKeyDescriptor(int fd, uint8_t* scratch, size_t scratchLength, uint8_t key[kKeyBytes]) {
  const Wiped guard(scratch, scratchLength);
  wipe(key, kKeyBytes);
  const std::string name = "descriptor " + std::to_string(fd);
  return readKey(fd, name.c_str(), scratch, scratchLength, key);
}

Failure writeKeyFile(const char* path) {
  const RegisterGuard registers;
  const std::string whole = path;
  const size_t slash = whole.rfind('/');
  const std::string parent = slash == std::string::npos ? "." : whole.substr(0, slash + 1);
  const std::string base = slash == std::string::npos ? whole : whole.substr(slash + 1);
  if (base.empty()) return refuse(whole, "names no file");
  const Descriptor directory(open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.fd() < 0) return osFailure(parent, "opened", errno);
  // Under another name until it is whole: what a crash leaves half written must not be taken for a key file.
  const std::string temporary = "." + base + "." + std::to_string(getpid()) + ".tmp";
  unlinkat(directory.fd(), temporary.c_str(), 0);
  const Descriptor file(openat(directory.fd(), temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC,
                               S_IRUSR | S_IWUSR));
  if (file.fd() < 0) return osFailure(whole, "created", errno);
  int error = writeNewKey(file.fd());
  if (error == 0) error = publish(directory.fd(), temporary, base);
  unlinkat(directory.fd(), temporary.c_str(), 0);
  if (error == 0) return Failure();
  if (error == EEXIST) return Failure(Status::Conflict, whole + " exists already; a key file is never overwritten");
  return osFailure(whole, "written", error);
}

}  // namespace kms

#include "core/log_append.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

namespace kms {

namespace {

bool isAt(int fd, const char* path) {
  struct stat file {}, named {};
  return fstat(fd, &file) == 0 && lstat(path, &named) == 0 && file.st_dev == named.st_dev && file.st_ino == named.st_ino;
}

}  // namespace

Appended appendToLog(int fd, Bytes lines, const char* path) {
  Appended result;
  // A full disk shows first as a short write that succeeds (measured): the next one says why.
  while (result.written < lines.length) {
    const ssize_t count = write(fd, lines.data + result.written, lines.length - result.written);
    if (count >= 0) {
      result.written += static_cast<size_t>(count);
    } else if (errno != EINTR) {
      result.error = errno;
      return result;
    }
  }
  // Not again after EINTR: what a second fsync says of what the first one failed to write is nothing.
  if (fsync(fd) != 0) {
    result.error = errno;
    return result;
  }
  result.isInPlace = isAt(fd, path);
  return result;
}

}  // namespace kms

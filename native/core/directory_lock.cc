#include "core/directory_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

#include "core/descriptor.h"
#include "core/os_error.h"

namespace kms {

namespace {

Failure lockPath(const std::string& path, const std::string& held, int* lock) {
  *lock = -1;
  Descriptor file(open(path.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, S_IRUSR | S_IWUSR));
  if (file.fd() < 0) {
    const Status status = errno == EACCES || errno == EPERM ? Status::PermissionDenied : Status::StoreUnavailable;
    return Failure(status, path + " cannot be opened: " + osError(errno));
  }
  struct stat status {};
  if (fstat(file.fd(), &status) != 0 || !S_ISREG(status.st_mode)) {
    return Failure(Status::StoreUnavailable, path + " is not a regular file");
  }
  while (flock(file.fd(), LOCK_EX | LOCK_NB) != 0) {
    if (errno == EWOULDBLOCK) return Failure(Status::Conflict, held);
    if (errno != EINTR) return Failure(Status::StoreUnavailable, path + " cannot be locked: " + osError(errno));
  }
  *lock = file.release();
  return Failure();
}

}  // namespace

Failure lockDirectory(const char* directory, int* lock) {
  return lockPath(std::string(directory) + "/lock", std::string(directory) + " is in use by another process", lock);
}

Failure lockFile(const char* path, int* lock) {
  return lockPath(path, std::string(path) + " is held by another process", lock);
}

void unlock(int lock) {
  if (lock >= 0) close(lock);
}

}  // namespace kms

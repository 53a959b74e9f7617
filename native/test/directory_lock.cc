#include "core/directory_lock.h"

#include <fcntl.h>

#include "test/check.h"

using check::Directory;
using kms::Status;

TEST("a directory has one owner, also within one process") {
  const Directory directory;
  int first = -1, second = 7;
  CHECK_OK(kms::lockDirectory(directory.path().c_str(), &first));
  CHECK(first >= 0);
  CHECK_FAILURE(kms::lockDirectory(directory.path().c_str(), &second), Status::Conflict,
                directory.path() + " is in use by another process");
  CHECK_EQUAL(second, -1);
  kms::unlock(first);
  CHECK_OK(kms::lockDirectory(directory.path().c_str(), &second));
  kms::unlock(second);
}

TEST("another process is refused, and the lock goes with its owner") {
  const Directory directory;
  int lock = -1;
  CHECK_EQUAL(check::inChild([&] { return kms::lockDirectory(directory.path().c_str(), &lock).ok() ? 0 : 1; }), 0);
  CHECK_OK(kms::lockDirectory(directory.path().c_str(), &lock));
  int other = -1;
  const auto locks = [&] { return static_cast<int>(kms::lockDirectory(directory.path().c_str(), &other).status); };
  CHECK_EQUAL(check::inChild(locks), static_cast<int>(Status::Conflict));
  CHECK(fcntl(lock, F_GETFD) == FD_CLOEXEC);
  kms::unlock(lock);
}

TEST("the lock file is for us alone and stays after the lock") {
  const Directory directory;
  int lock = -1;
  const mode_t before = umask(0);
  CHECK_OK(kms::lockDirectory(directory.path().c_str(), &lock));
  umask(before);
  kms::unlock(lock);
  struct stat status {};
  CHECK(stat((directory / "lock").c_str(), &status) == 0);
  CHECK_EQUAL(status.st_mode & 07777, 0600u);
}

TEST("a lock file that is a link, a FIFO or a directory is refused, as is a directory that is not there") {
  const Directory directory;
  const std::string path = directory / "lock";
  int lock = -1;
  CHECK(symlink("elsewhere", path.c_str()) == 0);
  CHECK_EQUAL(kms::lockDirectory(directory.path().c_str(), &lock).status, Status::StoreUnavailable);
  CHECK(access((directory / "elsewhere").c_str(), F_OK) != 0);
  CHECK(unlink(path.c_str()) == 0 && mkfifo(path.c_str(), 0600) == 0);
  CHECK_FAILURE(kms::lockDirectory(directory.path().c_str(), &lock), Status::StoreUnavailable, "is not a regular file");
  CHECK(unlink(path.c_str()) == 0 && mkdir(path.c_str(), 0700) == 0);
  CHECK_EQUAL(kms::lockDirectory(directory.path().c_str(), &lock).status, Status::StoreUnavailable);
  CHECK_FAILURE(kms::lockDirectory((directory / "none").c_str(), &lock), Status::StoreUnavailable, "cannot be opened");
}

TEST("a file of a name of its own is locked for itself, beside the directory's lock") {
  const Directory directory;
  const std::string path = directory / "tokens.lock";
  int whole = -1, first = -1, second = 7;
  CHECK_OK(kms::lockDirectory(directory.path().c_str(), &whole));
  CHECK_OK(kms::lockFile(path.c_str(), &first));
  CHECK_FAILURE(kms::lockFile(path.c_str(), &second), Status::Conflict, path + " is held by another process");
  CHECK_EQUAL(second, -1);
  kms::unlock(first);
  CHECK_OK(kms::lockFile(path.c_str(), &second));
  kms::unlock(second);
  kms::unlock(whole);
}

MAIN

#include "core/service_manager.h"

#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cstddef>

#include "test/check.h"

using check::Directory;
using kms::Status;

// A socket as a service manager has one. `name` is a path, or an abstract name behind a zero byte.
static int managerAt(const std::string& name) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, name.data(), name.size());
  const int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
  const socklen_t length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size());
  CHECK(bind(fd, reinterpret_cast<const sockaddr*>(&address), length) == 0);
  return fd;
}

// Empty if there is none.
static std::string nextOf(int fd) {
  char bytes[256];
  const ssize_t length = recv(fd, bytes, sizeof bytes, MSG_DONTWAIT);
  return length < 0 ? "" : std::string(bytes, static_cast<size_t>(length));
}

TEST("a message comes to a path as one datagram") {
  const Directory directory;
  const int manager = managerAt(directory / "n");
  CHECK_OK(kms::notifyManager(directory / "n", "READY=1\nSTATUS=a b", 1000));
  CHECK_OK(kms::notifyManager(directory / "n", "WATCHDOG=1", 0));
  CHECK_EQUAL(nextOf(manager), "READY=1\nSTATUS=a b");
  CHECK_EQUAL(nextOf(manager), "WATCHDOG=1");
  CHECK_EQUAL(nextOf(manager), "");
  close(manager);
}

#if defined(__linux__)
TEST("a message comes to an abstract name") {
  const std::string name = "kms-test-" + std::to_string(getpid());
  const int manager = managerAt(std::string(1, '\0') + name);
  CHECK_OK(kms::notifyManager("@" + name, "STOPPING=1", 1000));
  CHECK_EQUAL(nextOf(manager), "STOPPING=1");
  close(manager);
}
#endif

TEST("what is no address, or nobody's, is a failure and no more") {
  const Directory directory;
  const std::string longest(sizeof(sockaddr_un{}.sun_path) - 1, 'x');
  for (const std::string& address : {std::string(), std::string("/"), std::string("@"), std::string("run/n"), std::string("vsock:2:1"),
                                     "/" + longest, "@" + longest}) {
    CHECK_FAILURE(kms::notifyManager(address, "READY=1", 0), Status::InvalidArgument, "no path");
  }
  CHECK_FAILURE(kms::notifyManager(directory / "none", "READY=1", 0), Status::InvalidArgument, "cannot be told");
  close(managerAt(directory / "gone"));
  CHECK_FAILURE(kms::notifyManager(directory / "gone", "READY=1", 1000), Status::InvalidArgument, "cannot be told");
}

TEST("a manager that does not read is not waited for without end") {
  const Directory directory;
  const int manager = managerAt(directory / "n");
  int taken = 0;
  while (kms::notifyManager(directory / "n", "WATCHDOG=1", 0).ok()) taken++;
  CHECK(taken > 0);
  CHECK_FAILURE(kms::notifyManager(directory / "n", "READY=1", 20), Status::InvalidArgument, "cannot be told");
  CHECK_EQUAL(nextOf(manager), "WATCHDOG=1");
  CHECK_OK(kms::notifyManager(directory / "n", "READY=1", 20));
  close(manager);
}

MAIN

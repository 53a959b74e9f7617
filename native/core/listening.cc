#include "core/listening.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include "core/descriptor.h"
#include "core/os_error.h"
#include "core/stream_socket.h"

namespace kms {
namespace {

constexpr int kBacklog = 511;
constexpr int kLockAttempts = 200;
constexpr long kLockPauseNs = 10'000'000;  // 2 s in all
constexpr size_t kMaxPath = sizeof(sockaddr_un{}.sun_path) - 1;

sockaddr_un addressOf(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path, strlen(path));
  return address;
}

// bind(2) makes the file, with what the umask leaves of 0777.
int bindTight(int fd, const char* path) {
  const sockaddr_un address = addressOf(path);
  const mode_t before = umask(0177);
  const int error = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
  umask(before);
  return error;
}

// The errno of a connect, 0 if somebody took it.
int probe(const char* path) {
  const Descriptor client(streamSocket(AF_UNIX));
  if (client.fd() < 0) return errno;
  const sockaddr_un address = addressOf(path);
  return connect(client.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 ? 0 : errno;
}

// Removes what is at `path` if it is a socket of ours (or of anybody, for root) that refuses connections.
Failure removeStale(const char* path) {
  const std::string name = path;
  struct stat status {};
  if (lstat(path, &status) != 0) return errno == ENOENT ? Failure() : osFailure(name, "examined", errno);
  if (!S_ISSOCK(status.st_mode)) return Failure(Status::Conflict, name + " exists and is not a socket");
  const int answer = probe(path);
  // EAGAIN is a full backlog: somebody is there, if busy.
  if (answer == 0 || answer == EAGAIN) return Failure(Status::Conflict, "a server answers at " + name);
  if (answer != ECONNREFUSED) {
    return Failure(Status::Conflict, name + " exists, and whether a server answers there is unknown: " + osError(answer));
  }
  if (status.st_uid != geteuid() && geteuid() != 0) {
    return Failure(Status::Conflict, name + " is a stale socket of uid " + std::to_string(status.st_uid));
  }
  if (unlink(path) != 0 && errno != ENOENT) return osFailure(name, "removed", errno);
  return Failure();
}

std::string parentOf(const std::string& path) {
  const size_t slash = path.rfind('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

// The directory is world-open as often as not (/tmp), so a stranger may hold its lock: wait, but not for ever.
Failure lockForBind(int directory, const std::string& path) {
  for (int attempt = 0;; attempt++) {
    if (flock(directory, LOCK_EX | LOCK_NB) == 0) return Failure();
    if (errno != EWOULDBLOCK && errno != EINTR) return osFailure(path, "bound", errno);
    if (attempt == kLockAttempts) return Failure(Status::Busy, "another process is starting in the directory of " + path);
    const timespec pause{0, kLockPauseNs};
    nanosleep(&pause, nullptr);
  }
}

Failure bindAndListen(int fd, const char* path, int mode, struct stat* status) {
  int error = bindTight(fd, path);
  if (error == EADDRINUSE) {
    const Failure refused = removeStale(path);
    if (!refused.ok()) return refused;
    error = bindTight(fd, path);
  }
  if (error != 0) return osFailure(path, "bound", error);
  // chmod follows links: what it changes must be the socket just made.
  const bool ours = lstat(path, status) == 0 && S_ISSOCK(status->st_mode) && status->st_uid == geteuid();
  if (ours && chmod(path, static_cast<mode_t>(mode)) == 0 && listen(fd, kBacklog) == 0) return Failure();
  error = ours ? errno : EEXIST;
  if (ours) unlink(path);
  return osFailure(path, "listened on", error);
}

// An address as listenTcp takes it: numeric, since a name may mean several addresses, and another one tomorrow.
bool parseAddress(const std::string& host, uint16_t port, sockaddr_storage* address, socklen_t* length) {
  *address = sockaddr_storage{};
  auto* const v4 = reinterpret_cast<sockaddr_in*>(address);
  auto* const v6 = reinterpret_cast<sockaddr_in6*>(address);
  if (host.find('\0') != std::string::npos) return false;
  if (inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    *length = sizeof *v4;
    return true;
  }
  if (inet_pton(AF_INET6, host.c_str(), &v6->sin6_addr) != 1) return false;
  v6->sin6_family = AF_INET6;
  v6->sin6_port = htons(port);
  *length = sizeof *v6;
  return true;
}

bool setOption(int fd, int level, int option) {
  const int on = 1;
  return setsockopt(fd, level, option, &on, sizeof on) == 0;
}

int optionOf(int fd, int option) {
  int value = -1;
  socklen_t length = sizeof value;
  return getsockopt(fd, SOL_SOCKET, option, &value, &length) == 0 ? value : -1;
}

}  // namespace

// Finding a socket stale, removing it and binding anew is one step for everybody who does it here, under the lock of the
// directory. Without it two starters could both find the same stale socket, and the slower one would remove what the
// faster one had just bound. The lock is held until listen(2), because a socket that is bound and not yet listening
// refuses connections as a stale one does.
Failure bindUnixSocket(const char* path, int mode, int* fd, dev_t* device, ino_t* inode) {
  *fd = -1;
  const size_t length = strlen(path);
  if (length == 0) return Failure(Status::InvalidArgument, "the socket path is empty");
  if (length > kMaxPath) {
    return Failure(Status::InvalidArgument, std::string(path) + " has " + std::to_string(length) +
                                                " bytes, a socket path may have at most " + std::to_string(kMaxPath));
  }
  const std::string parent = parentOf(path);
  const Descriptor directory(open(parent.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory.fd() < 0) return osFailure(parent, "opened", errno);
  const Failure locked = lockForBind(directory.fd(), path);
  if (!locked.ok()) return locked;
  Descriptor listener(streamSocket(AF_UNIX));
  if (listener.fd() < 0) return Failure(Status::Internal, "no socket can be made: " + osError(errno));
  struct stat status {};
  const Failure bound = bindAndListen(listener.fd(), path, mode, &status);
  if (!bound.ok()) return bound;
  if (device != nullptr) *device = status.st_dev;
  if (inode != nullptr) *inode = status.st_ino;
  *fd = listener.release();
  return bound;
}

Failure bindTcpSocket(const std::string& host, uint16_t port, int* fd) {
  *fd = -1;
  sockaddr_storage address;
  socklen_t length = 0;
  if (!parseAddress(host, port, &address, &length)) {
    return Failure(Status::InvalidArgument, "the address to listen on must be a numeric IPv4 or IPv6 address");
  }
  const bool v6 = address.ss_family == AF_INET6;
  const std::string name = (v6 ? "[" + host + "]:" : host + ":") + std::to_string(port);
  Descriptor listener(streamSocket(address.ss_family));
  if (listener.fd() < 0) return Failure(Status::Internal, "no socket can be made: " + osError(errno));
  // Connections of a daemon that has just ended linger in TIME_WAIT: they must not keep the next one from starting. And
  // ::, which would take in IPv4 as well, means IPv6: whoever opens a port should have named it.
  const bool set = setOption(listener.fd(), SOL_SOCKET, SO_REUSEADDR);
  if (!set || (v6 && !setOption(listener.fd(), IPPROTO_IPV6, IPV6_V6ONLY))) return osFailure(name, "bound", errno);
  if (bind(listener.fd(), reinterpret_cast<const sockaddr*>(&address), length) != 0 || listen(listener.fd(), kBacklog) != 0) {
    return errno == EADDRINUSE ? Failure(Status::Conflict, name + " is in use") : osFailure(name, "bound", errno);
  }
  *fd = listener.release();
  return Failure();
}

Failure adoptListener(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  const bool listening = optionOf(fd, SO_ACCEPTCONN) == 1 && optionOf(fd, SO_TYPE) == SOCK_STREAM;
  const bool named = getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0;
#if defined(SO_DOMAIN)
  const int family = optionOf(fd, SO_DOMAIN);
#else
  const int family = address.ss_family;
#endif
  if (!listening || !named || (family != AF_UNIX && family != AF_INET && family != AF_INET6)) {
    return Failure(Status::InvalidArgument, "descriptor " + std::to_string(fd) + " is no listening Unix or TCP socket");
  }
  if (!makeNonBlocking(fd)) return osFailure("descriptor " + std::to_string(fd), "listened on", errno);
  return Failure();
}

Endpoint boundTo(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  Endpoint endpoint;
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) == 0) endpointOf(address, &endpoint);
  return endpoint;
}

void unlinkIfOurs(const char* path, dev_t device, ino_t inode) {
  struct stat status {};
  if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode) && status.st_dev == device && status.st_ino == inode) unlink(path);
}

}  // namespace kms

#include "core/peer.h"

#include <errno.h>
#include <fcntl.h>
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

namespace kms {
namespace {

constexpr int kBacklog = 511;
constexpr int kLockAttempts = 200;
constexpr long kLockPauseNs = 10'000'000;  // 2 s in all
constexpr size_t kMaxPath = sizeof(sockaddr_un{}.sun_path) - 1;

// Elsewhere (macOS) the flags cannot be given with the call that makes the descriptor.
#if defined(__linux__) || defined(__FreeBSD__) || defined(__OpenBSD__)
#define KMS_ATOMIC_SOCKET_FLAGS 1
#endif

#if !defined(KMS_ATOMIC_SOCKET_FLAGS)
bool makeNonBlocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}
#endif

int unixSocket() {
#if defined(KMS_ATOMIC_SOCKET_FLAGS)
  return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#else
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd >= 0 && !makeNonBlocking(fd)) {
    close(fd);
    return -1;
  }
  return fd;
#endif
}

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
  const Descriptor client(unixSocket());
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

}  // namespace

Failure peerOf(int fd, Peer* peer) {
  *peer = Peer();
  const Failure unknown(Status::Unauthenticated, "the peer's uid is not known");
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  // On a TCP socket SO_PEERCRED succeeds and says nothing.
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0 || address.ss_family != AF_UNIX) return unknown;
#if defined(__linux__)
  ucred credentials{};
  length = sizeof credentials;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0 || length != sizeof credentials) return unknown;
  if (credentials.uid == UINT32_MAX) return unknown;
  *peer = Peer{credentials.uid, credentials.gid, credentials.pid};
#else
  uid_t uid;
  gid_t gid;
  if (getpeereid(fd, &uid, &gid) != 0) return unknown;
  *peer = Peer{static_cast<uint32_t>(uid), static_cast<uint32_t>(gid), 0};
#endif
  return Failure();
}

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
  Descriptor listener(unixSocket());
  if (listener.fd() < 0) return Failure(Status::Internal, "no socket can be made: " + osError(errno));
  struct stat status {};
  const Failure bound = bindAndListen(listener.fd(), path, mode, &status);
  if (!bound.ok()) return bound;
  if (device != nullptr) *device = status.st_dev;
  if (inode != nullptr) *inode = status.st_ino;
  *fd = listener.release();
  return bound;
}

int acceptPeer(int listener, Peer* peer) {
  int fd;
  do {
#if defined(KMS_ATOMIC_SOCKET_FLAGS)
    fd = accept4(listener, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    fd = accept(listener, nullptr, nullptr);
    if (fd >= 0 && !makeNonBlocking(fd)) {
      close(fd);
      errno = ECONNABORTED;
      return -1;
    }
#endif
  } while (fd < 0 && errno == EINTR);
  if (fd >= 0 && !peerOf(fd, peer).ok()) {
    close(fd);
    errno = ECONNABORTED;
    return -1;
  }
  return fd;
}

void unlinkIfOurs(const char* path, dev_t device, ino_t inode) {
  struct stat status {};
  if (lstat(path, &status) == 0 && S_ISSOCK(status.st_mode) && status.st_dev == device && status.st_ino == inode) unlink(path);
}

}  // namespace kms

#include "core/stream_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

namespace kms {

// Elsewhere (macOS) the flags cannot be given with the call that makes the descriptor.
#if defined(__linux__) || defined(__FreeBSD__) || defined(__OpenBSD__)
#define KMS_ATOMIC_SOCKET_FLAGS 1
#endif

bool makeNonBlocking(int fd) {
  const int flags = fcntl(fd, F_GETFL);
  return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 && fcntl(fd, F_SETFD, FD_CLOEXEC) == 0;
}

int streamSocket(int family) {
#if defined(KMS_ATOMIC_SOCKET_FLAGS)
  return socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
#else
  const int fd = socket(family, SOCK_STREAM, 0);
  if (fd >= 0 && !makeNonBlocking(fd)) {
    close(fd);
    return -1;
  }
  return fd;
#endif
}

int acceptFrom(int listener, sockaddr_storage* address) {
  int fd;
  do {
    *address = sockaddr_storage{};
    socklen_t length = sizeof *address;
#if defined(KMS_ATOMIC_SOCKET_FLAGS)
    fd = accept4(listener, reinterpret_cast<sockaddr*>(address), &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
#else
    fd = accept(listener, reinterpret_cast<sockaddr*>(address), &length);
    if (fd >= 0 && !makeNonBlocking(fd)) {
      close(fd);
      errno = ECONNABORTED;
      return -1;
    }
#endif
  } while (fd < 0 && errno == EINTR);
  return fd;
}

// What Linux lets anybody ask for, and doubles. With half of it, a part of a chunk stays behind until the other end has read. TCP
// finds its own measure, and would not after this.
void widenSending(int fd) {
  constexpr int kBytes = 212992;
  setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &kBytes, sizeof kBytes);
}

// Elsewhere nothing is lost: Node ignores the signal.
#if defined(MSG_NOSIGNAL)
constexpr int kSendFlags = MSG_DONTWAIT | MSG_NOSIGNAL;
#else
constexpr int kSendFlags = MSG_DONTWAIT;
#endif

size_t sendAtOnce(int fd, const uint8_t* bytes, size_t length) {
  ssize_t taken;
  do {
    taken = send(fd, bytes, length, kSendFlags);
  } while (taken < 0 && errno == EINTR);
  return taken > 0 ? static_cast<size_t>(taken) : 0;
}

}  // namespace kms

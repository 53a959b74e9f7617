#include "core/peer.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/endpoint.h"
#include "core/loopback_peer.h"
#include "core/stream_socket.h"

namespace kms {
namespace {

// A connection that has gone already may refuse the options: that it has gone shows at its first byte.
void setTcpOptions(int fd) {
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
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
  if (credentials.uid == kNoUid) return unknown;
  *peer = Peer{credentials.uid, credentials.gid, credentials.pid, "", 0};
#else
  uid_t uid;
  gid_t gid;
  if (getpeereid(fd, &uid, &gid) != 0) return unknown;
  *peer = Peer{static_cast<uint32_t>(uid), static_cast<uint32_t>(gid), 0, "", 0};
#endif
  return Failure();
}

int acceptPeer(int listener, Peer* peer) {
  sockaddr_storage address;
  Endpoint other;
  const int fd = acceptFrom(listener, &address);
  if (fd < 0) return -1;
  if (endpointOf(address, &other)) {
    setTcpOptions(fd);
    *peer = Peer{uidOfLoopbackPeer(fd), 0, 0, other.text(), other.port};
    return fd;
  }
  widenSending(fd);
  if (peerOf(fd, peer).ok()) return fd;
  close(fd);
  errno = ECONNABORTED;
  return -1;
}

}  // namespace kms

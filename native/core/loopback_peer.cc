#include "core/loopback_peer.h"

#include "core/peer.h"

#if defined(__linux__)
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#endif

namespace kms {

#if defined(__linux__)
namespace {

// What a uid without a name in our user namespace is shown as, unless the administrator has chosen another number.
constexpr uint32_t kOverflowUid = 65534;

struct Ends {
  Endpoint own;
  Endpoint peer;
  uint64_t inode = 0;
};

bool endsOf(int fd, Ends* ends) {
  sockaddr_storage own{}, peer{};
  socklen_t ownLength = sizeof own, peerLength = sizeof peer;
  struct stat status {};
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&own), &ownLength) != 0) return false;
  if (getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peerLength) != 0) return false;
  if (fstat(fd, &status) != 0) return false;
  ends->inode = status.st_ino;
  return endpointOf(own, &ends->own) && endpointOf(peer, &ends->peer);
}

bool isEstablished(int fd) {
  tcp_info info{};
  socklen_t length = sizeof info;
  return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0 && length > 0 && info.tcpi_state == TCP_ESTABLISHED;
}

uint32_t configuredOverflowUid() {
  unsigned uid = kOverflowUid;
  FILE* const file = fopen("/proc/sys/kernel/overflowuid", "re");
  if (file == nullptr) return uid;
  if (fscanf(file, "%u", &uid) != 1) uid = kOverflowUid;
  fclose(file);
  return uid;
}

bool isSomebody(uint32_t uid) {
  static const uint32_t configured = configuredOverflowUid();
  return uid != kNoUid && uid != kOverflowUid && uid != configured;
}

// Three things could make the answer somebody else's.
//
// Another network namespace: 127.0.0.1:6820 exists in each of them, and a listener that was inherited may be of another one
// than this process, whose tables are the ones we are shown. So the table must show our own end first, under the inode of
// the very descriptor we hold: sockets of another namespace have other inodes, and a loopback connection never leaves its
// namespace, so a table that holds one end holds the other.
//
// Another user namespace: the kernel converts the owner into ours, and an owner that has no number here becomes the overflow
// uid, which isSomebody refuses. "root" of a container that shares our network but not our users is never our uid 0.
//
// Another time: the peer may have hung up, and its port may be somebody else's by now, whose uid its last words would get.
// But while our end is ESTABLISHED no other socket can be connected to it from that address: a newcomer's SYN is answered
// by our end, with something that the newcomer takes for an error. A dead end never comes to life again, so if it is
// ESTABLISHED after the answer, it was when the kernel answered. (Bytes that came before a reset can still be read from
// the dead end, so it does matter.)
Finding ask(FindSocket find, int fd, const Ends& ends, uint32_t* uid) {
  HeldSocket own, peer;
  if (find(ends.own, ends.peer, &own) != Finding::Found) return Finding::NotTold;
  if (own.inode != ends.inode) return Finding::NotFound;
  if (find(ends.peer, ends.own, &peer) != Finding::Found) return Finding::NotFound;
  // A socket connected to itself has no other end.
  if (peer.inode == own.inode || !isEstablished(fd) || !isSomebody(peer.uid)) return Finding::NotFound;
  *uid = peer.uid;
  return Finding::Found;
}

// Before anything is asked: a peer that has hung up must not cost a walk through all sockets.
bool isAskable(int fd, Ends* ends) {
  return endsOf(fd, ends) && ends->own.isLoopback() && ends->peer.isLoopback() && isEstablished(fd);
}

}  // namespace

// A way of asking that does not even know our own end is none here (netlink refused by a seccomp filter, or a kernel built
// without it); one that does is believed, whatever it says of the peer.
uint32_t uidOfLoopbackPeer(int fd) {
  Ends ends;
  uint32_t uid = kNoUid;
  if (!isAskable(fd, &ends)) return kNoUid;
  if (ask(findByNetlink, fd, ends, &uid) == Finding::NotTold) ask(findInProc, fd, ends, &uid);
  return uid;
}

uint32_t uidOfLoopbackPeerBy(FindSocket find, int fd) {
  Ends ends;
  uint32_t uid = kNoUid;
  if (isAskable(fd, &ends)) ask(find, fd, ends, &uid);
  return uid;
}

#else

uint32_t uidOfLoopbackPeer(int) { return kNoUid; }
uint32_t uidOfLoopbackPeerBy(FindSocket, int) { return kNoUid; }

#endif

}  // namespace kms

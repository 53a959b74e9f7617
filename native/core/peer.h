#pragma once

#include <cstdint>
#include <string>

#include "core/status.h"

namespace kms {

// (uid_t)−1: nobody that anybody knows.
constexpr uint32_t kNoUid = 0xffffffff;

// Who is at the other end, by the kernel's word: of a Unix socket at the time of connect(2), of a TCP connection at that
// of accept(2).
struct Peer {
  uint32_t uid = kNoUid;
  uint32_t gid = kNoUid;
  // 0 where the platform does not tell.
  int32_t pid = 0;
  // Numeric, of the other end; empty and 0 for a Unix socket.
  std::string address{};
  uint16_t port = 0;
};

// UNAUTHENTICATED for anything but a connected Unix socket whose peer the kernel knows.
Failure peerOf(int fd, Peer* peer);

// The next waiting connection, non-blocking and closed on exec; -1 with errno, which is EAGAIN when there is none and
// ECONNABORTED for a connection over a Unix socket whose peer is unknown (it is closed, the next may be accepted). A TCP
// peer has a uid if it is of this machine and uidOfLoopbackPeer knows it, else kNoUid; gid and pid are 0.
int acceptPeer(int listener, Peer* peer);

}  // namespace kms

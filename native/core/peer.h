#pragma once

#include <sys/types.h>

#include <cstdint>

#include "core/status.h"

namespace kms {

// Who is at the other end of a Unix socket, by the kernel's word at the time of connect(2).
struct Peer {
  uint32_t uid = UINT32_MAX;
  uint32_t gid = UINT32_MAX;
  // 0 where the platform does not tell.
  int32_t pid = 0;
};

// UNAUTHENTICATED for anything but a connected Unix socket whose peer the kernel knows.
Failure peerOf(int fd, Peer* peer);

// A listening Unix socket at `path` with exactly `mode`, never wider for an instant; non-blocking, closed on exec. A
// socket file that nobody listens on any more is replaced; a live one (CONFLICT) and a file of any other kind
// (CONFLICT) never are. `device` and `inode`, where given, are for unlinkIfOurs.
Failure bindUnixSocket(const char* path, int mode, int* fd, dev_t* device = nullptr, ino_t* inode = nullptr);

// The next waiting connection, non-blocking and closed on exec; -1 with errno, which is EAGAIN when there is none and
// ECONNABORTED for a connection whose peer is unknown (it is closed, the next may be accepted).
int acceptPeer(int listener, Peer* peer);

// Removes a socket file at the end, if it still is the one that was bound. Call it before the listener is closed: until
// then the inode's number is not given to another file, and no starter takes the socket for a stale one.
void unlinkIfOurs(const char* path, dev_t device, ino_t inode);

}  // namespace kms

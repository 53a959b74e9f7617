#pragma once

#include <cstdint>

#include "core/held_sockets.h"

namespace kms {

// The uid of the process that made the other end of an accepted TCP connection, if both ends are loopback addresses and
// the connection stands; kNoUid for every other connection, where the kernel does not tell, and where a uid of another
// user namespace stands for somebody unknown. Linux only; elsewhere kNoUid.
uint32_t uidOfLoopbackPeer(int fd);

// The same by this one way of asking.
uint32_t uidOfLoopbackPeerBy(FindSocket find, int fd);

}  // namespace kms

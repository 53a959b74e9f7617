#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>

namespace kms {

// Sockets that do not block and are closed on exec, however the platform has it. −1 with errno where there is none.
int streamSocket(int family);
// The next connection of a listener; `address` is that of the other end.
int acceptFrom(int listener, sockaddr_storage* address);

bool makeNonBlocking(int fd);

// Gives a Unix socket room for 256 requests of 1 KiB, or the answers to them.
void widenSending(int fd);

// How many of these bytes the kernel takes at once: none if it has no room, or if the socket is broken.
size_t sendAtOnce(int fd, const uint8_t* bytes, size_t length);

}  // namespace kms

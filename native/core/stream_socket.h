#pragma once

#include <sys/socket.h>

namespace kms {

// Sockets that do not block and are closed on exec, however the platform has it. −1 with errno where there is none.
int streamSocket(int family);
// The next connection of a listener; `address` is that of the other end.
int acceptFrom(int listener, sockaddr_storage* address);

bool makeNonBlocking(int fd);

}  // namespace kms

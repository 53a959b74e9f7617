#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "core/endpoint.h"
#include "core/status.h"

namespace kms {

// A listening Unix socket at `path` with exactly `mode`, never wider for an instant; non-blocking, closed on exec. A
// socket file that nobody listens on any more is replaced; a live one (CONFLICT) and a file of any other kind
// (CONFLICT) never are. `device` and `inode`, where given, are for unlinkIfOurs.
Failure bindUnixSocket(const char* path, int mode, int* fd, dev_t* device = nullptr, ino_t* inode = nullptr);

// A listening TCP socket at a numeric address, non-blocking, closed on exec, of the address's own family only; port 0 lets
// the kernel choose. CONFLICT if the address is in use, INVALID_ARGUMENT for anything but a numeric address.
Failure bindTcpSocket(const std::string& host, uint16_t port, int* fd);

// Makes ready what another process (a service manager) has bound and left to us, or INVALID_ARGUMENT and an untouched
// descriptor if that is no listening stream socket of a family that we serve.
Failure adoptListener(int fd);

// Where a listening TCP socket is bound; of any other socket, port 0.
Endpoint boundTo(int fd);

// Removes a socket file at the end, if it still is the one that was bound. Call it before the listener is closed: until
// then the inode's number is not given to another file, and no starter takes the socket for a stale one.
void unlinkIfOurs(const char* path, dev_t device, ino_t inode);

}  // namespace kms

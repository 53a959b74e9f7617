#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>

namespace kms {

// One end of a TCP connection. An IPv4 address mapped into IPv6 (::ffff:a.b.c.d) is the IPv4 address that it stands for:
// the two ends of a connection may be written differently, and only one of them need be an IPv6 socket.
struct Endpoint {
  bool v6 = false;
  // In network order; of IPv4 the first four.
  uint8_t address[16] = {};
  uint16_t port = 0;

  // 127.0.0.0/8 or ::1.
  bool isLoopback() const;
  // The numeric address, without port and scope.
  std::string text() const;
  bool operator==(const Endpoint& other) const;
};

// `address` has 4 bytes in network order, or 16 if `v6`.
Endpoint endpointAt(bool v6, const void* address, uint16_t port);
// False for what is no TCP address.
bool endpointOf(const sockaddr_storage& address, Endpoint* endpoint);

}  // namespace kms

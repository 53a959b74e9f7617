#include "core/endpoint.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <cstring>

namespace kms {
namespace {

constexpr uint8_t kMappedPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

}  // namespace

bool Endpoint::isLoopback() const {
  return v6 ? memcmp(address, &in6addr_loopback, sizeof address) == 0 : address[0] == 127;
}

std::string Endpoint::text() const {
  char text[INET6_ADDRSTRLEN] = "";
  inet_ntop(v6 ? AF_INET6 : AF_INET, address, text, sizeof text);
  return text;
}

bool Endpoint::operator==(const Endpoint& other) const {
  return v6 == other.v6 && port == other.port && memcmp(address, other.address, sizeof address) == 0;
}

Endpoint endpointAt(bool v6, const void* address, uint16_t port) {
  const auto* const bytes = static_cast<const uint8_t*>(address);
  const bool mapped = v6 && memcmp(bytes, kMappedPrefix, sizeof kMappedPrefix) == 0;
  Endpoint endpoint;
  endpoint.v6 = v6 && !mapped;
  endpoint.port = port;
  memcpy(endpoint.address, mapped ? bytes + sizeof kMappedPrefix : bytes, endpoint.v6 ? 16 : 4);
  return endpoint;
}

bool endpointOf(const sockaddr_storage& address, Endpoint* endpoint) {
  if (address.ss_family == AF_INET) {
    const auto& inet = reinterpret_cast<const sockaddr_in&>(address);
    *endpoint = endpointAt(false, &inet.sin_addr, ntohs(inet.sin_port));
    return true;
  }
  if (address.ss_family == AF_INET6) {
    const auto& inet = reinterpret_cast<const sockaddr_in6&>(address);
    *endpoint = endpointAt(true, &inet.sin6_addr, ntohs(inet.sin6_port));
    return true;
  }
  return false;
}

}  // namespace kms

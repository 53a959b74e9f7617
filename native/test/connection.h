#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "check.h"
#include "core/endpoint.h"
#include "core/listening.h"

namespace check {

// A socket belongs to the effective uid at the time that it is made: as root, to one that no empty field looks like.
inline uint32_t somebody() { return geteuid() == 0 ? 12345 : geteuid(); }

inline int socketOf(uint32_t uid, int family) {
  if (geteuid() != 0 || uid == 0) return socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (seteuid(uid) != 0) return -1;
  const int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  return seteuid(0) == 0 ? fd : -1;
}

inline sockaddr_storage at(const char* host, uint16_t port) {
  sockaddr_storage address{};
  auto& v4 = reinterpret_cast<sockaddr_in&>(address);
  auto& v6 = reinterpret_cast<sockaddr_in6&>(address);
  const bool isV6 = strchr(host, ':') != nullptr;
  address.ss_family = isV6 ? AF_INET6 : AF_INET;
  CHECK(inet_pton(address.ss_family, host, isV6 ? static_cast<void*>(&v6.sin6_addr) : &v4.sin_addr) == 1);
  (isV6 ? v6.sin6_port : v4.sin_port) = htons(port);
  return address;
}

inline bool bindTo(int fd, const sockaddr_storage& address) {
  const int on = 1, off = 0;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (address.ss_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  return bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
}

inline kms::Endpoint endOf(int fd, bool other) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  auto* const raw = reinterpret_cast<sockaddr*>(&address);
  CHECK((other ? getpeername(fd, raw, &length) : getsockname(fd, raw, &length)) == 0);
  kms::Endpoint end;
  CHECK(kms::endpointOf(address, &end));
  return end;
}

// A listener and a connection to it, the client's end of which `uid` has made.
struct Connection {
  int listener;
  int client;
  int server = -1;

  Connection(const char* listen, const char* dial, uint32_t uid = somebody(), uint16_t port = 0, uint16_t clientPort = 0) {
    const sockaddr_storage own = at(listen, port);
    listener = socket(own.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(bindTo(listener, own) && ::listen(listener, 8) == 0);
    client = this->dial(dial, uid, clientPort);
    accept();
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    for (const int fd : {client, server, listener}) close(fd);
  }
  int dial(const char* host, uint32_t uid, uint16_t clientPort) const {
    const sockaddr_storage to = at(host, kms::boundTo(listener).port);
    const int fd = socketOf(uid, to.ss_family);
    if (clientPort != 0) CHECK(bindTo(fd, at(host, clientPort)));
    CHECK(connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
    return fd;
  }
  // The client is gone without a good-bye, and somebody is connected from its port.
  void replaceClient() {
    const linger reset{1, 0};
    const uint16_t port = endOf(client, false).port;
    CHECK(setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
    close(client);
    client = dial("127.0.0.1", somebody(), port);
  }
  void accept() { server = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC); }
};

}  // namespace check

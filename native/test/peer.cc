#include "core/peer.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <vector>

#include "core/listening.h"
#include "core/stream_socket.h"
#include "test/check.h"

using check::Directory;
using kms::Peer;
using kms::Status;

static int connectTo(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  memcpy(address.sun_path, path.c_str(), path.size());
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0) return fd;
  close(fd);
  return -1;
}

TEST("an accepted connection tells its peer's uid, gid and pid") {
  const Directory directory;
  const std::string path = directory / "s";
  int listener = -1;
  Peer peer;
  CHECK_OK(kms::bindUnixSocket(path.c_str(), 0600, &listener));
  CHECK(kms::acceptPeer(listener, &peer) < 0 && errno == EAGAIN);
  const int client = connectTo(path);
  CHECK(client >= 0);
  const int server = kms::acceptPeer(listener, &peer);
  CHECK(server >= 0);
  CHECK_EQUAL(peer.uid, geteuid());
  CHECK_EQUAL(peer.gid, getegid());
#if defined(__linux__)
  CHECK_EQUAL(peer.pid, getpid());
#endif
  CHECK((fcntl(server, F_GETFL) & O_NONBLOCK) != 0 && fcntl(server, F_GETFD) == FD_CLOEXEC);
  Peer seen;
  CHECK_OK(kms::peerOf(client, &seen));
  CHECK_EQUAL(seen.uid, geteuid());
  for (const int fd : {client, server, listener}) close(fd);
}

TEST("the answers to 256 requests of 1 KiB leave at once for a peer that has not read") {
  const Directory directory;
  const std::string path = directory / "s";
  int listener = -1;
  Peer peer;
  CHECK_OK(kms::bindUnixSocket(path.c_str(), 0600, &listener));
  const int client = connectTo(path);
  const int server = kms::acceptPeer(listener, &peer);
  CHECK(client >= 0 && server >= 0);
  const std::vector<uint8_t> answers(256 * 1090);
  CHECK_EQUAL(kms::sendAtOnce(server, answers.data(), answers.size()), answers.size());
  for (const int fd : {client, server, listener}) close(fd);
}

TEST("a peer of another uid is told apart") {
  if (geteuid() != 0) {
    printf("skipped: needs root\n");
    return;
  }
  const Directory directory;
  const std::string path = directory / "s";
  int listener = -1;
  CHECK_OK(kms::bindUnixSocket(path.c_str(), 0666, &listener));
  CHECK(chmod(directory.path().c_str(), 0755) == 0);
  CHECK_EQUAL(check::inChild([&path] { return setgid(12346) == 0 && setuid(12345) == 0 && connectTo(path) >= 0 ? 0 : 1; }), 0);
  Peer peer;
  const int server = kms::acceptPeer(listener, &peer);
  CHECK(server >= 0);
  CHECK_EQUAL(peer.uid, 12345u);
  CHECK_EQUAL(peer.gid, 12346u);
  close(server);
  close(listener);
}

TEST("what is no Unix socket has no known peer") {
  Peer peer{1, 1, 1, "", 0};
  const int tcp = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQUAL(kms::peerOf(tcp, &peer).status, Status::Unauthenticated);
  CHECK_EQUAL(peer.uid, UINT32_MAX);
  close(tcp);
  CHECK_EQUAL(kms::peerOf(tcp, &peer).status, Status::Unauthenticated);
  CHECK_EQUAL(kms::peerOf(0x7fffffff, &peer).status, Status::Unauthenticated);
}

MAIN

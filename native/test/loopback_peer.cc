#include "core/loopback_peer.h"

#if defined(__linux__)

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include <cerrno>
#include <fstream>

#include "check.h"
#include "connection.h"
#include "core/listening.h"
#include "core/peer.h"

using check::at;
using check::Connection;
using check::endOf;
using check::socketOf;
using check::somebody;
using kms::Endpoint;
using kms::Finding;
using kms::FindSocket;
using kms::HeldSocket;
using kms::kNoUid;

static constexpr FindSocket kWays[] = {kms::findByNetlink, kms::findInProc};

static bool askBothAndAuto(int fd, uint32_t uid) {
  for (const FindSocket find : kWays) {
    if (kms::uidOfLoopbackPeerBy(find, fd) != uid) return false;
  }
  return kms::uidOfLoopbackPeer(fd) == uid;
}

// What /proc/net/tcp says of an IPv4 socket, closed ones included: "state uid inode", empty if it is not listed.
static std::string listed(const Endpoint& local, const Endpoint& remote) {
  char ends[64];
  uint32_t from, to;
  memcpy(&from, local.address, 4);
  memcpy(&to, remote.address, 4);
  snprintf(ends, sizeof ends, "%08X:%04X %08X:%04X ", from, local.port, to, remote.port);
  std::ifstream table("/proc/net/tcp");
  for (std::string line; std::getline(table, line);) {
    const size_t found = line.find(ends);
    if (found == std::string::npos) continue;
    char state[3];
    unsigned uid, inode;
    if (sscanf(line.c_str() + found + strlen(ends), "%2s %*x:%*x %*x:%*x %*x %u %*d %u", state, &uid, &inode) != 3) continue;
    return std::string(state) + " " + std::to_string(uid) + " " + std::to_string(inode);
  }
  return "";
}

static bool becomesListed(const Endpoint& local, const Endpoint& remote, const std::string& entry) {
  for (int i = 0; i < 500; i++, usleep(10'000)) {
    if (listed(local, remote) == entry) return true;
  }
  fprintf(stderr, "listed: %s\n", listed(local, remote).c_str());
  return false;
}

static bool isFoundNowhere(const Endpoint& local, const Endpoint& remote) {
  HeldSocket found;
  for (const FindSocket find : kWays) {
    if (find(local, remote, &found) != Finding::NotFound) return false;
  }
  return true;
}

static bool needsRoot() {
  if (geteuid() == 0) return false;
  printf("skipped: needs root\n");
  return true;
}

TEST("a peer on the loopback is known by its uid, however its address is written, by netlink and by /proc alike") {
  const char* pairs[][2] = {{"127.0.0.1", "127.0.0.1"},        {"0.0.0.0", "127.9.8.7"}, {"::", "::1"},
                            {"127.0.0.1", "::ffff:127.0.0.1"}, {"::", "127.0.0.1"},      {"::1", "::1"},
                            {"::ffff:127.0.0.1", "127.0.0.1"}, {"::", "::ffff:127.0.0.1"}};
  for (const auto& [listen, dial] : pairs) {
    const Connection one(listen, dial);
    CHECK(one.server >= 0);
    for (const FindSocket find : kWays) CHECK_EQUAL(kms::uidOfLoopbackPeerBy(find, one.server), somebody());
    CHECK_EQUAL(kms::uidOfLoopbackPeer(one.server), somebody());
  }
}

TEST("an accepted connection tells its peer's uid, address and port, and sends without delay") {
  int listener = -1;
  kms::Peer peer;
  CHECK_OK(kms::bindTcpSocket("127.0.0.1", 0, &listener));
  const sockaddr_storage to = at("::ffff:127.0.0.1", kms::boundTo(listener).port);
  CHECK(kms::acceptPeer(listener, &peer) < 0 && errno == EAGAIN);
  const int client = socketOf(somebody(), AF_INET6);
  CHECK(connect(client, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0);
  const int server = kms::acceptPeer(listener, &peer);
  CHECK(server >= 0);
  CHECK_EQUAL(peer.uid, somebody());
  CHECK_EQUAL(peer.gid, 0u);
  CHECK_EQUAL(peer.pid, 0);
  CHECK_EQUAL(peer.address, "127.0.0.1");
  CHECK_EQUAL(peer.port, endOf(client, false).port);
  CHECK((fcntl(server, F_GETFL) & O_NONBLOCK) != 0 && fcntl(server, F_GETFD) == FD_CLOEXEC);
  int noDelay = 0, keepAlive = 0;
  socklen_t length = sizeof noDelay;
  CHECK(getsockopt(server, IPPROTO_TCP, TCP_NODELAY, &noDelay, &length) == 0 && noDelay != 0);
  CHECK(getsockopt(server, SOL_SOCKET, SO_KEEPALIVE, &keepAlive, &length) == 0 && keepAlive != 0);
  for (const int fd : {client, server, listener}) close(fd);
}

TEST("a peer that has closed is nobody, though the tables say uid 0 of it, and so is one in TIME_WAIT") {
  Connection one("127.0.0.1", "127.0.0.1");
  const Endpoint peer = endOf(one.server, true), own = endOf(one.server, false);
  CHECK(askBothAndAuto(one.server, somebody()));
  CHECK_EQUAL(write(one.client, "x", 1), 1);
  close(one.client);
  one.client = -1;
  CHECK(becomesListed(peer, own, "05 0 0"));
  CHECK(askBothAndAuto(one.server, kNoUid));
  CHECK(isFoundNowhere(peer, own) && isFoundNowhere(own, peer));
  char byte;
  CHECK_EQUAL(read(one.server, &byte, 1), 1);
  const int server = one.server;
  CHECK(shutdown(server, SHUT_WR) == 0);
  CHECK(becomesListed(peer, own, "06 0 0"));
  CHECK(askBothAndAuto(server, kNoUid));
  CHECK(isFoundNowhere(peer, own));
}

TEST("a connection of which either side has ended its half has no known peer") {
  for (const bool byPeer : {true, false}) {
    const Connection one("127.0.0.1", "127.0.0.1");
    CHECK(askBothAndAuto(one.server, somebody()));
    CHECK(shutdown(byPeer ? one.client : one.server, SHUT_WR) == 0);
    CHECK(askBothAndAuto(one.server, kNoUid));
    // The client's socket is still held: only its state tells.
    CHECK(isFoundNowhere(endOf(one.client, false), endOf(one.client, true)));
  }
}

TEST("a connection that nobody has accepted is not found, though it is established") {
  Connection one("127.0.0.1", "127.0.0.1");
  const int waiting = one.dial("127.0.0.1", somebody(), 0);
  const Endpoint client = endOf(waiting, false), server = endOf(waiting, true);
  // Kernels differ in whose it is meanwhile: root's, or the listener's.
  const std::string entry = listed(server, client);
  CHECK(entry == "01 0 0" || entry == "01 " + std::to_string(geteuid()) + " 0");
  CHECK(isFoundNowhere(server, client));
  HeldSocket found;
  for (const FindSocket find : kWays) CHECK(find(client, server, &found) == Finding::Found && found.uid == somebody());
  close(waiting);
}

TEST("what a peer said before it was reset is not believed to be of the next one on its port") {
  Connection one("127.0.0.1", "127.0.0.1", 0);
  CHECK_EQUAL(write(one.client, "x", 1), 1);
  const int old = one.server;
  one.replaceClient();
  one.accept();
  CHECK(askBothAndAuto(one.server, somebody()));
  CHECK(askBothAndAuto(old, kNoUid));
  char byte;
  CHECK_EQUAL(read(old, &byte, 1), 1);
  close(old);
}

static Connection* replaced;
static int questions;

// A peer that is quick: between the question for our own end and that for its own it has gone, and another has come.
static Finding findAfterReplacement(const Endpoint& local, const Endpoint& remote, HeldSocket* found) {
  if (++questions == 2) replaced->replaceClient();
  const Finding finding = kms::findByNetlink(local, remote, found);
  if (questions == 2) CHECK(finding == Finding::Found && found->uid == somebody());
  return finding;
}

TEST("a peer that is replaced while the kernel is asked is not taken for the next one") {
  Connection one("127.0.0.1", "127.0.0.1", 0);
  replaced = &one;
  questions = 0;
  CHECK_EQUAL(kms::uidOfLoopbackPeerBy(findAfterReplacement, one.server), kNoUid);
  CHECK_EQUAL(questions, 2);
}

TEST("a peer that has gone costs no search") {
  const Connection one("127.0.0.1", "127.0.0.1");
  CHECK(shutdown(one.client, SHUT_WR) == 0);
  questions = 2;
  CHECK_EQUAL(kms::uidOfLoopbackPeerBy(findAfterReplacement, one.server), kNoUid);
  CHECK_EQUAL(questions, 2);
}

TEST("a listener is not taken for a connection, nor one connection for another") {
  const Connection one("127.0.0.1", "127.0.0.1");
  const Endpoint own = endOf(one.server, false);
  Endpoint peer = endOf(one.server, true);
  HeldSocket found;
  for (const FindSocket find : kWays) CHECK(find(own, peer, &found) == Finding::Found && found.inode != 0);
  peer.port ^= 1;
  CHECK(isFoundNowhere(own, peer) && isFoundNowhere(peer, own));
  CHECK(isFoundNowhere(own, Endpoint()));
  Endpoint v6 = peer;
  v6.v6 = true;
  CHECK(isFoundNowhere(own, v6));
}

TEST("only the loopback is known: not the own address of another interface, and not what is no TCP connection") {
  const int probe = socket(AF_INET, SOCK_DGRAM, 0);
  const sockaddr_storage far = at("192.0.2.200", 9);
  // Connecting a datagram socket sends nothing; it only chooses the address.
  const bool routed = connect(probe, reinterpret_cast<const sockaddr*>(&far), sizeof far) == 0;
  const std::string address = routed ? endOf(probe, false).text() : "";
  close(probe);
  if (address.empty() || address.rfind("127.", 0) == 0) {
    printf("skipped in part: no address but the loopback\n");
  } else {
    const Connection one(address.c_str(), address.c_str());
    HeldSocket found;
    for (const FindSocket find : kWays) CHECK(find(endOf(one.server, true), endOf(one.server, false), &found) == Finding::Found);
    CHECK(askBothAndAuto(one.server, kNoUid));
  }
  int pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  CHECK(askBothAndAuto(pair[0], kNoUid));
  for (const int fd : pair) close(fd);
  CHECK(askBothAndAuto(pair[0], kNoUid));
}

TEST("the overflow uid is nobody") {
  if (needsRoot()) return;
  const Connection one("127.0.0.1", "127.0.0.1", 65534);
  HeldSocket found;
  for (const FindSocket find : kWays) {
    CHECK(find(endOf(one.server, true), endOf(one.server, false), &found) == Finding::Found);
    CHECK_EQUAL(found.uid, 65534u);
  }
  CHECK(askBothAndAuto(one.server, kNoUid));
}

TEST("a user without a number in our user namespace is nobody") {
  if (needsRoot()) return;
  const Connection one("127.0.0.1", "127.0.0.1");
  CHECK(askBothAndAuto(one.server, somebody()));
  const int answer = check::inChild([&one] {
    if (unshare(CLONE_NEWUSER) != 0) return 2;
    HeldSocket found;
    if (kms::findByNetlink(endOf(one.server, true), endOf(one.server, false), &found) != Finding::Found) return 3;
    return found.uid == 65534 && askBothAndAuto(one.server, kNoUid) ? 0 : 1;
  });
  if (answer == 2) printf("skipped: no user namespace can be made\n");
  else CHECK_EQUAL(answer, 0);
}

static bool raiseLoopback() {
  const int fd = socket(AF_INET, SOCK_DGRAM, 0);
  ifreq request{};
  strcpy(request.ifr_name, "lo");
  const bool read = ioctl(fd, SIOCGIFFLAGS, &request) == 0;
  request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
  const bool raised = read && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
  close(fd);
  return raised;
}

TEST("a connection of another network namespace is not taken for one of the same addresses here") {
  if (needsRoot()) return;
  const Connection theirs("127.0.0.1", "127.0.0.1");
  CHECK(askBothAndAuto(theirs.server, somebody()));
  const Endpoint own = endOf(theirs.server, false), peer = endOf(theirs.server, true);
  const int answer = check::inChild([&theirs, &own, &peer] {
    if (unshare(CLONE_NEWNET) != 0) return 2;
    if (!askBothAndAuto(theirs.server, kNoUid)) return 3;
    if (!raiseLoopback()) return 4;
    const Connection here("127.0.0.1", "127.0.0.1", 4242, own.port, peer.port);
    if (!(endOf(here.server, true) == peer) || !askBothAndAuto(here.server, 4242)) return 5;
    return askBothAndAuto(theirs.server, kNoUid) ? 0 : 1;
  });
  if (answer == 2) printf("skipped: no network namespace can be made\n");
  else CHECK_EQUAL(answer, 0);
}

// Lets socket(AF_NETLINK) fail as a service manager's filter does.
static bool refuseNetlink(uint32_t error) {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_NETLINK, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{sizeof filter / sizeof *filter, filter};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST("where netlink is refused /proc is read, and tells the same") {
  const Connection one("127.0.0.1", "127.0.0.1");
  for (const uint32_t error : {EPERM, EACCES, EPROTONOSUPPORT, EAFNOSUPPORT}) {
    const int answer = check::inChild([&one, error] {
      HeldSocket found;
      if (!refuseNetlink(error)) return 2;
      if (kms::findByNetlink(endOf(one.server, true), endOf(one.server, false), &found) != Finding::NotTold) return 3;
      return kms::uidOfLoopbackPeer(one.server) == somebody() ? 0 : 1;
    });
    CHECK_EQUAL(answer, 0);
  }
}

MAIN

#else

#include "check.h"
#include "core/peer.h"

TEST("elsewhere no peer has a uid") { CHECK_EQUAL(kms::uidOfLoopbackPeer(0), kms::kNoUid); }

MAIN

#endif

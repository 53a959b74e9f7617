#include "core/listening.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <vector>

#include "test/check.h"

using check::Directory;
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

static mode_t modeOf(const std::string& path) {
  struct stat status {};
  return lstat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
}

TEST("a socket gets exactly its mode, whatever the umask, and the umask is left alone") {
  const Directory directory;
  for (const mode_t mask : {0u, 022u, 0777u}) {
    for (const int mode : {0600, 0660}) {
      const std::string path = directory / std::to_string(mask * 1000 + static_cast<unsigned>(mode));
      int fd = -1;
      const mode_t before = umask(mask);
      CHECK_OK(kms::bindUnixSocket(path.c_str(), mode, &fd));
      CHECK_EQUAL(umask(before), mask);
      CHECK_EQUAL(modeOf(path), static_cast<mode_t>(mode));
      CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
      close(fd);
    }
  }
}

TEST("paths that are empty, too long or in no directory are refused by name") {
  const Directory directory;
  const size_t most = sizeof(sockaddr_un{}.sun_path) - 1;
  const std::string longest = directory / std::string(most - directory.path().size() - 1, 'x');
  int fd = -1;
  CHECK_FAILURE(kms::bindUnixSocket((longest + "x").c_str(), 0600, &fd), Status::InvalidArgument, "at most " + std::to_string(most));
  CHECK_FAILURE(kms::bindUnixSocket("", 0600, &fd), Status::InvalidArgument, "empty");
  CHECK_FAILURE(kms::bindUnixSocket((directory / "none/s").c_str(), 0600, &fd), Status::InvalidArgument, "none/ cannot be opened");
  CHECK_EQUAL(fd, -1);
  CHECK_OK(kms::bindUnixSocket(longest.c_str(), 0600, &fd));
  CHECK(connectTo(longest) >= 0);
  close(fd);
}

TEST("a stale socket is replaced, a live one is never stolen") {
  const Directory directory;
  const std::string path = directory / "s";
  int first = -1, second = -1;
  CHECK_OK(kms::bindUnixSocket(path.c_str(), 0600, &first));
  CHECK_FAILURE(kms::bindUnixSocket(path.c_str(), 0600, &second), Status::Conflict, "a server answers at " + path);
  CHECK(connectTo(path) >= 0);
  close(first);
  CHECK(connectTo(path) < 0);
  CHECK_OK(kms::bindUnixSocket(path.c_str(), 0660, &second));
  CHECK_EQUAL(modeOf(path), 0660u);
  CHECK(connectTo(path) >= 0);
  close(second);
}

TEST("a server whose backlog is full is alive") {
  const Directory directory;
  const std::string path = directory / "s";
  int listener = -1, second = -1;
  CHECK_OK(kms::bindUnixSocket(path.c_str(), 0600, &listener));
  CHECK(listen(listener, 0) == 0);
  const int client = connectTo(path);
  CHECK(client >= 0);
  CHECK_FAILURE(kms::bindUnixSocket(path.c_str(), 0600, &second), Status::Conflict, "a server answers at");
  close(client);
  close(listener);
}

TEST("a file that is no socket is never removed, nor is a link to one") {
  const Directory directory;
  const std::string path = directory / "s";
  int fd = -1;
  close(open(path.c_str(), O_WRONLY | O_CREAT, 0600));
  CHECK_FAILURE(kms::bindUnixSocket(path.c_str(), 0600, &fd), Status::Conflict, path + " exists and is not a socket");
  CHECK(access(path.c_str(), F_OK) == 0);
  int stale = -1;
  CHECK_OK(kms::bindUnixSocket((directory / "stale").c_str(), 0600, &stale));
  close(stale);
  CHECK(unlink(path.c_str()) == 0 && symlink("stale", path.c_str()) == 0);
  CHECK_FAILURE(kms::bindUnixSocket(path.c_str(), 0600, &fd), Status::Conflict, "is not a socket");
  CHECK(access((directory / "stale").c_str(), F_OK) == 0);
}

TEST("the stale socket of another user is left to its owner") {
  if (geteuid() != 0) {
    printf("skipped: needs root\n");
    return;
  }
  const Directory directory;
  const std::string path = directory / "s";
  int fd = -1;
  CHECK_OK(kms::bindUnixSocket(path.c_str(), 0666, &fd));
  close(fd);
  CHECK(chmod(directory.path().c_str(), 0777) == 0);
  const int answer = check::inChild([&path] {
    int mine = -1;
    return setuid(12345) == 0 ? static_cast<int>(kms::bindUnixSocket(path.c_str(), 0600, &mine).status) : 100;
  });
  CHECK_EQUAL(answer, static_cast<int>(Status::Conflict));
  CHECK(access(path.c_str(), F_OK) == 0);
}

TEST("of many starters at one stale socket exactly one serves, and it can be reached") {
  const Directory directory;
  const std::string path = directory / "s";
  for (int round = 0; round < 20; round++) {
    int stale = -1;
    CHECK_OK(kms::bindUnixSocket(path.c_str(), 0600, &stale));
    close(stale);
    int go[2], done[2];
    CHECK(pipe(go) == 0 && pipe(done) == 0);
    std::vector<pid_t> starters;
    for (int i = 0; i < 6; i++) {
      const pid_t child = fork();
      if (child == 0) {
        char byte;
        close(go[1]);
        (void)!read(go[0], &byte, 1);
        int fd = -1;
        const Status status = kms::bindUnixSocket(path.c_str(), 0600, &fd).status;
        byte = static_cast<char>(status);
        (void)!write(done[1], &byte, 1);
        if (status == Status::Ok) pause();
        _exit(0);
      }
      starters.push_back(child);
    }
    close(go[1]);
    int serving = 0, refused = 0;
    for (size_t i = 0; i < starters.size(); i++) {
      char status = 0;
      CHECK(read(done[0], &status, 1) == 1);
      if (status == static_cast<char>(Status::Ok)) serving++;
      if (status == static_cast<char>(Status::Conflict)) refused++;
    }
    CHECK_EQUAL(serving, 1);
    CHECK_EQUAL(refused, 5);
    const int client = connectTo(path);
    CHECK(client >= 0);
    for (const int fd : {client, go[0], done[0], done[1]}) close(fd);
    for (const pid_t child : starters) kill(child, SIGKILL);
    for (const pid_t child : starters) waitpid(child, nullptr, 0);
  }
}

TEST("a stranger's lock on the directory makes the bind busy, not stuck") {
  const Directory directory;
  const int stranger = open(directory.path().c_str(), O_RDONLY | O_DIRECTORY);
  CHECK(flock(stranger, LOCK_EX) == 0);
  int fd = -1;
  CHECK_EQUAL(kms::bindUnixSocket((directory / "s").c_str(), 0600, &fd).status, Status::Busy);
  close(stranger);
  CHECK_OK(kms::bindUnixSocket((directory / "s").c_str(), 0600, &fd));
  close(fd);
}

TEST("at the end a socket file is removed only while it is ours") {
  const Directory directory;
  const std::string path = directory / "s";
  int fd = -1, other = -1;
  dev_t device = 0;
  ino_t inode = 0;
  CHECK_OK(kms::bindUnixSocket(path.c_str(), 0600, &fd, &device, &inode));
  CHECK(unlink(path.c_str()) == 0);
  CHECK_OK(kms::bindUnixSocket(path.c_str(), 0600, &other));
  kms::unlinkIfOurs(path.c_str(), device, inode);
  CHECK(access(path.c_str(), F_OK) == 0);
  CHECK(unlink(path.c_str()) == 0);
  close(other);
  close(fd);
  CHECK_OK(kms::bindUnixSocket(path.c_str(), 0600, &fd, &device, &inode));
  kms::unlinkIfOurs(path.c_str(), device, inode);
  CHECK(access(path.c_str(), F_OK) != 0);
  kms::unlinkIfOurs(path.c_str(), device, inode);
  close(fd);
}

static int connectTcp(const char* host, uint16_t port) {
  sockaddr_in6 v6{};
  sockaddr_in v4{};
  const bool isV6 = inet_pton(AF_INET6, host, &v6.sin6_addr) == 1;
  if (!isV6) CHECK(inet_pton(AF_INET, host, &v4.sin_addr) == 1);
  v6.sin6_family = AF_INET6;
  v4.sin_family = AF_INET;
  v6.sin6_port = v4.sin_port = htons(port);
  const int fd = socket(isV6 ? AF_INET6 : AF_INET, SOCK_STREAM, 0);
  const auto* const address = isV6 ? reinterpret_cast<const sockaddr*>(&v6) : reinterpret_cast<const sockaddr*>(&v4);
  if (connect(fd, address, isV6 ? sizeof v6 : sizeof v4) == 0) return fd;
  close(fd);
  return -1;
}

TEST("a TCP socket listens at its numeric address, of that family only, at the port it was given") {
  for (const char* host : {"127.0.0.1", "::1", "::"}) {
    int fd = -1, second = -1;
    CHECK_OK(kms::bindTcpSocket(host, 0, &fd));
    const kms::Endpoint bound = kms::boundTo(fd);
    CHECK(bound.port != 0);
    CHECK_EQUAL(bound.text(), host);
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
    CHECK_FAILURE(kms::bindTcpSocket(host, bound.port, &second), Status::Conflict, "is in use");
    CHECK_EQUAL(second, -1);
    const int client = connectTcp(bound.v6 ? "::1" : "127.0.0.1", bound.port);
    CHECK(client >= 0);
    CHECK(!bound.v6 || connectTcp("127.0.0.1", bound.port) < 0);
    close(fd);
    close(client);
    CHECK_OK(kms::bindTcpSocket(host, bound.port, &fd));
    CHECK_EQUAL(kms::boundTo(fd).port, bound.port);
    close(fd);
  }
}

TEST("what is no numeric address of this machine is refused") {
  int fd = -1;
  const std::string zero("127.0.0.1\0", 10);
  for (const std::string& host : {std::string("localhost"), std::string(), zero, std::string("127.1"), std::string("0x7f.0.0.1"),
                                  std::string("[::1]"), std::string("fe80::1%lo"), std::string("127.0.0.1 "), std::string("*")}) {
    CHECK_FAILURE(kms::bindTcpSocket(host, 0, &fd), Status::InvalidArgument, "numeric");
  }
  CHECK_FAILURE(kms::bindTcpSocket("192.0.2.1", 0, &fd), Status::InvalidArgument, "192.0.2.1:0 cannot be bound");
  CHECK_FAILURE(kms::bindTcpSocket("2001:db8::1", 7, &fd), Status::InvalidArgument, "[2001:db8::1]:7 cannot be bound");
  CHECK_EQUAL(fd, -1);
}

TEST("a listening stream socket is taken over, whatever it was set to") {
  const Directory directory;
  int unix = -1, tcp = -1;
  CHECK_OK(kms::bindUnixSocket((directory / "s").c_str(), 0600, &unix));
  CHECK_OK(kms::bindTcpSocket("127.0.0.1", 0, &tcp));
  for (const int fd : {unix, tcp}) {
    CHECK(fcntl(fd, F_SETFL, 0) == 0 && fcntl(fd, F_SETFD, 0) == 0);
    CHECK_OK(kms::adoptListener(fd));
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) != 0 && fcntl(fd, F_GETFD) == FD_CLOEXEC);
  }
  CHECK_EQUAL(kms::boundTo(unix).port, 0);
  for (const int fd : {unix, tcp}) close(fd);
}

TEST("what does not listen is not taken over and is left as it was") {
  int pair[2], ends[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe(ends) == 0);
  const int idle = socket(AF_INET, SOCK_STREAM, 0), datagram = socket(AF_INET, SOCK_DGRAM, 0);
  const Directory directory;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  strcpy(address.sun_path, (directory / "p").c_str());
  const int packets = socket(AF_UNIX, SOCK_SEQPACKET, 0);
  CHECK(bind(packets, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 && listen(packets, 1) == 0);
  for (const int fd : {pair[0], pair[1], ends[0], ends[1], idle, datagram, packets}) {
    CHECK_FAILURE(kms::adoptListener(fd), Status::InvalidArgument, "no listening");
    CHECK((fcntl(fd, F_GETFL) & O_NONBLOCK) == 0 && fcntl(fd, F_GETFD) == 0);
    close(fd);
  }
  CHECK_FAILURE(kms::adoptListener(idle), Status::InvalidArgument, "no listening");
}

MAIN

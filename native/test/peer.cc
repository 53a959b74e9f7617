#include "core/peer.h"

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
  Peer peer{1, 1, 1};
  const int tcp = socket(AF_INET, SOCK_STREAM, 0);
  CHECK_EQUAL(kms::peerOf(tcp, &peer).status, Status::Unauthenticated);
  CHECK_EQUAL(peer.uid, UINT32_MAX);
  close(tcp);
  CHECK_EQUAL(kms::peerOf(tcp, &peer).status, Status::Unauthenticated);
  CHECK_EQUAL(kms::peerOf(0x7fffffff, &peer).status, Status::Unauthenticated);
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

MAIN

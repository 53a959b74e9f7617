#include "core/held_sockets.h"

#if defined(__linux__)
#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/magic.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/vfs.h>

#include <cstring>
#include <string>

#include "core/descriptor.h"
#endif

namespace kms {

#if defined(__linux__)
namespace {

// Some 200,000 sockets. A table is read on the event loop: one that somebody has blown up must not stop the daemon.
constexpr size_t kMaxTableBytes = 32u << 20;

constexpr uint32_t kSequence = 1;

struct Question {
  nlmsghdr header;
  inet_diag_req_v2 request;
};

Question questionFor(const Endpoint& local, const Endpoint& remote) {
  Question question{};
  question.header.nlmsg_len = sizeof question;
  question.header.nlmsg_type = SOCK_DIAG_BY_FAMILY;
  question.header.nlmsg_flags = NLM_F_REQUEST;
  question.header.nlmsg_seq = kSequence;
  // An IPv4 question finds IPv6 sockets on mapped addresses too: the kernel's table compares addresses, not families.
  question.request.sdiag_family = local.v6 ? AF_INET6 : AF_INET;
  question.request.sdiag_protocol = IPPROTO_TCP;
  // Of an exact lookup the kernel ignores it: the answer's state is looked at below.
  question.request.idiag_states = 1u << TCP_ESTABLISHED;
  inet_diag_sockid& id = question.request.id;
  id.idiag_sport = htons(local.port);
  id.idiag_dport = htons(remote.port);
  memcpy(id.idiag_src, local.address, sizeof id.idiag_src);
  memcpy(id.idiag_dst, remote.address, sizeof id.idiag_dst);
  id.idiag_cookie[0] = INET_DIAG_NOCOOKIE;
  id.idiag_cookie[1] = INET_DIAG_NOCOOKIE;
  return question;
}

// The kernel falls back to a listener where it finds no connection, so the answer must name both ends that were asked for.
Finding judge(const inet_diag_msg& answer, const Endpoint& local, const Endpoint& remote, HeldSocket* found) {
  if (answer.idiag_family != AF_INET && answer.idiag_family != AF_INET6) return Finding::NotFound;
  const bool v6 = answer.idiag_family == AF_INET6;
  if (!(endpointAt(v6, answer.id.idiag_src, ntohs(answer.id.idiag_sport)) == local)) return Finding::NotFound;
  if (!(endpointAt(v6, answer.id.idiag_dst, ntohs(answer.id.idiag_dport)) == remote)) return Finding::NotFound;
  if (answer.idiag_state != TCP_ESTABLISHED || answer.idiag_inode == 0) return Finding::NotFound;
  *found = HeldSocket{answer.idiag_uid, answer.idiag_inode};
  return Finding::Found;
}

Finding readAnswer(const char* bytes, size_t length, const Endpoint& local, const Endpoint& remote, HeldSocket* found) {
  nlmsghdr header;
  if (length < sizeof header) return Finding::NotTold;
  memcpy(&header, bytes, sizeof header);
  // One question has one answer: of a second message behind it we know nothing.
  if (header.nlmsg_len < NLMSG_HDRLEN || header.nlmsg_len > length) return Finding::NotTold;
  if (NLMSG_ALIGN(header.nlmsg_len) < length) return Finding::NotTold;
  if (header.nlmsg_seq != kSequence) return Finding::NotTold;
  const size_t payload = header.nlmsg_len - NLMSG_HDRLEN;
  if (header.nlmsg_type == NLMSG_ERROR && payload >= sizeof(nlmsgerr)) {
    nlmsgerr error;
    memcpy(&error, bytes + NLMSG_HDRLEN, sizeof error);
    return error.error == -ENOENT ? Finding::NotFound : Finding::NotTold;
  }
  if (header.nlmsg_type != SOCK_DIAG_BY_FAMILY || payload < sizeof(inet_diag_msg)) return Finding::NotTold;
  inet_diag_msg answer;
  memcpy(&answer, bytes + NLMSG_HDRLEN, sizeof answer);
  return judge(answer, local, remote, found);
}

// As /proc/net/tcp{,6} writes an address: words as they lie in memory, each as a number of this machine.
std::string hexOf(const uint8_t* address, size_t bytes) {
  std::string text;
  for (size_t at = 0; at < bytes; at += 4) {
    uint32_t word;
    char digits[9];
    memcpy(&word, address + at, sizeof word);
    snprintf(digits, sizeof digits, "%08X", word);
    text += digits;
  }
  return text;
}

// An end as the table of its family writes it; IPv4 in the table of IPv6 is mapped.
std::string columnOf(const Endpoint& end, bool inTableOfV6) {
  static constexpr uint8_t kPrefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  std::string text = inTableOfV6 && !end.v6 ? hexOf(kPrefix, sizeof kPrefix) : "";
  char port[6];
  text += hexOf(end.address, end.v6 ? 16 : 4);
  snprintf(port, sizeof port, ":%04X", end.port);
  return text + port;
}

class Table {
 public:
  explicit Table(const char* path) : file_(fopen(path, "re")), error_(file_ == nullptr ? errno : 0) {}
  Table(const Table&) = delete;
  Table& operator=(const Table&) = delete;
  ~Table() {
    if (file_ != nullptr) fclose(file_);
    free(line_);
  }
  bool isMissing() const { return error_ == ENOENT; }
  // What lies over /proc in a container may be anything.
  bool isOfKernel() const {
    struct statfs status {};
    return file_ != nullptr && fstatfs(fileno(file_), &status) == 0 && status.f_type == PROC_SUPER_MAGIC;
  }
  // Null at the end.
  const char* next() {
    const ssize_t length = getline(&line_, &capacity_, file_);
    if (length < 0) return nullptr;
    bytes_ += static_cast<size_t>(length);
    return line_;
  }
  // Whether the whole table has been seen.
  bool wasRead() const { return ferror(file_) == 0 && bytes_ <= kMaxTableBytes; }

 private:
  FILE* file_;
  int error_;
  char* line_ = nullptr;
  size_t capacity_ = 0;
  size_t bytes_ = 0;
};

// " sl: local remote st tx:rx tr:when retrnsmt uid timeout inode …"
bool readLine(const char* line, const std::string& ends, HeldSocket* found) {
  const char* const columns = strstr(line, ": ");
  if (columns == nullptr || strncmp(columns + 2, ends.c_str(), ends.size()) != 0) return false;
  unsigned uid = 0;
  unsigned long inode = 0;
  const int read = sscanf(columns + 2 + ends.size(), "%*x:%*x %*x:%*x %*x %u %*d %lu", &uid, &inode);
  if (read != 2 || inode == 0 || inode > UINT32_MAX) return false;
  *found = HeldSocket{uid, static_cast<uint32_t>(inode)};
  return true;
}

// A table changes while it is read: one socket may be listed twice, but two sockets are no answer.
Finding search(const char* path, const std::string& ends, HeldSocket* found) {
  Table table(path);
  // A kernel without IPv6 has no such table, and no such sockets.
  if (table.isMissing()) return Finding::NotFound;
  if (!table.isOfKernel()) return Finding::NotTold;
  Finding finding = Finding::NotFound;
  while (const char* const line = table.next()) {
    HeldSocket socket;
    if (!table.wasRead()) return Finding::NotTold;
    if (!readLine(line, ends, &socket)) continue;
    if (finding == Finding::Found && socket.inode != found->inode) return Finding::NotFound;
    finding = Finding::Found;
    *found = socket;
  }
  return table.wasRead() ? finding : Finding::NotTold;
}

}  // namespace

// The kernel answers while sendto runs, in the caller's context: what is not there to be received then never comes, and
// the event loop need not wait for it (only the first question of a boot may take longer, where the kernel loads tcp_diag
// for it). A socket per question, so that no answer can be taken for that to another one.
Finding findByNetlink(const Endpoint& local, const Endpoint& remote, HeldSocket* found) {
  if (local.v6 != remote.v6) return Finding::NotFound;
  const Descriptor netlink(socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_SOCK_DIAG));
  if (netlink.fd() < 0) return Finding::NotTold;
  const Question question = questionFor(local, remote);
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  const auto* const to = reinterpret_cast<const sockaddr*>(&kernel);
  const ssize_t sent = sendto(netlink.fd(), &question, sizeof question, MSG_DONTWAIT, to, sizeof kernel);
  if (sent != sizeof question) return Finding::NotTold;
  char bytes[4096];
  sockaddr_nl sender{};
  iovec part{bytes, sizeof bytes};
  msghdr message{};
  message.msg_name = &sender;
  message.msg_namelen = sizeof sender;
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  const ssize_t length = recvmsg(netlink.fd(), &message, MSG_DONTWAIT);
  // Port 0 is the kernel; another process that may write to netlink sockets has another one.
  if (length < 0 || (message.msg_flags & MSG_TRUNC) != 0 || sender.nl_pid != 0) return Finding::NotTold;
  return readAnswer(bytes, static_cast<size_t>(length), local, remote, found);
}

Finding findInProc(const Endpoint& local, const Endpoint& remote, HeldSocket* found) {
  if (local.v6 != remote.v6) return Finding::NotFound;
  HeldSocket inV4, inV6;
  Finding v4 = Finding::NotFound;
  // 01 is ESTABLISHED.
  if (!local.v6) v4 = search("/proc/net/tcp", columnOf(local, false) + " " + columnOf(remote, false) + " 01 ", &inV4);
  Finding v6 = search("/proc/net/tcp6", columnOf(local, true) + " " + columnOf(remote, true) + " 01 ", &inV6);
  if (v4 == Finding::NotTold || v6 == Finding::NotTold) return Finding::NotTold;
  if (v4 == Finding::Found && v6 == Finding::Found) return Finding::NotFound;
  *found = v4 == Finding::Found ? inV4 : inV6;
  return v4 == Finding::Found ? v4 : v6;
}

#else

Finding findByNetlink(const Endpoint&, const Endpoint&, HeldSocket*) { return Finding::NotTold; }
Finding findInProc(const Endpoint&, const Endpoint&, HeldSocket*) { return Finding::NotTold; }

#endif

}  // namespace kms

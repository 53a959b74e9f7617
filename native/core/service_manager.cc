#include "core/service_manager.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cstddef>
#include <cstring>

#include "core/descriptor.h"
#include "core/os_error.h"

namespace kms {
namespace {

#if defined(__linux__)
constexpr bool kHasAbstractNames = true;
#else
constexpr bool kHasAbstractNames = false;
#endif

// An abstract name is as long as the address says: one byte more would be another name.
bool parseAddress(const std::string& text, sockaddr_un* address, socklen_t* length) {
  *address = sockaddr_un{};
  const bool abstract = text[0] == '@';
  if (text.size() < 2 || text.size() >= sizeof address->sun_path) return false;
  if (text[0] != '/' && !(abstract && kHasAbstractNames)) return false;
  address->sun_family = AF_UNIX;
  memcpy(address->sun_path, text.data(), text.size());
  if (abstract) address->sun_path[0] = '\0';
  *length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + text.size() + (abstract ? 0 : 1));
  return true;
}

bool limitWait(int fd, unsigned waitMs) {
  const timeval wait{static_cast<time_t>(waitMs / 1000), static_cast<suseconds_t>(waitMs % 1000 * 1000)};
  // Zero would be for ever.
  return waitMs == 0 || setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) == 0;
}

}  // namespace

Failure notifyManager(const std::string& address, const std::string& message, unsigned waitMs) {
  sockaddr_un to{};
  socklen_t length = 0;
  if (!parseAddress(address, &to, &length)) {
    return Failure(Status::InvalidArgument, "the service manager's address is no path" +
                                                std::string(kHasAbstractNames ? " and no abstract name" : ""));
  }
  // Made for each message, of which there are a few a minute at most: a manager that starts anew is found.
  const Descriptor sender(socket(AF_UNIX, SOCK_DGRAM, 0));
  if (sender.fd() < 0 || fcntl(sender.fd(), F_SETFD, FD_CLOEXEC) != 0 || !limitWait(sender.fd(), waitMs)) {
    return Failure(Status::Internal, "no socket can be made: " + osError(errno));
  }
  const auto* const name = reinterpret_cast<const sockaddr*>(&to);
  ssize_t sent;
  do {
    sent = sendto(sender.fd(), message.data(), message.size(), waitMs == 0 ? MSG_DONTWAIT : 0, name, length);
  } while (sent < 0 && errno == EINTR);
  return sent < 0 ? osFailure("the service manager", "told", errno) : Failure();
}

}  // namespace kms

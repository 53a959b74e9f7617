#include "core/stream_socket.h"

#include <string.h>
#include <unistd.h>

#include <vector>

#include "test/check.h"

using kms::sendAtOnce;

namespace {

struct Pair {
  int ends[2] = {-1, -1};
  Pair() { CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0); }
  ~Pair() {
    for (const int end : ends) close(end);
  }
};

}  // namespace

TEST("sending at once takes what there is room for, and nothing when there is none") {
  const Pair pair;
  std::vector<uint8_t> bytes(4 * 1024 * 1024);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<uint8_t>(i * 31 >> 8);
  size_t sent = 0;
  // The descriptor blocks: that the call comes back is what is tested.
  for (size_t now = 1; now != 0 && sent < bytes.size(); sent += now) now = sendAtOnce(pair.ends[0], bytes.data() + sent, bytes.size() - sent);
  CHECK(sent > 0 && sent < bytes.size());
  CHECK_EQUAL(sendAtOnce(pair.ends[0], bytes.data() + sent, bytes.size() - sent), size_t{0});
  std::vector<uint8_t> got(sent);
  CHECK_EQUAL(recv(pair.ends[1], got.data(), got.size(), MSG_WAITALL), static_cast<ssize_t>(sent));
  CHECK(memcmp(got.data(), bytes.data(), sent) == 0);
}

TEST("sending to who has gone takes nothing and raises no signal") {
  const Pair pair;
  const uint8_t byte = 1;
  CHECK(shutdown(pair.ends[1], SHUT_RDWR) == 0);
  CHECK_EQUAL(sendAtOnce(pair.ends[0], &byte, 1), size_t{0});
}

MAIN

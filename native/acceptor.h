#pragma once

#include <node_api.h>
#include <sys/types.h>

#include <cstdint>
#include <string>

#include "core/peer.h"

namespace kms {

// A listening socket, and the file that goes with it if it is a Unix socket of our own making.
struct ListeningSocket {
  int fd = -1;  // −1 of one that was handed over: the file alone is left
  std::string path{};
  dev_t device = 0;
  ino_t inode = 0;
};

void closeListeningSocket(const ListeningSocket& socket);

// Accepts on `socket` and owns it from here: the object with its `close`, or null, and the socket is still the caller's, if
// the event loop cannot watch it.
napi_value acceptOn(napi_env env, const ListeningSocket& socket, uint32_t firstByteTimeoutMs, napi_value events);

napi_value peerObject(napi_env env, const Peer& peer);

}  // namespace kms

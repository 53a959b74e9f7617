#include <node_api.h>
#include <unistd.h>

#include <string>

#include "acceptor.h"
#include "core/listening.h"
#include "core/service_manager.h"
#include "core/stream_socket.h"
#include "environment.h"

namespace kms {

namespace {

bool isObject(napi_env env, napi_value value) {
  napi_valuetype type = napi_undefined;
  return napi_typeof(env, value, &type) == napi_ok && type == napi_object;
}

// Only what JavaScript can hold exactly: napi_get_value_uint32 would take 65536.5 and −1 for other numbers.
bool readPort(napi_env env, napi_value value, uint16_t* port) {
  double number = -1;
  if (napi_get_value_double(env, value, &number) != napi_ok || !(number >= 0 && number <= 65535)) return false;
  *port = static_cast<uint16_t>(number);
  return *port == number;
}

napi_value refuse(napi_env env, const Environment& environment, const char* why) {
  throwFailure(env, environment, Failure(Status::InvalidArgument, why));
  return nullptr;
}

void setNumber(napi_env env, napi_value object, const char* name, uint32_t number) {
  napi_value value = nullptr;
  napi_create_uint32(env, number, &value);
  napi_set_named_property(env, object, name, value);
}

void setText(napi_env env, napi_value object, const char* name, const std::string& text) {
  napi_value value = nullptr;
  napi_create_string_latin1(env, text.data(), text.size(), &value);
  napi_set_named_property(env, object, name, value);
}

// Of a socket that was made here nothing must stay if it cannot be served.
napi_value acceptOrClose(napi_env env, const Environment& environment, const ListeningSocket& socket, uint32_t timeout,
                         napi_value events) {
  napi_value const object = acceptOn(env, socket, timeout, events);
  if (object != nullptr) return object;
  closeListeningSocket(socket);
  throwFailure(env, environment, Failure(Status::Internal, "the socket cannot be watched"));
  return nullptr;
}

// (path, mode, firstByteTimeoutMs, events)
napi_value listenUnix(napi_env env, napi_callback_info info) {
  size_t argc = 4;
  napi_value argv[4];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  const auto& environment = *static_cast<Environment*>(data);
  uint32_t mode = 0, timeout = 0;
  ListeningSocket socket;
  if (!textOf(env, argv[0], &socket.path) || napi_get_value_uint32(env, argv[1], &mode) != napi_ok ||
      napi_get_value_uint32(env, argv[2], &timeout) != napi_ok || !isObject(env, argv[3])) {
    return refuse(env, environment, "takes a path, a mode, a time-out and events");
  }
  const Failure failure = bindUnixSocket(socket.path.c_str(), static_cast<int>(mode), &socket.fd, &socket.device, &socket.inode);
  if (failure.ok()) return acceptOrClose(env, environment, socket, timeout, argv[3]);
  throwFailure(env, environment, failure);
  return nullptr;
}

// (host, port, firstByteTimeoutMs, events)
napi_value listenTcp(napi_env env, napi_callback_info info) {
  size_t argc = 4;
  napi_value argv[4];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  const auto& environment = *static_cast<Environment*>(data);
  uint32_t timeout = 0;
  uint16_t port = 0;
  std::string host;
  ListeningSocket socket;
  if (!textOf(env, argv[0], &host) || !readPort(env, argv[1], &port) ||
      napi_get_value_uint32(env, argv[2], &timeout) != napi_ok || !isObject(env, argv[3])) {
    return refuse(env, environment, "takes an address, a port, a time-out and events");
  }
  const Failure failure = bindTcpSocket(host, port, &socket.fd);
  if (!failure.ok()) {
    throwFailure(env, environment, failure);
    return nullptr;
  }
  const Endpoint bound = boundTo(socket.fd);
  napi_value const object = acceptOrClose(env, environment, socket, timeout, argv[3]);
  if (object != nullptr) setNumber(env, object, "port", bound.port);
  return object;
}

struct HeldSocket {
  ListeningSocket socket;
  bool closed = false;

  // Without a call of `close` when its thread ends: what nobody accepts from must not keep anybody waiting.
  ~HeldSocket() { release(); }
  void release() {
    if (!closed) closeListeningSocket(socket);
    closed = true;
  }
};

napi_value closeHeld(napi_env env, napi_callback_info info) {
  napi_value self = nullptr;
  void* held = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, &self, nullptr);
  if (napi_unwrap(env, self, &held) == napi_ok) static_cast<HeldSocket*>(held)->release();
  return nullptr;
}

// Whoever takes it closes it, and nobody else: its number may be another file's by then.
napi_value handOverHeld(napi_env env, napi_callback_info info) {
  napi_value self = nullptr;
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, &self, nullptr);
  if (napi_unwrap(env, self, &data) != napi_ok) return nullptr;
  auto& held = *static_cast<HeldSocket*>(data);
  napi_value fd = nullptr;
  napi_create_int32(env, held.closed ? -1 : held.socket.fd, &fd);
  if (!held.closed) held.socket.fd = -1;
  return fd;
}

// (path, mode)
napi_value holdUnix(napi_env env, napi_callback_info info) {
  size_t argc = 2;
  napi_value argv[2];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  const auto& environment = *static_cast<Environment*>(data);
  uint32_t mode = 0;
  ListeningSocket socket;
  if (!textOf(env, argv[0], &socket.path) || napi_get_value_uint32(env, argv[1], &mode) != napi_ok) {
    return refuse(env, environment, "takes a path and a mode");
  }
  const Failure failure = bindUnixSocket(socket.path.c_str(), static_cast<int>(mode), &socket.fd, &socket.device, &socket.inode);
  if (!failure.ok()) {
    throwFailure(env, environment, failure);
    return nullptr;
  }
  napi_value object = nullptr;
  napi_create_object(env, &object);
  auto* const held = new HeldSocket{socket};
  napi_wrap(env, object, held, [](napi_env, void* wrapped, void*) { delete static_cast<HeldSocket*>(wrapped); }, nullptr, nullptr);
  setNumber(env, object, "fd", static_cast<uint32_t>(socket.fd));
  const napi_property_descriptor methods[] = {
      {"close", nullptr, closeHeld, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"handOver", nullptr, handOverHeld, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, object, sizeof methods / sizeof *methods, methods);
  return object;
}

// (fd, firstByteTimeoutMs, events)
napi_value listenFd(napi_env env, napi_callback_info info) {
  size_t argc = 3;
  napi_value argv[3];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  const auto& environment = *static_cast<Environment*>(data);
  int32_t fd = -1;
  uint32_t timeout = 0;
  if (napi_get_value_int32(env, argv[0], &fd) != napi_ok || fd < 0 || napi_get_value_uint32(env, argv[1], &timeout) != napi_ok ||
      !isObject(env, argv[2])) {
    return refuse(env, environment, "takes a descriptor, a time-out and events");
  }
  const Failure failure = adoptListener(fd);
  if (!failure.ok()) {
    throwFailure(env, environment, failure);
    return nullptr;
  }
  // No path: the file belongs to whoever bound it, who will serve it again after us.
  ListeningSocket socket;
  socket.fd = fd;
  const Endpoint bound = boundTo(fd);
  napi_value const object = acceptOn(env, socket, timeout, argv[2]);
  if (object == nullptr) return refuse(env, environment, "the descriptor is being watched already");
  setText(env, object, "address", bound.port == 0 ? "" : bound.text());
  setNumber(env, object, "port", bound.port);
  return object;
}

// The one argument of the calls below; −1 and an exception for anything but a descriptor's number.
int descriptorOf(napi_env env, napi_callback_info info) {
  size_t argc = 1;
  napi_value argument = nullptr;
  void* data = nullptr;
  int32_t fd = -1;
  napi_get_cb_info(env, info, &argc, &argument, nullptr, &data);
  if (napi_get_value_int32(env, argument, &fd) == napi_ok && fd >= 0) return fd;
  throwFailure(env, *static_cast<Environment*>(data), Failure(Status::InvalidArgument, "takes a descriptor"));
  return -1;
}

// (fd)
napi_value peerOfCall(napi_env env, napi_callback_info info) {
  const int fd = descriptorOf(env, info);
  if (fd < 0) return nullptr;
  Peer peer;
  const Failure failure = peerOf(fd, &peer);
  if (failure.ok()) return peerObject(env, peer);
  void* data = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, nullptr, &data);
  throwFailure(env, *static_cast<Environment*>(data), failure);
  return nullptr;
}

// (fd)
napi_value closeFd(napi_env env, napi_callback_info info) {
  const int fd = descriptorOf(env, info);
  if (fd >= 0) close(fd);
  return nullptr;
}

// (fd)
napi_value widenFd(napi_env env, napi_callback_info info) {
  const int fd = descriptorOf(env, info);
  if (fd >= 0) widenSending(fd);
  return nullptr;
}

// (address, message, waitMs)
napi_value notifyManagerCall(napi_env env, napi_callback_info info) {
  size_t argc = 3;
  napi_value argv[3];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  const auto& environment = *static_cast<Environment*>(data);
  std::string address, message;
  uint32_t wait = 0;
  if (!textOf(env, argv[0], &address) || !textOf(env, argv[1], &message) ||
      napi_get_value_uint32(env, argv[2], &wait) != napi_ok) {
    return refuse(env, environment, "takes an address, a message and a time");
  }
  const Failure failure = notifyManager(address, message, wait);
  if (!failure.ok()) throwFailure(env, environment, failure);
  return nullptr;
}

}  // namespace

napi_status defineListenCalls(napi_env env, napi_value exports, Environment* environment) {
  const napi_property_descriptor calls[] = {
      {"listenUnix", nullptr, listenUnix, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"listenTcp", nullptr, listenTcp, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"holdUnix", nullptr, holdUnix, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"listenFd", nullptr, listenFd, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"notifyManager", nullptr, notifyManagerCall, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"peerOf", nullptr, peerOfCall, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"widenFd", nullptr, widenFd, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"closeFd", nullptr, closeFd, nullptr, nullptr, nullptr, napi_enumerable, environment},
  };
  return napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}

}  // namespace kms

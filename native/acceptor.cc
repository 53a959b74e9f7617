#include <errno.h>
#include <node_api.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <vector>

#include "acceptor.h"
#include "core/listening.h"

namespace kms {

napi_value peerObject(napi_env env, const Peer& peer) {
  napi_value object = nullptr, value = nullptr;
  napi_create_object(env, &object);
  napi_create_uint32(env, peer.uid, &value);
  napi_set_named_property(env, object, "uid", value);
  napi_create_uint32(env, peer.gid, &value);
  napi_set_named_property(env, object, "gid", value);
  napi_create_int32(env, peer.pid, &value);
  napi_set_named_property(env, object, "pid", value);
  napi_create_string_latin1(env, peer.address.data(), peer.address.size(), &value);
  napi_set_named_property(env, object, "address", value);
  napi_create_uint32(env, peer.port, &value);
  napi_set_named_property(env, object, "port", value);
  return object;
}

// The path goes first: until the socket is closed its inode's number is not given to another file.
void closeListeningSocket(const ListeningSocket& socket) {
  if (!socket.path.empty()) unlinkIfOurs(socket.path.c_str(), socket.device, socket.inode);
  if (socket.fd >= 0) close(socket.fd);
}

namespace {

// Out of descriptors, a listener that polled on would spin: it pauses this long.
constexpr uint64_t kPauseMs = 100;

struct Listener;

// A connection that was admitted and has not said anything yet.
struct Waiting {
  uv_poll_t poll{};
  Listener* listener = nullptr;
  int fd = -1;
  Peer peer;
  // What onPeer returned.
  uint32_t mark = 0;
  uint64_t deadline = 0;
};

struct Listener {
  napi_env env = nullptr;
  napi_ref events = nullptr;
  napi_ref self = nullptr;
  napi_async_context context = nullptr;
  napi_async_cleanup_hook_handle cleanup = nullptr;
  uv_poll_t poll{};
  uv_timer_t timer{};
  ListeningSocket socket;
  uint64_t timeoutMs = 0;
  uint64_t pausedUntil = 0;
  std::vector<Waiting*> waiting;
  int openHandles = 0;
  bool closed = false;
};

// Calls events[name](…); true, and `number` is it, if it returned one. What it throws is an uncaught exception, as in any
// event handler. `reached` is false if JavaScript did not run at all, as in a worker that is being ended.
bool call(Listener& listener, const char* name, size_t argc, const napi_value* argv, uint32_t* number, bool* reached = nullptr) {
  napi_env env = listener.env;
  napi_value events = nullptr, function = nullptr, result = nullptr;
  napi_get_reference_value(env, listener.events, &events);
  napi_get_named_property(env, events, name, &function);
  if (napi_make_callback(env, listener.context, events, function, argc, argv, &result) != napi_ok) {
    napi_value error = nullptr;
    if (reached != nullptr) napi_is_exception_pending(env, reached);
    if (napi_get_and_clear_last_exception(env, &error) == napi_ok) napi_fatal_exception(env, error);
    return false;
  }
  return napi_get_value_uint32(env, result, number) == napi_ok;
}

class Scope {
 public:
  explicit Scope(napi_env env) : env_(env) { napi_open_handle_scope(env, &scope_); }
  ~Scope() { napi_close_handle_scope(env_, scope_); }

 private:
  napi_env env_;
  napi_handle_scope scope_ = nullptr;
};

bool admitted(Listener& listener, const Peer& peer, uint32_t* mark) {
  const Scope scope(listener.env);
  const napi_value argument = peerObject(listener.env, peer);
  return call(listener, "onPeer", 1, &argument, mark);
}

void gone(Listener& listener, const Peer& peer, uint32_t mark) {
  const Scope scope(listener.env);
  napi_value argv[2] = {peerObject(listener.env, peer), nullptr};
  napi_create_uint32(listener.env, mark, &argv[1]);
  uint32_t ignored;
  call(listener, "onGone", 2, argv, &ignored);
}

void handOver(Listener& listener, int fd, const Peer& peer, uint32_t mark, uint8_t firstByte) {
  const Scope scope(listener.env);
  napi_value argv[4] = {nullptr, peerObject(listener.env, peer), nullptr, nullptr};
  napi_create_int32(listener.env, fd, &argv[0]);
  napi_create_uint32(listener.env, firstByte, &argv[2]);
  napi_create_uint32(listener.env, mark, &argv[3]);
  uint32_t ignored;
  bool reached = true;
  call(listener, "onReady", 4, argv, &ignored, &reached);
  if (!reached) close(fd);
}

void onTimer(uv_timer_t* timer);

// Runs while there is something to time: an idle daemon is not woken.
void tick(Listener& listener) {
  if (uv_is_active(reinterpret_cast<uv_handle_t*>(&listener.timer)) == 0) uv_timer_start(&listener.timer, onTimer, kPauseMs, kPauseMs);
}

enum class Peek { Byte, Nothing, Gone };

Peek peek(int fd, uint8_t* byte) {
  for (;;) {
    const ssize_t got = recv(fd, byte, 1, MSG_PEEK | MSG_DONTWAIT);
    if (got == 1) return Peek::Byte;
    if (got < 0 && errno == EINTR) continue;
    return got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? Peek::Nothing : Peek::Gone;
  }
}

// Takes a connection off the list and frees its watcher; the descriptor is left to the caller.
int dismiss(Waiting* one) {
  std::vector<Waiting*>& waiting = one->listener->waiting;
  for (size_t i = 0; i < waiting.size(); ++i) {
    if (waiting[i] != one) continue;
    waiting[i] = waiting.back();
    waiting.pop_back();
    break;
  }
  uv_poll_stop(&one->poll);
  const int fd = one->fd;
  uv_close(reinterpret_cast<uv_handle_t*>(&one->poll), [](uv_handle_t* handle) { delete static_cast<Waiting*>(handle->data); });
  return fd;
}

void drop(Waiting* one) {
  Listener& listener = *one->listener;
  const Peer peer = one->peer;
  const uint32_t mark = one->mark;
  close(dismiss(one));
  gone(listener, peer, mark);
}

void onReadable(uv_poll_t* handle, int status, int events) {
  auto* const one = static_cast<Waiting*>(handle->data);
  uint8_t byte = 0;
  const Peek seen = status < 0 ? Peek::Gone : peek(one->fd, &byte);
  // Readable and nothing to read is an out-of-band byte: it would wake us until the time-out.
  if (seen == Peek::Nothing && (events & UV_READABLE) == 0) return;
  if (seen != Peek::Byte) {
    drop(one);
    return;
  }
  Listener& listener = *one->listener;
  const Peer peer = one->peer;
  const uint32_t mark = one->mark;
  handOver(listener, dismiss(one), peer, mark, byte);
}

void await(Listener& listener, int fd, const Peer& peer, uint32_t mark) {
  uint8_t byte = 0;
  if (peek(fd, &byte) == Peek::Byte) {
    handOver(listener, fd, peer, mark, byte);
    return;
  }
  auto* const one = new Waiting();
  one->listener = &listener;
  one->fd = fd;
  one->peer = peer;
  one->mark = mark;
  one->deadline = uv_now(listener.poll.loop) + listener.timeoutMs;
  one->poll.data = one;
  if (uv_poll_init(listener.poll.loop, &one->poll, fd) != 0) {
    delete one;
    close(fd);
    gone(listener, peer, mark);
    return;
  }
  listener.waiting.push_back(one);
  tick(listener);
  if (uv_poll_start(&one->poll, UV_READABLE | UV_DISCONNECT, onReadable) != 0) drop(one);
}

void onConnection(uv_poll_t* handle, int status, int) {
  auto& listener = *static_cast<Listener*>(handle->data);
  if (status < 0) {
    // libuv has stopped watching: without this the daemon would be deaf and say nothing.
    listener.pausedUntil = uv_now(listener.poll.loop) + kPauseMs;
    tick(listener);
    return;
  }
  // Bounded, so that a flood of connections does not starve those being served.
  for (int i = 0; i < 64 && !listener.closed; ++i) {
    Peer peer;
    const int fd = acceptPeer(listener.socket.fd, &peer);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        uv_poll_stop(&listener.poll);
        listener.pausedUntil = uv_now(listener.poll.loop) + kPauseMs;
        tick(listener);
      }
      return;
    }
    uint32_t mark = 0;
    if (admitted(listener, peer, &mark) && !listener.closed) {
      await(listener, fd, peer, mark);
    } else {
      close(fd);
    }
  }
}

void onTimer(uv_timer_t* timer) {
  auto& listener = *static_cast<Listener*>(timer->data);
  const uint64_t now = uv_now(timer->loop);
  if (listener.pausedUntil != 0 && now >= listener.pausedUntil) {
    listener.pausedUntil = 0;
    uv_poll_start(&listener.poll, UV_READABLE, onConnection);
  }
  std::vector<Waiting*> late;
  for (Waiting* const one : listener.waiting) {
    if (now >= one->deadline) late.push_back(one);
  }
  for (Waiting* const one : late) {
    // onGone may have closed the listener, and with it all that wait.
    if (listener.closed) return;
    drop(one);
  }
  if (listener.waiting.empty() && listener.pausedUntil == 0) uv_timer_stop(timer);
}

void onClosed(uv_handle_t* handle) {
  auto& listener = *static_cast<Listener*>(handle->data);
  if (--listener.openHandles != 0) return;
  if (listener.cleanup != nullptr) napi_remove_async_cleanup_hook(listener.cleanup);
  listener.cleanup = nullptr;
  const Scope scope(listener.env);
  napi_async_destroy(listener.env, listener.context);
  napi_delete_reference(listener.env, listener.events);
  // The last reference: the wrap's finaliser may delete the listener from here on.
  napi_delete_reference(listener.env, listener.self);
}

void stop(Listener& listener) {
  if (listener.closed) return;
  listener.closed = true;
  while (!listener.waiting.empty()) close(dismiss(listener.waiting.back()));
  uv_poll_stop(&listener.poll);
  closeListeningSocket(listener.socket);
  uv_close(reinterpret_cast<uv_handle_t*>(&listener.poll), onClosed);
  uv_close(reinterpret_cast<uv_handle_t*>(&listener.timer), onClosed);
}

napi_value closeListener(napi_env env, napi_callback_info info) {
  napi_value self = nullptr;
  void* listener = nullptr;
  napi_get_cb_info(env, info, nullptr, nullptr, &self, nullptr);
  if (napi_unwrap(env, self, &listener) == napi_ok) stop(*static_cast<Listener*>(listener));
  return nullptr;
}

}  // namespace

napi_value acceptOn(napi_env env, const ListeningSocket& socket, uint32_t firstByteTimeoutMs, napi_value events) {
  napi_value object = nullptr, name = nullptr;
  uv_loop_t* loop = nullptr;
  napi_get_uv_event_loop(env, &loop);
  napi_create_object(env, &object);
  napi_create_string_utf8(env, "progressdb-kms listener", NAPI_AUTO_LENGTH, &name);
  auto* const listener = new Listener();
  listener->env = env;
  listener->socket = socket;
  listener->timeoutMs = firstByteTimeoutMs;
  listener->poll.data = listener;
  listener->timer.data = listener;
  if (uv_poll_init(loop, &listener->poll, socket.fd) != 0) {
    delete listener;
    return nullptr;
  }
  uv_timer_init(loop, &listener->timer);
  listener->openHandles = 2;
  napi_create_reference(env, events, 1, &listener->events);
  napi_wrap(env, object, listener, [](napi_env, void* data, void*) { delete static_cast<Listener*>(data); }, nullptr, nullptr);
  napi_create_reference(env, object, 1, &listener->self);
  napi_async_init(env, object, name, &listener->context);
  napi_add_async_cleanup_hook(env, [](napi_async_cleanup_hook_handle, void* data) { stop(*static_cast<Listener*>(data)); }, listener,
                              &listener->cleanup);
  uv_poll_start(&listener->poll, UV_READABLE, onConnection);
  uv_unref(reinterpret_cast<uv_handle_t*>(&listener->timer));
  const napi_property_descriptor close = {"close", nullptr, closeListener, nullptr, nullptr, nullptr, napi_enumerable, nullptr};
  napi_define_properties(env, object, 1, &close);
  return object;
}

}  // namespace kms

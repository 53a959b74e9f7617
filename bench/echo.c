/*
 * The floor of the daemon: an epoll server on a Unix socket that reads encrypt requests and answers each with a frame of
 * the right size, its payload copied and not encrypted. What a server of these frames cannot be faster than by much.
 *
 *   echo SOCKET
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "frame.h"

/* Beside what one read brings, room for an unfinished frame of the largest size that is measured, and for its answer. */
enum { READ_BYTES = 512 * 1024, HEADROOM = 1032 * 1024, OUTPUT_BYTES = HEADROOM + READ_BYTES, OVERHEAD = 28, MAX_EVENTS = 64 };

struct connection {
  int fd;
  size_t held;    /* unanswered bytes at the start of `input` */
  size_t written; /* of `output`, up to `filled` */
  size_t filled;
  int wants_write;
  uint8_t input[HEADROOM + READ_BYTES];
  uint8_t output[OUTPUT_BYTES];
};

static void die(const char *what) {
  perror(what);
  exit(1);
}

/* Appends the answer to one request's body. Returns its size, 0 if the output is full, -1 if the body is not an encrypt. */
static long answer(const uint8_t *body, size_t length, uint8_t *out, size_t room) {
  struct cursor c = {body, body + length};
  const uint8_t *key, *data;
  if (take_array(&c) != 5) return -1;
  int64_t id = take_uint(&c), op = take_uint(&c);
  if (id < 0 || op != 2 || take_blob(&c, &key) < 0) return -1;
  int64_t plain = take_blob(&c, &data);
  if (plain < 0) return -1;
  size_t payload = (size_t)plain + OVERHEAD;
  if (room < payload + 24) return 0;
  uint8_t *p = out + 4;
  *p++ = 0x94;
  *p++ = 0xce;
  put32(p, (uint32_t)id);
  p += 4;
  *p++ = 0;
  p += put_bin_head(p, payload);
  memcpy(p, data, (size_t)plain);
  memset(p + plain, 0, OVERHEAD);
  p += payload;
  *p++ = 0xa1;
  *p++ = '1';
  put32(out, (uint32_t)(p - out - 4));
  return p - out;
}

/* Answers the whole frames in the input, keeps the rest at its start. 1 if the output is full, -1 if a frame is wrong. */
static int walk(struct connection *k) {
  size_t at = 0;
  int full = 0;
  while (k->held - at >= 4) {
    size_t length = big32(k->input + at);
    if (length > sizeof k->input - 4) return -1;
    if (k->held - at - 4 < length) break;
    long made = answer(k->input + at + 4, length, k->output + k->filled, sizeof k->output - k->filled);
    if (made < 0) return -1;
    if (made == 0) {
      full = 1;
      break;
    }
    k->filled += (size_t)made;
    at += 4 + length;
  }
  k->held -= at;
  if (at > 0) memmove(k->input, k->input + at, k->held);
  return full;
}

/* Returns -1 when the connection is over. */
static int flush_output(int poller, struct connection *k) {
  while (k->written < k->filled) {
    ssize_t n = send(k->fd, k->output + k->written, k->filled - k->written, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) return -1;
    k->written += (size_t)n;
  }
  int stalled = k->written < k->filled;
  if (!stalled) k->written = k->filled = 0;
  if (stalled == k->wants_write) return 0;
  k->wants_write = stalled;
  struct epoll_event e = {.events = stalled ? EPOLLOUT : EPOLLIN, .data.ptr = k};
  return epoll_ctl(poller, EPOLL_CTL_MOD, k->fd, &e);
}

static int pump(int poller, struct connection *k) {
  for (;;) {
    int full = walk(k);
    if (full < 0 || flush_output(poller, k) < 0) return -1;
    if (!full || k->wants_write) return 0;
  }
}

static int serve(int poller, struct connection *k, uint32_t events) {
  if (events & EPOLLOUT) {
    if (flush_output(poller, k) < 0) return -1;
    return k->wants_write ? 0 : pump(poller, k);
  }
  ssize_t n = read(k->fd, k->input + k->held, sizeof k->input - k->held < READ_BYTES ? sizeof k->input - k->held : READ_BYTES);
  if (n < 0 && errno == EAGAIN) return 0;
  if (n <= 0) return -1;
  k->held += (size_t)n;
  return pump(poller, k);
}

static void admit(int poller, int listener) {
  int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
  if (fd < 0) return;
  struct connection *k = malloc(sizeof *k);
  if (!k) die("malloc");
  k->fd = fd;
  k->held = k->written = k->filled = 0;
  k->wants_write = 0;
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = k};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) < 0) die("epoll_ctl");
}

static int listen_on(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) {
    fprintf(stderr, "socket path is too long\n");
    exit(2);
  }
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 64) < 0) die(path);
  return fd;
}

int main(int argc, char **argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: echo SOCKET\n");
    return 2;
  }
  int listener = listen_on(argv[1]), poller = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event events[MAX_EVENTS], e = {.events = EPOLLIN, .data.ptr = NULL};
  if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e) < 0) die("epoll");
  for (;;) {
    int n = epoll_wait(poller, events, MAX_EVENTS, -1);
    if (n < 0 && errno != EINTR) die("epoll_wait");
    for (int i = 0; i < n; i++) {
      struct connection *k = events[i].data.ptr;
      if (!k) admit(poller, listener);
      else if (serve(poller, k, events[i].events) < 0) {
        close(k->fd);
        free(k);
      }
    }
  }
}

/*
 * What the load generators of the binary protocol do with their connections. The file that includes this has `struct connection`,
 * `all` of them, the `poller` that they are watched by, and `receive`, `ask` and `send_owed`.
 */
#ifndef BENCH_CONNECTIONS_H
#define BENCH_CONNECTIONS_H

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "loops.h"

static int serve(int timeout_ms) {
  struct epoll_event events[MAX_CONNECTIONS];
  int n = epoll_wait(poller, events, MAX_CONNECTIONS, timeout_ms);
  if (n < 0 && errno != EINTR) die("epoll_wait");
  for (int i = 0; i < n; i++) {
    struct connection *k = events[i].data.ptr;
    if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(k);
    if (schedule.rate == 0) ask(k, latency_file ? now() : 0);
    send_owed(k);
  }
  return n;
}

static size_t ask_all(double then) {
  size_t asked = 0;
  for (size_t i = 0; i < schedule.connections; i++) {
    size_t count = ask(all[i], then);
    if (count > 0 && !all[i]->wants_write) send_owed(all[i]);
    asked += count;
  }
  return asked;
}

static uint64_t underway(void) {
  uint64_t count = 0;
  for (size_t i = 0; i < schedule.connections; i++) count += all[i]->asked - all[i]->answered;
  return count;
}

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) wrong("socket path is too long");
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0) die(path);
  return fd;
}

/* From here on `serve` looks at it. */
static void watch(struct connection *k, size_t index, int fd) {
  k->index = index;
  k->fd = fd;
  if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0) die("fcntl");
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = k};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &e) < 0) die("epoll_ctl");
  all[index] = k;
}

#endif

/*
 * The load generator of the HTTP/JSON server: raw keep-alive connections on a Unix socket, prebuilt pipelined requests, one
 * sent for every answer. Prints the same line as `load`.
 *
 *   http_load SOCKET BODY_FILE CONNECTIONS IN_FLIGHT WARM_SECONDS SECONDS SERVER_PID
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "server_cpu.h"

enum { INPUT_BYTES = 1024 * 1024, MAX_CONNECTIONS = 1024 };

struct connection {
  int fd;
  size_t owed;
  size_t partial;
  size_t held;
  char *input;
};

static char *request;
static size_t request_bytes;
static uint64_t answers;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void wrong(const char *what) {
  fprintf(stderr, "http_load: wrong answer: %s\n", what);
  exit(1);
}

static void send_owed(struct connection *k) {
  while (k->owed > 0) {
    ssize_t n = send(k->fd, request + k->partial, request_bytes - k->partial, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) die("send");
    k->partial += (size_t)n;
    if (k->partial < request_bytes) continue;
    k->partial = 0;
    k->owed--;
  }
}

/* The size of the answer at the start of `text`, 0 while it is unfinished. */
static size_t whole_answer(const char *text, size_t held) {
  const char *end = memmem(text, held, "\r\n\r\n", 4);
  if (!end) return 0;
  size_t head = (size_t)(end - text) + 4;
  if (strncmp(text, "HTTP/1.1 200 ", 13) != 0) wrong(strndup(text, head));
  const char *length = memmem(text, head, "Content-Length: ", 16);
  if (!length) wrong("no Content-Length");
  size_t size = head + strtoul(length + 16, NULL, 10);
  return size <= held ? size : 0;
}

static void receive(struct connection *k) {
  ssize_t n = recv(k->fd, k->input + k->held, INPUT_BYTES - k->held, MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN) return;
  if (n < 0) die("recv");
  if (n == 0) wrong("the server closed the connection");
  k->held += (size_t)n;
  size_t at = 0, size;
  while ((size = whole_answer(k->input + at, k->held - at)) > 0) {
    at += size;
    k->owed++;
    answers++;
  }
  memmove(k->input, k->input + at, k->held - at);
  k->held -= at;
}

static void run_for(struct connection *all, size_t count, double seconds) {
  struct pollfd polled[MAX_CONNECTIONS];
  double until = now() + seconds;
  while (now() < until) {
    for (size_t i = 0; i < count; i++) {
      polled[i].fd = all[i].fd;
      polled[i].events = (short)(POLLIN | (all[i].owed > 0 ? POLLOUT : 0));
    }
    int n = poll(polled, count, 5000);
    if (n < 0 && errno != EINTR) die("poll");
    if (n == 0) wrong("none within five seconds");
    for (size_t i = 0; i < count; i++) {
      if (polled[i].revents == 0) continue;
      if (polled[i].revents & (POLLIN | POLLHUP | POLLERR)) receive(&all[i]);
      send_owed(&all[i]);
    }
  }
}

static void read_request(const char *path) {
  static char body[65536];
  FILE *file = fopen(path, "r");
  if (!file) die(path);
  size_t length = fread(body, 1, sizeof body, file);
  fclose(file);
  int head = asprintf(&request,
                      "POST /encrypt HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", length);
  if (head < 0 || !(request = realloc(request, (size_t)head + length))) die("malloc");
  memcpy(request + head, body, length);
  request_bytes = (size_t)head + length;
}

static void open_connection(struct connection *k, const char *path, size_t in_flight) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) wrong("socket path is too long");
  strcpy(address.sun_path, path);
  k->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (k->fd < 0 || connect(k->fd, (struct sockaddr *)&address, sizeof address) < 0) die(path);
  if (!(k->input = malloc(INPUT_BYTES))) die("malloc");
  k->owed = in_flight;
  send_owed(k);
}

int main(int argc, char **argv) {
  if (argc != 8) {
    fprintf(stderr, "usage: http_load SOCKET BODY_FILE CONNECTIONS IN_FLIGHT WARM_SECONDS SECONDS SERVER_PID\n");
    return 2;
  }
  static struct connection all[MAX_CONNECTIONS];
  size_t connections = strtoul(argv[3], NULL, 10), in_flight = strtoul(argv[4], NULL, 10);
  if (connections < 1 || connections > MAX_CONNECTIONS || in_flight < 1) {
    fprintf(stderr, "http_load: argument out of range\n");
    return 2;
  }
  read_request(argv[2]);
  for (size_t i = 0; i < connections; i++) open_connection(&all[i], argv[1], in_flight);
  run_for(all, connections, strtod(argv[5], NULL));
  struct measurement m = begin_measurement(atoi(argv[7]), answers);
  run_for(all, connections, strtod(argv[6], NULL));
  print_measurement(m, answers);
  return 0;
}

/*
 * The load generator of the HTTP/JSON servers: raw keep-alive connections on a Unix socket, prebuilt pipelined requests, one
 * sent for every answer, every answer checked. Prints the same line as `load`, and has the same --rate and --latencies.
 *
 *   http_load SOCKET BODY_FILE CONNECTIONS IN_FLIGHT WARM_SECONDS SECONDS SERVER_PID [--rate N --latencies FILE]
 *
 * The plaintext of the body is the only text of its kind in it, so its length tells how long the ciphertext must be.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "loops.h"

enum { INPUT_BYTES = 1024 * 1024, MAX_CONNECTIONS = 1024, OVERHEAD = 28 };

struct connection {
  int fd;
  uint64_t asked;
  uint64_t answered; /* in the order of the requests */
  size_t owed;       /* asked and not sent */
  size_t partial;    /* bytes of the first of them that were sent */
  size_t held;
  char *input;
};

static struct connection all[MAX_CONNECTIONS];
static size_t in_flight, request_bytes, ciphertext_chars;
static char *request;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void wrong(const char *what) {
  fprintf(stderr, "http_load: wrong answer: %s\n", what);
  exit(1);
}

/* The characters of the JSON string that is the value of this member, 0 if there is none. */
static size_t member_chars(const char *json, size_t length, const char *name) {
  const char *value = memmem(json, length, name, strlen(name)), *end = json + length;
  if (!value || !(value = memchr(value + strlen(name), ':', (size_t)(end - value) - strlen(name)))) return 0;
  for (value++; value < end && isspace((unsigned char)*value);) value++;
  if (value == end || *value != '"') return 0;
  const char *close = memchr(value + 1, '"', (size_t)(end - value - 1));
  return close ? (size_t)(close - value - 1) : 0;
}

/* The size of the answer at the start of `text`, 0 while it is unfinished. */
static size_t whole_answer(const char *text, size_t held) {
  const char *end = memmem(text, held, "\r\n\r\n", 4), *length = NULL;
  if (!end) return 0;
  size_t head = (size_t)(end - text) + 4;
  if (strncmp(text, "HTTP/1.1 200 ", 13) != 0) wrong(strndup(text, head));
  for (const char *line = text; !length && (line = memmem(line, (size_t)(end - line), "\r\n", 2)); line += 2) {
    if (strncasecmp(line + 2, "Content-Length:", 15) == 0) length = line + 17;
  }
  if (!length) wrong("no Content-Length");
  size_t size = head + strtoul(length, NULL, 10);
  if (size > INPUT_BYTES) wrong("too long");
  if (size > held) return 0;
  if (member_chars(text + head, size - head, "\"ciphertext\"") != ciphertext_chars) wrong("the ciphertext's size");
  return size;
}

static void receive(struct connection *k) {
  ssize_t n = recv(k->fd, k->input + k->held, INPUT_BYTES - k->held, MSG_DONTWAIT);
  if (n < 0 && errno == EAGAIN) return;
  if (n < 0) die("recv");
  if (n == 0) wrong("the server closed the connection");
  double at = latency_file ? now() : 0;
  k->held += (size_t)n;
  size_t from = 0, size;
  while ((size = whole_answer(k->input + from, k->held - from)) > 0) {
    from += size;
    if (k->answered == k->asked) wrong("nobody asked");
    if (latency_file) keep_due(&latencies, &schedule, (size_t)(k - all), k->answered, at);
    k->answered++;
    answers++;
  }
  k->held -= from;
  if (from > 0) memmove(k->input, k->input + from, k->held);
}

/* Owes the requests that are due, as many as IN_FLIGHT lets be on the way. */
static size_t ask(struct connection *k, double at) {
  uint64_t count = take_due((size_t)(k - all), k->asked, in_flight - (k->asked - k->answered), at);
  k->asked += count;
  k->owed += count;
  return count;
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

static int serve(int timeout_ms) {
  static struct pollfd polled[MAX_CONNECTIONS];
  for (size_t i = 0; i < schedule.connections; i++) {
    polled[i].fd = all[i].fd;
    polled[i].events = (short)(POLLIN | (all[i].owed > 0 ? POLLOUT : 0));
  }
  int n = poll(polled, schedule.connections, timeout_ms);
  if (n < 0 && errno != EINTR) die("poll");
  for (size_t i = 0; n > 0 && i < schedule.connections; i++) {
    if (polled[i].revents == 0) continue;
    if (polled[i].revents & (POLLIN | POLLHUP | POLLERR)) receive(&all[i]);
    if (schedule.rate == 0) ask(&all[i], 0);
    send_owed(&all[i]);
  }
  return n;
}

static size_t ask_all(double then) {
  size_t asked = 0;
  for (size_t i = 0; i < schedule.connections; i++) {
    size_t count = ask(&all[i], then);
    if (count > 0) send_owed(&all[i]);
    asked += count;
  }
  return asked;
}

static uint64_t underway(void) {
  uint64_t count = 0;
  for (size_t i = 0; i < schedule.connections; i++) count += all[i].asked - all[i].answered;
  return count;
}

static void keep_unanswered(double at) {
  for (size_t i = 0; i < schedule.connections; i++) {
    uint64_t due = due_by(&schedule, i, at);
    for (uint64_t n = all[i].answered; n < due; n++) keep_due(&latencies, &schedule, i, n, at);
  }
}

static void read_request(const char *path) {
  static char body[65536];
  FILE *file = fopen(path, "r");
  if (!file) die(path);
  size_t length = fread(body, 1, sizeof body, file);
  fclose(file);
  size_t chars = member_chars(body, length, "\"plaintext\""), padding = 0;
  const char *text = memmem(body, length, "\"plaintext\"", 11);
  if (chars == 0 || length == sizeof body) wrong("the body has no plaintext, or is too long");
  for (text = strchr(text + 11, '"') + chars; *text == '='; text--) padding++;
  ciphertext_chars = (chars / 4 * 3 - padding + OVERHEAD + 2) / 3 * 4;
  int head = asprintf(&request,
                      "POST /encrypt HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n", length);
  if (head < 0 || !(request = realloc(request, (size_t)head + length))) die("malloc");
  memcpy(request + head, body, length);
  request_bytes = (size_t)head + length;
}

static void open_connection(struct connection *k, const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) wrong("socket path is too long");
  strcpy(address.sun_path, path);
  k->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (k->fd < 0 || connect(k->fd, (struct sockaddr *)&address, sizeof address) < 0) die(path);
  if (!(k->input = malloc(INPUT_BYTES))) die("malloc");
}

static int usage(void) {
  fprintf(stderr, "usage: http_load SOCKET BODY_FILE CONNECTIONS IN_FLIGHT WARM_SECONDS SECONDS SERVER_PID [--rate N --latencies FILE]\n");
  return 2;
}

int main(int argc, char **argv) {
  static const struct option options[] = {{"rate", required_argument, NULL, 'r'}, {"latencies", required_argument, NULL, 'l'}, {0}};
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    if (option == 'r') schedule.rate = strtod(optarg, NULL);
    else if (option == 'l') latency_file = optarg;
    else return usage();
  }
  char **argument = argv + optind;
  if (argc - optind != 7 || (latency_file && schedule.rate == 0)) return usage();
  schedule.connections = strtoul(argument[2], NULL, 10);
  in_flight = strtoul(argument[3], NULL, 10);
  if (schedule.connections < 1 || schedule.connections > MAX_CONNECTIONS || in_flight < 1 || schedule.rate < 0) {
    fprintf(stderr, "http_load: argument out of range\n");
    return 2;
  }
  read_request(argument[1]);
  for (size_t i = 0; i < schedule.connections; i++) open_connection(&all[i], argument[0]);
  run(atoi(argument[6]), strtod(argument[4], NULL), strtod(argument[5], NULL));
  return 0;
}

/*
 * The load generator of the binary protocol: CONNECTIONS connections with IN_FLIGHT requests each, one sent for every
 * answer, every answer checked. Prints one line of JSON: answers per second, and the server's CPU time for each.
 *
 *   load SOCKET KEY_ID PLAINTEXT_BYTES AAD_BYTES CONNECTIONS IN_FLIGHT WARM_SECONDS SECONDS SERVER_PID
 *
 *   --decrypt         of messages that the server is first asked to encrypt
 *   --rate N          N requests are due per second, whatever the answers do; one beyond IN_FLIGHT on its connection waits, and
 *                     that counts. The generator does not sleep: its own waking is no part of a latency
 *   --latencies FILE  each request's, from the instant that it was due: 32-bit numbers of 10 ns. Without a rate from the
 *                     instant before it was sent, with IN_FLIGHT 1 only
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "loops.h"
#include "request.h"

enum { READ_BYTES = 1024 * 1024, MAX_PLAINTEXT = 8 * 1024 * 1024, MAX_CONNECTIONS = 64, ID_WINDOW = 1 << 16, SAMPLE = 61 };

/* Prebuilt requests lie in a ring of `in_flight` equal frames, so that a run of them is one write. */
struct connection {
  int fd;
  size_t index;
  int wants_write;
  uint64_t asked; /* numbered: the next one's id, and its slot in the ring modulo `in_flight` */
  uint64_t answered;
  size_t owed;    /* numbered and not sent */
  size_t partial; /* bytes of the first of them that were sent */
  double asked_at;
  size_t held;
  uint8_t *ring;
  uint8_t *input;
  uint8_t unanswered[ID_WINDOW / 8]; /* by id modulo the window */
};

static struct requests requests;
static struct connection *all[MAX_CONNECTIONS];
static size_t in_flight, input_bytes;
static int poller;

static int is_unanswered(const struct connection *k, uint64_t id) { return k->unanswered[id % ID_WINDOW / 8] >> id % 8 & 1; }

static void mark(struct connection *k, uint64_t id) { k->unanswered[id % ID_WINDOW / 8] ^= (uint8_t)(1 << id % 8); }

static void take_answer(struct connection *k, const uint8_t *body, size_t length, double at) {
  struct cursor c = {body, body + length};
  int64_t items = take_array(&c), id = take_uint(&c);
  if (items < 3 || id < 0) wrong("not an answer");
  if ((uint64_t)id >= k->asked || !is_unanswered(k, (uint64_t)id)) wrong("an id that was not asked");
  mark(k, (uint64_t)id);
  check_answer(&requests, items, &c, (uint64_t)id % in_flight, id % SAMPLE == 0);
  k->answered++;
  if (!latency_file) return;
  if (schedule.rate > 0) keep_due(&latencies, &schedule, k->index, (uint64_t)id, at);
  else if (measuring) keep_latency(&latencies, at - k->asked_at);
}

/* Numbers the requests that are due, as many as IN_FLIGHT lets be on the way. A slot's last request was sent long ago then. */
static size_t ask(struct connection *k, double at) {
  uint64_t count = take_due(k->index, k->asked, in_flight - (k->asked - k->answered), at);
  for (uint64_t i = 0; i < count; i++, k->asked++) {
    put32(k->ring + k->asked % in_flight * requests.frame_bytes + ID_AT, (uint32_t)k->asked);
    mark(k, k->asked);
  }
  k->owed += count;
  k->asked_at = at;
  return count;
}

static void send_owed(struct connection *k) {
  size_t frame_bytes = requests.frame_bytes;
  while (k->owed > 0) {
    size_t slot = (k->asked - k->owed) % in_flight, run = k->owed < in_flight - slot ? k->owed : in_flight - slot;
    ssize_t n = send(k->fd, k->ring + slot * frame_bytes + k->partial, run * frame_bytes - k->partial, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) die("send");
    size_t sent = k->partial + (size_t)n;
    k->owed -= sent / frame_bytes;
    k->partial = sent % frame_bytes;
  }
  int stalled = k->owed > 0;
  if (stalled == k->wants_write) return;
  k->wants_write = stalled;
  struct epoll_event e = {.events = EPOLLIN | (stalled ? EPOLLOUT : 0), .data.ptr = k};
  if (epoll_ctl(poller, EPOLL_CTL_MOD, k->fd, &e) < 0) die("epoll_ctl");
}

static void receive(struct connection *k) {
  ssize_t n = read(k->fd, k->input + k->held, input_bytes - k->held < READ_BYTES ? input_bytes - k->held : READ_BYTES);
  if (n < 0 && errno == EAGAIN) return;
  if (n < 0) die("read");
  if (n == 0) wrong("the server closed the connection");
  double at = latency_file ? now() : 0;
  uint64_t before = k->answered;
  size_t from = 0;
  k->held += (size_t)n;
  while (k->held - from >= 4) {
    size_t length = big32(k->input + from);
    if (length > input_bytes - READ_BYTES) wrong("frame length");
    if (k->held - from - 4 < length) break;
    take_answer(k, k->input + from + 4, length, at);
    from += 4 + length;
  }
  k->held -= from;
  if (from > 0) memmove(k->input, k->input + from, k->held);
  answers += k->answered - before;
}

#include "connections.h"

static void keep_unanswered(double at) {
  for (size_t i = 0; i < schedule.connections; i++) {
    struct connection *k = all[i];
    uint64_t due = due_by(&schedule, i, at), id = k->asked < ID_WINDOW ? 0 : k->asked - ID_WINDOW;
    for (; id < due; id++) {
      if (id >= k->asked || is_unanswered(k, id)) keep_due(&latencies, &schedule, i, id, at);
    }
  }
}

static void open_connection(const char *path, size_t index) {
  struct connection *k = calloc(1, sizeof *k);
  if (!k || !(k->ring = calloc(in_flight, requests.frame_bytes)) || !(k->input = malloc(input_bytes))) die("malloc");
  for (size_t i = 0; i < in_flight; i++) build_frame(&requests, k->ring + i * requests.frame_bytes, i);
  watch(k, index, connect_to(path));
}

static int usage(void) {
  fprintf(stderr, "usage: load SOCKET KEY_ID PLAINTEXT_BYTES AAD_BYTES CONNECTIONS IN_FLIGHT WARM_SECONDS SECONDS SERVER_PID"
                  " [--decrypt] [--rate N] [--latencies FILE]\n");
  return 2;
}

static int parse_options(int argc, char **argv) {
  static const struct option options[] = {
      {"decrypt", no_argument, NULL, 'd'}, {"rate", required_argument, NULL, 'r'}, {"latencies", required_argument, NULL, 'l'}, {0}};
  requests.operation = ENCRYPT;
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    if (option == 'd') requests.operation = DECRYPT;
    else if (option == 'r') schedule.rate = strtod(optarg, NULL);
    else if (option == 'l') latency_file = optarg;
    else return -1;
  }
  return argc - optind == 9 ? 0 : -1;
}

int main(int argc, char **argv) {
  if (parse_options(argc, argv) < 0) return usage();
  char **argument = argv + optind;
  requests.key_id = argument[1];
  requests.plaintext_bytes = strtoul(argument[2], NULL, 10);
  requests.aad_bytes = strtoul(argument[3], NULL, 10);
  schedule.connections = strtoul(argument[4], NULL, 10);
  in_flight = strtoul(argument[5], NULL, 10);
  if (schedule.connections < 1 || schedule.connections > MAX_CONNECTIONS || in_flight < 1 || in_flight >= ID_WINDOW ||
      strlen(requests.key_id) > 255 || requests.plaintext_bytes > MAX_PLAINTEXT || schedule.rate < 0 ||
      (latency_file && schedule.rate == 0 && in_flight * schedule.connections != 1)) {
    fprintf(stderr, "load: argument out of range\n");
    return 2;
  }
  requests.messages = in_flight < MAX_MESSAGES ? in_flight : MAX_MESSAGES;
  input_bytes = READ_BYTES + requests.plaintext_bytes + OVERHEAD + ANSWER_HEAD;
  poller = epoll_create1(EPOLL_CLOEXEC);
  if (poller < 0) die("epoll_create1");
  int first = connect_to(argument[0]);
  make_requests(&requests, first);
  close(first);
  for (size_t i = 0; i < schedule.connections; i++) open_connection(argument[0], i);
  run(atoi(argument[8]), strtod(argument[6], NULL), strtod(argument[7], NULL));
  return 0;
}

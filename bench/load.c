/*
 * The load generator of the binary protocol: CONNECTIONS connections with IN_FLIGHT encrypt requests each, one sent for
 * every answer, every answer checked. Prints one line of JSON: answers per second and the server's CPU time for each.
 *
 *   load SOCKET KEY_ID PLAINTEXT_BYTES AAD_BYTES CONNECTIONS IN_FLIGHT WARM_SECONDS SECONDS SERVER_PID
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "frame.h"
#include "server_cpu.h"

enum { READ_BYTES = 1024 * 1024, OVERHEAD = 28, ID_AT = 6, MAX_CONNECTIONS = 64, ID_WINDOW = 1 << 16 };

/* Prebuilt requests lie in a ring of `in_flight` equal frames, so that a run of them is one write. */
struct connection {
  int fd;
  int wants_write;
  uint32_t next_id;
  size_t owed;    /* requests to be sent */
  size_t slot;    /* where in the ring the next one lies */
  size_t partial; /* bytes of it that were sent */
  size_t held;
  uint8_t *ring;
  uint8_t *input;
  uint8_t unanswered[ID_WINDOW / 8]; /* by id modulo the window */
};

static size_t frame_bytes, plaintext_bytes, in_flight;
static uint64_t answers;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void wrong(const char *what) {
  fprintf(stderr, "load: wrong answer: %s\n", what);
  exit(1);
}

static void check_answer(struct connection *k, const uint8_t *body, size_t length) {
  struct cursor c = {body, body + length};
  const uint8_t *bytes = NULL;
  int64_t items = take_array(&c), id = take_uint(&c), status = take_uint(&c);
  if (items < 3 || id < 0) wrong("not an answer");
  uint8_t *mark = &k->unanswered[id % ID_WINDOW / 8], bit = (uint8_t)(1 << id % 8);
  if (!(*mark & bit)) wrong("an id that was not asked");
  *mark = (uint8_t)(*mark & ~bit);
  if (status != 0) {
    int64_t text = take_blob(&c, &bytes);
    fprintf(stderr, "load: status %lld: %.*s\n", (long long)status, text < 0 ? 0 : (int)text, (const char *)bytes);
    exit(1);
  }
  if (items != 4 || take_blob(&c, &bytes) != (int64_t)(plaintext_bytes + OVERHEAD)) wrong("ciphertext size");
  if (take_blob(&c, &bytes) < 1 || c.at != c.end) wrong("key version");
}

/* Marks the ids of `count` requests from `slot` on and writes them into the frames. */
static void number_requests(struct connection *k, size_t slot, size_t count) {
  for (size_t i = 0; i < count; i++, k->next_id++) {
    put32(k->ring + (slot + i) % in_flight * frame_bytes + ID_AT, k->next_id);
    k->unanswered[k->next_id % ID_WINDOW / 8] |= (uint8_t)(1 << k->next_id % 8);
  }
}

static void send_owed(int poller, struct connection *k) {
  while (k->owed > 0) {
    size_t run = k->owed < in_flight - k->slot ? k->owed : in_flight - k->slot;
    ssize_t n = send(k->fd, k->ring + k->slot * frame_bytes + k->partial, run * frame_bytes - k->partial, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) die("send");
    size_t sent = k->partial + (size_t)n;
    k->owed -= sent / frame_bytes;
    k->slot = (k->slot + sent / frame_bytes) % in_flight;
    k->partial = sent % frame_bytes;
  }
  int stalled = k->owed > 0;
  if (stalled == k->wants_write) return;
  k->wants_write = stalled;
  struct epoll_event e = {.events = EPOLLIN | (stalled ? EPOLLOUT : 0), .data.ptr = k};
  if (epoll_ctl(poller, EPOLL_CTL_MOD, k->fd, &e) < 0) die("epoll_ctl");
}

static void receive(struct connection *k) {
  ssize_t n = read(k->fd, k->input + k->held, READ_BYTES - k->held);
  if (n < 0 && errno == EAGAIN) return;
  if (n < 0) die("read");
  if (n == 0) wrong("the server closed the connection");
  k->held += (size_t)n;
  size_t at = 0, done = 0;
  while (k->held - at >= 4) {
    size_t length = big32(k->input + at);
    if (length > READ_BYTES - 4) wrong("frame length");
    if (k->held - at - 4 < length) break;
    check_answer(k, k->input + at + 4, length);
    at += 4 + length;
    done++;
  }
  memmove(k->input, k->input + at, k->held - at);
  k->held -= at;
  number_requests(k, (k->slot + k->owed) % in_flight, done);
  k->owed += done;
  answers += done;
}

static void build_frame(uint8_t *p, const char *key_id, size_t aad_bytes) {
  size_t key_bytes = strlen(key_id);
  put32(p, (uint32_t)(frame_bytes - 4));
  p[4] = 0x95;
  p[5] = 0xce; /* the id follows, as four bytes */
  p += ID_AT + 4;
  *p++ = 2;
  *p++ = 0xd9;
  *p++ = (uint8_t)key_bytes;
  memcpy(p, key_id, key_bytes);
  p += key_bytes;
  p += put_bin_head(p, plaintext_bytes);
  if (getrandom(p, plaintext_bytes < 256 ? plaintext_bytes : 256, 0) < 0) die("getrandom");
  p += plaintext_bytes;
  p += put_bin_head(p, aad_bytes);
  memset(p, 'a', aad_bytes);
}

static void open_connection(int poller, const char *path, const char *key_id, size_t aad_bytes) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  struct connection *k = calloc(1, sizeof *k);
  if (!k || !(k->ring = calloc(in_flight, frame_bytes)) || !(k->input = malloc(READ_BYTES))) die("malloc");
  for (size_t i = 0; i < in_flight; i++) build_frame(k->ring + i * frame_bytes, key_id, aad_bytes);
  if (strlen(path) >= sizeof address.sun_path) wrong("socket path is too long");
  strcpy(address.sun_path, path);
  k->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (k->fd < 0 || connect(k->fd, (struct sockaddr *)&address, sizeof address) < 0) die(path);
  struct epoll_event e = {.events = EPOLLIN, .data.ptr = k};
  if (epoll_ctl(poller, EPOLL_CTL_ADD, k->fd, &e) < 0) die("epoll_ctl");
  number_requests(k, 0, in_flight);
  k->owed = in_flight;
  send_owed(poller, k);
}

static void run_for(int poller, double seconds) {
  struct epoll_event events[MAX_CONNECTIONS];
  double until = now() + seconds;
  while (now() < until) {
    int n = epoll_wait(poller, events, MAX_CONNECTIONS, 1000);
    if (n < 0 && errno != EINTR) die("epoll_wait");
    if (n == 0) wrong("none within a second");
    for (int i = 0; i < n; i++) {
      struct connection *k = events[i].data.ptr;
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(k);
      send_owed(poller, k);
    }
  }
}

int main(int argc, char **argv) {
  if (argc != 10) {
    fprintf(stderr, "usage: load SOCKET KEY_ID PLAINTEXT_BYTES AAD_BYTES CONNECTIONS IN_FLIGHT WARM_SECONDS SECONDS SERVER_PID\n");
    return 2;
  }
  size_t aad_bytes = strtoul(argv[4], NULL, 10), connections = strtoul(argv[5], NULL, 10);
  uint8_t head[5];
  plaintext_bytes = strtoul(argv[3], NULL, 10);
  in_flight = strtoul(argv[6], NULL, 10);
  frame_bytes = ID_AT + 4 + 1 + 2 + strlen(argv[2]) + put_bin_head(head, plaintext_bytes) + plaintext_bytes;
  frame_bytes += put_bin_head(head, aad_bytes) + aad_bytes;
  if (connections < 1 || connections > MAX_CONNECTIONS || in_flight < 1 || in_flight >= ID_WINDOW || strlen(argv[2]) > 255 ||
      plaintext_bytes > READ_BYTES / 2) {
    fprintf(stderr, "load: argument out of range\n");
    return 2;
  }
  int poller = epoll_create1(EPOLL_CLOEXEC);
  if (poller < 0) die("epoll_create1");
  for (size_t i = 0; i < connections; i++) open_connection(poller, argv[1], argv[2], aad_bytes);
  run_for(poller, strtod(argv[7], NULL));
  struct measurement m = begin_measurement(atoi(argv[9]), answers);
  run_for(poller, strtod(argv[8], NULL));
  print_measurement(m, answers);
  return 0;
}

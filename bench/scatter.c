/*
 * The load generator whose every request is for another key: a random one of those in KEYS_FILE, which bench/scale/sealed-file.js
 * writes. Decrypts, and every plaintext is compared as a whole. Prints the same line as `load`, with the answers that were
 * refusals as `failures`; what the first one said goes to the error stream. Ends early at SIGTERM, with the figures until then.
 *
 *   scatter SOCKET KEYS_FILE CONNECTIONS IN_FLIGHT WARM_SECONDS SECONDS SERVER_PID [--first N] [--hot N] [--rate N]
 *
 *   --first N   only the first N keys
 *   --hot N     of three requests the first encrypts under one of the first N keys, the second decrypts what came of it
 *   --rate N    as of `load`
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "frame.h"
#include "loops.h"

enum {
  ENCRYPT = 2,
  DECRYPT = 3,
  ID_BYTES = 34,
  PLAINTEXT_BYTES = 64,
  SEALED_BYTES = PLAINTEXT_BYTES + 28,
  ENTRY_BYTES = ID_BYTES + SEALED_BYTES,
  AAD_BYTES = 32,
  MAX_FRAME = 256,
  MAX_IN_FLIGHT = 4096,
  INPUT_BYTES = 1024 * 1024,
  MAX_CONNECTIONS = 64
};

/* One request at a time lies in it. Its id on the wire is its number times IN_FLIGHT and the place of the slot. */
struct slot {
  uint32_t id;
  uint32_t key;
  uint8_t operation; /* 0 while it is free */
  uint8_t has_fresh; /* a ciphertext that came, which is decrypted next */
  uint8_t fresh[SEALED_BYTES];
};

struct connection {
  int fd;
  size_t index;
  int wants_write;
  uint64_t asked, answered;
  struct slot *slots;
  uint32_t *unused;
  size_t unused_count;
  size_t sent, filled; /* of the output */
  size_t held;
  uint8_t *output;
  uint8_t *input;
};

static const uint8_t *entries;
static uint32_t keys, hot;
static struct connection *all[MAX_CONNECTIONS];
static size_t in_flight;
static int poller;
static uint64_t drawn;

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void wrong(const char *what) {
  fprintf(stderr, "scatter: wrong answer: %s\n", what);
  exit(1);
}

static void stop(int signal) {
  (void)signal;
  stopped = 1;
}

/* xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators". */
static uint32_t draw(uint32_t below) {
  drawn ^= drawn >> 12;
  drawn ^= drawn << 25;
  drawn ^= drawn >> 27;
  return (uint32_t)(((drawn * 0x2545f4914f6cdd1dULL >> 32) * below) >> 32);
}

static void plaintext_of(uint32_t n, uint8_t *into) {
  for (uint32_t i = 0; i < PLAINTEXT_BYTES / 4; i++) {
    uint32_t word = n ^ (i + 1) * 0x9e3779b9U;
    for (int byte = 0; byte < 4; byte++) *into++ = (uint8_t)(word >> 8 * byte);
  }
}

static size_t put_frame(uint8_t *frame, const struct slot *s) {
  const uint8_t *entry = entries + (size_t)s->key * ENTRY_BYTES;
  uint8_t *p = frame + 4;
  *p++ = 0x95;
  *p++ = 0xce;
  put32(p, s->id);
  p += 4;
  *p++ = s->operation;
  *p++ = 0xd9;
  *p++ = ID_BYTES;
  memcpy(p, entry, ID_BYTES);
  p += ID_BYTES;
  size_t bytes = s->operation == ENCRYPT ? PLAINTEXT_BYTES : SEALED_BYTES;
  p += put_bin_head(p, bytes);
  if (s->operation == ENCRYPT) plaintext_of(s->key, p);
  else memcpy(p, s->has_fresh ? s->fresh : entry + ID_BYTES, SEALED_BYTES);
  p += bytes;
  p += put_bin_head(p, AAD_BYTES);
  memset(p, 'a', AAD_BYTES);
  p += AAD_BYTES;
  put32(frame, (uint32_t)(p - frame - 4));
  return (size_t)(p - frame);
}

/* What the slot asks next: what it just had encrypted, and else by its turn. */
static void choose(struct slot *s, uint32_t number) {
  if (s->has_fresh) {
    s->operation = DECRYPT;
    return;
  }
  s->operation = hot > 0 && number % 3 == 0 ? ENCRYPT : DECRYPT;
  s->key = draw(s->operation == ENCRYPT ? hot : keys);
}

static size_t ask(struct connection *k, double at) {
  uint64_t count = take_due(k->index, k->asked, in_flight - (k->asked - k->answered), at);
  if (count > 0 && k->sent > 0) {
    memmove(k->output, k->output + k->sent, k->filled - k->sent);
    k->filled -= k->sent;
    k->sent = 0;
  }
  for (uint64_t i = 0; i < count; i++, k->asked++) {
    uint32_t place = k->unused[--k->unused_count];
    struct slot *s = &k->slots[place];
    uint32_t number = s->id / (uint32_t)in_flight + 1;
    /* Ids wrap to the start of the slot's own ones. */
    if (number > UINT32_MAX / in_flight - 1) number = 1;
    s->id = number * (uint32_t)in_flight + place;
    choose(s, number);
    k->filled += put_frame(k->output + k->filled, s);
  }
  return count;
}

static void refused(int64_t status, struct cursor *c) {
  const uint8_t *text = NULL;
  int64_t length = take_blob(c, &text);
  if (failures++ == 0) fprintf(stderr, "scatter: status %lld: %.*s\n", (long long)status, length < 0 ? 0 : (int)length, text);
}

static void take_encrypted(struct slot *s, int64_t items, struct cursor *c) {
  const uint8_t *payload, *version;
  if (take_blob(c, &payload) != SEALED_BYTES) wrong("its size");
  if (items != 4 || take_blob(c, &version) < 1 || c->at != c->end) wrong("its key version");
  memcpy(s->fresh, payload, SEALED_BYTES);
  s->has_fresh = 1;
}

static void take_decrypted(const struct slot *s, int64_t items, struct cursor *c) {
  const uint8_t *payload;
  uint8_t expected[PLAINTEXT_BYTES];
  if (take_blob(c, &payload) != PLAINTEXT_BYTES || items != 3 || c->at != c->end) wrong("its size");
  plaintext_of(s->key, expected);
  if (memcmp(payload, expected, PLAINTEXT_BYTES) != 0) wrong("another plaintext");
}

static void take_answer(struct connection *k, const uint8_t *body, size_t length) {
  struct cursor c = {body, body + length};
  int64_t items = take_array(&c), id = take_uint(&c);
  if (items < 3 || id < 0) wrong("not an answer");
  uint32_t place = (uint32_t)((uint64_t)id % in_flight);
  struct slot *s = &k->slots[place];
  if (s->operation == 0 || s->id != id) wrong("an id that was not asked");
  int64_t status = take_uint(&c);
  int was_fresh = s->has_fresh;
  if (status != 0) refused(status, &c);
  else if (s->operation == ENCRYPT) take_encrypted(s, items, &c);
  else take_decrypted(s, items, &c);
  if (was_fresh) s->has_fresh = 0;
  s->operation = 0;
  k->unused[k->unused_count++] = place;
  k->answered++;
}

static void send_owed(struct connection *k) {
  while (k->sent < k->filled) {
    ssize_t n = send(k->fd, k->output + k->sent, k->filled - k->sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) die("send");
    k->sent += (size_t)n;
  }
  int stalled = k->sent < k->filled;
  if (!stalled) k->sent = k->filled = 0;
  if (stalled == k->wants_write) return;
  k->wants_write = stalled;
  struct epoll_event e = {.events = EPOLLIN | (stalled ? EPOLLOUT : 0), .data.ptr = k};
  if (epoll_ctl(poller, EPOLL_CTL_MOD, k->fd, &e) < 0) die("epoll_ctl");
}

static void receive(struct connection *k) {
  ssize_t n = read(k->fd, k->input + k->held, INPUT_BYTES - k->held);
  if (n < 0 && errno == EAGAIN) return;
  if (n < 0) die("read");
  if (n == 0) wrong("the server closed the connection");
  uint64_t before = k->answered;
  size_t from = 0;
  k->held += (size_t)n;
  while (k->held - from >= 4) {
    size_t length = big32(k->input + from);
    if (length > INPUT_BYTES - 4) wrong("frame length");
    if (k->held - from - 4 < length) break;
    take_answer(k, k->input + from + 4, length);
    from += 4 + length;
  }
  k->held -= from;
  if (from > 0) memmove(k->input, k->input + from, k->held);
  answers += k->answered - before;
}

#include "connections.h"

/* It keeps no latencies. */
static void keep_unanswered(double at) { (void)at; }

static void open_connection(const char *path, size_t index) {
  struct connection *k = calloc(1, sizeof *k);
  if (!k || !(k->slots = calloc(in_flight, sizeof *k->slots)) || !(k->unused = calloc(in_flight, sizeof *k->unused)) ||
      !(k->input = malloc(INPUT_BYTES)) || !(k->output = malloc(in_flight * MAX_FRAME)))
    die("malloc");
  for (uint32_t place = 0; place < in_flight; place++) k->unused[k->unused_count++] = place;
  watch(k, index, connect_to(path));
}

static void map_keys(const char *path, uint32_t first) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  struct stat found;
  if (fd < 0 || fstat(fd, &found) < 0) die(path);
  keys = (uint32_t)(found.st_size / ENTRY_BYTES);
  if (keys == 0) wrong("no keys in the file");
  entries = mmap(NULL, (size_t)found.st_size, PROT_READ, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (entries == MAP_FAILED) die(path);
  close(fd);
  if (first > 0 && first < keys) keys = first;
  if (hot > keys) hot = keys;
}

static int usage(void) {
  fprintf(stderr, "usage: scatter SOCKET KEYS_FILE CONNECTIONS IN_FLIGHT WARM_SECONDS SECONDS SERVER_PID"
                  " [--first N] [--hot N] [--rate N]\n");
  return 2;
}

int main(int argc, char **argv) {
  static const struct option options[] = {
      {"first", required_argument, NULL, 'f'}, {"hot", required_argument, NULL, 'h'}, {"rate", required_argument, NULL, 'r'}, {0}};
  uint32_t first = 0;
  for (int option; (option = getopt_long(argc, argv, "", options, NULL)) != -1;) {
    if (option == 'f') first = (uint32_t)strtoul(optarg, NULL, 10);
    else if (option == 'h') hot = (uint32_t)strtoul(optarg, NULL, 10);
    else if (option == 'r') schedule.rate = strtod(optarg, NULL);
    else return usage();
  }
  if (argc - optind != 7) return usage();
  char **argument = argv + optind;
  schedule.connections = strtoul(argument[2], NULL, 10);
  in_flight = strtoul(argument[3], NULL, 10);
  if (schedule.connections < 1 || schedule.connections > MAX_CONNECTIONS || in_flight < 1 || in_flight > MAX_IN_FLIGHT ||
      schedule.rate < 0)
    return usage();
  if (getrandom(&drawn, sizeof drawn, 0) < 0) die("getrandom");
  drawn |= 1;
  map_keys(argument[1], first);
  poller = epoll_create1(EPOLL_CLOEXEC);
  if (poller < 0) die("epoll_create1");
  for (size_t i = 0; i < schedule.connections; i++) open_connection(argument[0], i);
  signal(SIGTERM, stop);
  run(atoi(argument[6]), strtod(argument[4], NULL), strtod(argument[5], NULL));
  return 0;
}

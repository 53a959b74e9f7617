/*
 * The requests of the load generator and what their answers must be. Messages differ, so that an answer that belongs to
 * another request is noticed when it is opened.
 */
#ifndef BENCH_REQUEST_H
#define BENCH_REQUEST_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "frame.h"

enum { ENCRYPT = 2, DECRYPT = 3, OVERHEAD = 28, ID_AT = 6, MAX_MESSAGES = 64, ANSWER_HEAD = 32, COMPARED = 32 };

struct requests {
  int operation;
  const char *key_id;
  size_t aad_bytes, plaintext_bytes;
  size_t messages;     /* different ones */
  uint8_t *plaintexts; /* one after the other */
  uint8_t *data;       /* what is sent of each: itself or its ciphertext */
  size_t data_bytes;
  size_t frame_bytes;
};

static void die(const char *what) {
  perror(what);
  exit(1);
}

static void wrong(const char *what) {
  fprintf(stderr, "load: wrong answer: %s\n", what);
  exit(1);
}

static size_t frame_size(const struct requests *r) {
  uint8_t head[5];
  size_t bytes = ID_AT + 4 + 1 + 2 + strlen(r->key_id);
  bytes += put_bin_head(head, r->data_bytes) + r->data_bytes;
  return bytes + put_bin_head(head, r->aad_bytes) + r->aad_bytes;
}

/* A request with the n-th message. Its id is put in when it is sent. */
static void build_frame(const struct requests *r, uint8_t *p, size_t n) {
  size_t key_bytes = strlen(r->key_id);
  put32(p, (uint32_t)(r->frame_bytes - 4));
  p[4] = 0x95;
  p[5] = 0xce; /* the id follows, as four bytes */
  p += ID_AT + 4;
  *p++ = (uint8_t)r->operation;
  *p++ = 0xd9;
  *p++ = (uint8_t)key_bytes;
  memcpy(p, r->key_id, key_bytes);
  p += key_bytes;
  p += put_bin_head(p, r->data_bytes);
  memcpy(p, r->data + n % r->messages * r->data_bytes, r->data_bytes);
  p += r->data_bytes;
  p += put_bin_head(p, r->aad_bytes);
  memset(p, 'a', r->aad_bytes);
}

/* What the answer carries, which lies in its body. It is `bytes` long, or the run ends here. */
static const uint8_t *take_payload(struct cursor *c, int64_t status, size_t bytes) {
  const uint8_t *payload = NULL;
  int64_t length = take_blob(c, &payload);
  if (status != 0) {
    fprintf(stderr, "load: status %lld: %.*s\n", (long long)status, length < 0 ? 0 : (int)length, (const char *)payload);
    exit(1);
  }
  if (length != (int64_t)bytes) wrong("its size");
  return payload;
}

/*
 * Ends the run unless this is the answer to a request with the n-th message; `c` stands behind the id. Of a plaintext that
 * came back all bytes are compared, or only the first ones: comparing all of each would slow the generator down.
 */
static const uint8_t *check_answer(const struct requests *r, int64_t items, struct cursor *c, size_t n, int all_bytes) {
  const uint8_t *version;
  int64_t status = take_uint(c);
  if (r->operation == ENCRYPT) {
    const uint8_t *ciphertext = take_payload(c, status, r->plaintext_bytes + OVERHEAD);
    if (items != 4 || take_blob(c, &version) < 1 || c->at != c->end) wrong("its key version");
    return ciphertext;
  }
  const uint8_t *plaintext = take_payload(c, status, r->plaintext_bytes);
  size_t compared = all_bytes || r->plaintext_bytes < COMPARED ? r->plaintext_bytes : COMPARED;
  if (items != 3 || c->at != c->end) wrong("something after the plaintext");
  if (memcmp(plaintext, r->plaintexts + n % r->messages * r->plaintext_bytes, compared) != 0) wrong("another plaintext");
  return plaintext;
}

static void read_whole(int fd, uint8_t *p, size_t bytes) {
  while (bytes > 0) {
    ssize_t n = read(fd, p, bytes);
    if (n < 0) die("read");
    if (n == 0) wrong("the server closed the connection");
    p += n;
    bytes -= (size_t)n;
  }
}

/* Has the server encrypt the n-th message, on a connection that waits. */
static void fetch_ciphertext(const struct requests *encrypts, int fd, size_t n, uint8_t *frame, uint8_t *ciphertext) {
  build_frame(encrypts, frame, n);
  put32(frame + ID_AT, (uint32_t)n + 1);
  for (size_t sent = 0; sent < encrypts->frame_bytes;) {
    ssize_t part = send(fd, frame + sent, encrypts->frame_bytes - sent, MSG_NOSIGNAL);
    if (part < 0) die("send");
    sent += (size_t)part;
  }
  read_whole(fd, frame, 4);
  size_t length = big32(frame);
  if (length > encrypts->plaintext_bytes + OVERHEAD + ANSWER_HEAD) wrong("frame length");
  read_whole(fd, frame, length);
  struct cursor c = {frame, frame + length};
  int64_t items = take_array(&c);
  if (take_uint(&c) != (int64_t)n + 1) wrong("an id that was not asked");
  memcpy(ciphertext, check_answer(encrypts, items, &c, n, 1), encrypts->plaintext_bytes + OVERHEAD);
}

/* Draws the messages; `fd` is a blocking connection, which has them encrypted if they are to be decrypted. */
static void make_requests(struct requests *r, int fd) {
  size_t bytes = r->messages * r->plaintext_bytes;
  if (!(r->plaintexts = malloc(bytes + 1))) die("malloc");
  for (size_t at = 0; at < bytes; at += 256) {
    if (getrandom(r->plaintexts + at, bytes - at < 256 ? bytes - at : 256, 0) < 0) die("getrandom");
  }
  r->data = r->plaintexts;
  r->data_bytes = r->plaintext_bytes;
  r->frame_bytes = frame_size(r);
  if (r->operation == ENCRYPT) return;
  struct requests encrypts = *r;
  encrypts.operation = ENCRYPT;
  r->data_bytes += OVERHEAD;
  r->frame_bytes = frame_size(r);
  uint8_t *frame = malloc(r->frame_bytes + OVERHEAD + ANSWER_HEAD);
  if (!frame || !(r->data = malloc(r->messages * r->data_bytes))) die("malloc");
  for (size_t n = 0; n < r->messages; n++) fetch_ciphertext(&encrypts, fd, n, frame, r->data + n * r->data_bytes);
  free(frame);
}

#endif

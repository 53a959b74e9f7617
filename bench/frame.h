/* The little of MessagePack that the echo server and the load generator read: heads of the four kinds a frame holds. */
#ifndef BENCH_FRAME_H
#define BENCH_FRAME_H

#include <stddef.h>
#include <stdint.h>

struct cursor {
  const uint8_t *at;
  const uint8_t *end;
};

static inline uint32_t big32(const uint8_t *p) {
  return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void put32(uint8_t *p, uint32_t v) {
  p[0] = (uint8_t)(v >> 24);
  p[1] = (uint8_t)(v >> 16);
  p[2] = (uint8_t)(v >> 8);
  p[3] = (uint8_t)v;
}

/* The next `bytes` bytes as a big-endian number, or -1 at the end of the frame. */
static inline int64_t take_number(struct cursor *c, size_t bytes) {
  if ((size_t)(c->end - c->at) < bytes) return -1;
  int64_t value = 0;
  for (size_t i = 0; i < bytes; i++) value = value << 8 | *c->at++;
  return value;
}

static inline int64_t take_uint(struct cursor *c) {
  int64_t tag = take_number(c, 1);
  if (tag < 0 || tag <= 0x7f) return tag;
  if (tag < 0xcc || tag > 0xce) return -1;
  return take_number(c, (size_t)1 << (tag - 0xcc));
}

static inline int64_t take_array(struct cursor *c) {
  int64_t tag = take_number(c, 1);
  return tag >= 0x90 && tag <= 0x9f ? tag - 0x90 : -1;
}

/* The length of a str or bin whose bytes are then skipped; `*bytes` is where they begin. -1 if it is neither. */
static inline int64_t take_blob(struct cursor *c, const uint8_t **bytes) {
  int64_t tag = take_number(c, 1);
  int64_t length = -1;
  if (tag >= 0xa0 && tag <= 0xbf) length = tag - 0xa0;
  else if (tag >= 0xc4 && tag <= 0xc6) length = take_number(c, (size_t)1 << (tag - 0xc4));
  else if (tag >= 0xd9 && tag <= 0xdb) length = take_number(c, (size_t)1 << (tag - 0xd9));
  if (length < 0 || length > c->end - c->at) return -1;
  *bytes = c->at;
  c->at += length;
  return length;
}

/* Writes the head of a bin and returns its size. */
static inline size_t put_bin_head(uint8_t *p, size_t length) {
  if (length < 256) {
    p[0] = 0xc4;
    p[1] = (uint8_t)length;
    return 2;
  }
  if (length < 65536) {
    p[0] = 0xc5;
    p[1] = (uint8_t)(length >> 8);
    p[2] = (uint8_t)length;
    return 3;
  }
  p[0] = 0xc6;
  put32(p + 1, (uint32_t)length);
  return 5;
}

#endif

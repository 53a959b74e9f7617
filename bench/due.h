/*
 * When requests are due, and how long after that their answers came. With a rate, requests are due at equal distances, each
 * on the next connection, whatever the answers do: one that could not be sent in time has waited from the instant that it
 * was due, so a server that stalls cannot hide it by keeping the generator from asking.
 */
#ifndef BENCH_DUE_H
#define BENCH_DUE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

/* In units of 10 ns, 32 bits hold 42 seconds. */
enum { LATENCY_UNIT_NS = 10, MAX_LATENCIES = 1 << 24 };

struct schedule {
  double rate; /* requests per second over all connections, 0: one is due whenever one is answered */
  size_t connections;
  double start;       /* when the first request of the first connection is due */
  double from, until; /* latencies are kept of the requests that are due in between; none is due after it */
};

struct latencies {
  uint32_t *units;
  size_t count;
};

/* When the n-th request of a connection is due, the first being number 0. */
static inline double due_at(const struct schedule *s, size_t connection, uint64_t n) {
  return s->start + ((double)n * (double)s->connections + (double)connection) / s->rate;
}

/* How many requests of a connection are due by then. */
static inline uint64_t due_by(const struct schedule *s, size_t connection, double then) {
  double last = s->until > 0 && then > s->until ? s->until : then;
  double slots = (last - s->start) * s->rate - (double)connection;
  return slots < 0 ? 0 : (uint64_t)(slots / (double)s->connections) + 1;
}

static inline void keep_latency(struct latencies *l, double seconds) {
  if (!l->units && !(l->units = malloc(MAX_LATENCIES * sizeof *l->units))) {
    perror("malloc");
    exit(1);
  }
  if (l->count == MAX_LATENCIES) {
    fprintf(stderr, "more latencies than fit\n");
    exit(1);
  }
  double units = seconds * (1e9 / LATENCY_UNIT_NS);
  l->units[l->count++] = units < 1 ? 1 : units < UINT32_MAX ? (uint32_t)units : UINT32_MAX;
}

/* Keeps the latency of the n-th request, if it was due within the time that counts. */
static inline void keep_due(struct latencies *l, const struct schedule *s, size_t connection, uint64_t n, double answered) {
  double due = due_at(s, connection, n);
  if (due >= s->from && due < s->until) keep_latency(l, answered - due);
}

/* As numbers of 32 bits in the machine's own order. */
static inline void write_latencies(const struct latencies *l, const char *path) {
  FILE *file = fopen(path, "wb");
  if (!file || fwrite(l->units, sizeof *l->units, l->count, file) != l->count || fclose(file) != 0) {
    perror(path);
    exit(1);
  }
}

#endif

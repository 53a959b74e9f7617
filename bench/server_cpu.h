/* What both load generators measure and print: answers per second, the server's CPU time for each, and how busy both were. */
#ifndef BENCH_SERVER_CPU_H
#define BENCH_SERVER_CPU_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* Answers that were refusals, where a generator goes on after one. */
static uint64_t failures;

struct measurement {
  clockid_t server;
  uint64_t answers;
  double at;
  double server_cpu;
  double own_cpu;
};

static inline double seconds_of(clockid_t clock) {
  struct timespec t;
  if (clock_gettime(clock, &t) != 0) {
    perror("clock_gettime");
    exit(1);
  }
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline double now(void) { return seconds_of(CLOCK_MONOTONIC); }

/* User and system time of all threads of a process, exact to the nanosecond: /proc has clock ticks only. */
static inline clockid_t cpu_clock_of(int pid) {
  clockid_t clock;
  if (pid < 1 || clock_getcpuclockid(pid, &clock) != 0) {
    fprintf(stderr, "cannot read the CPU time of process %d\n", pid);
    exit(1);
  }
  return clock;
}

static inline struct measurement begin_measurement(clockid_t server, uint64_t answers) {
  struct measurement m = {server, answers, now(), seconds_of(server), seconds_of(CLOCK_PROCESS_CPUTIME_ID)};
  return m;
}

/* What has come to pass since the beginning, in its place. */
static inline void end_measurement(struct measurement *m, uint64_t answers) {
  m->answers = answers - m->answers;
  m->at = now() - m->at;
  m->server_cpu = seconds_of(m->server) - m->server_cpu;
  m->own_cpu = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - m->own_cpu;
}

/* `busy`: seconds in which the generator had something to do. `late`: how much later than due it saw a request, in the mean. */
static inline void print_measurement(const struct measurement *m, double busy, double late) {
  double count = (double)m->answers, seconds = m->at;
  printf("{\"answers\":%.0f,\"seconds\":%.6f,\"perSecond\":%.1f,\"serverCpuNs\":%.1f,", count, seconds, count / seconds,
         count > 0 ? m->server_cpu / count * 1e9 : 0);
  printf("\"serverBusy\":%.3f,\"generatorBusy\":%.3f,\"generatorLateUs\":%.3f,\"failures\":%.0f}\n", m->server_cpu / seconds,
         busy / seconds, late * 1e6, (double)failures);
}

#endif

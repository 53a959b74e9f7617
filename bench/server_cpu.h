/* What both load generators measure and print: answers per second and the server's CPU time for each answer. */
#ifndef BENCH_SERVER_CPU_H
#define BENCH_SERVER_CPU_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct measurement {
  int server;
  uint64_t answers;
  double at;
  double cpu;
  double own_cpu;
};

static inline double seconds_of(clockid_t clock) {
  struct timespec t;
  clock_gettime(clock, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static inline double now(void) { return seconds_of(CLOCK_MONOTONIC); }

/* User and system time of all threads of a process. In steps of a clock tick, so blocks are a second and more. */
static inline double cpu_of(int pid) {
  char path[64], text[1024];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  FILE *file = fopen(path, "r");
  size_t n = file ? fread(text, 1, sizeof text - 1, file) : 0;
  if (file) fclose(file);
  text[n] = 0;
  /* The name in parentheses may hold spaces: count fields after its end. */
  const char *rest = strrchr(text, ')');
  unsigned long user, system;
  if (!rest || sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system) != 2) {
    fprintf(stderr, "cannot read the CPU time of process %d\n", pid);
    exit(1);
  }
  return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

static inline struct measurement begin_measurement(int server, uint64_t answers) {
  struct measurement m = {server, answers, now(), cpu_of(server), seconds_of(CLOCK_PROCESS_CPUTIME_ID)};
  return m;
}

static inline void print_measurement(struct measurement m, uint64_t answers) {
  double seconds = now() - m.at, cpu = cpu_of(m.server) - m.cpu, own = seconds_of(CLOCK_PROCESS_CPUTIME_ID) - m.own_cpu;
  double count = (double)(answers - m.answers);
  printf("{\"answers\":%.0f,\"seconds\":%.6f,\"perSecond\":%.1f,\"serverCpuNs\":%.1f,\"serverBusy\":%.3f,\"generatorBusy\":%.3f}\n",
         count, seconds, count / seconds, count > 0 ? cpu / count * 1e9 : 0, cpu / seconds, own / seconds);
}

#endif

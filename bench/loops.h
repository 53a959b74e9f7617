/*
 * How both load generators drive a server: with a number of requests in flight, one sent for every answer, or with requests
 * that are due at a rate. The file that includes this has the connections.
 */
#ifndef BENCH_LOOPS_H
#define BENCH_LOOPS_H

#include <signal.h>
#include <stdint.h>

#include "due.h"
#include "server_cpu.h"

static const double PATIENCE = 5; /* seconds without any answer */

static struct schedule schedule;
static struct latencies latencies;
static const char *latency_file;
static uint64_t answers;
static int measuring;
static volatile sig_atomic_t stopped; /* by whoever started this: it ends with the figures until then */
static double idle; /* seconds in which there was nothing to do, of a loop that does not sleep */

static double late; /* seconds from when requests were due until the generator saw it, all together, and of how many */
static uint64_t seen;

static void wrong(const char *what);
/* Sends the requests that are due then, and returns how many. */
static size_t ask_all(double then);
/* Waits so long at most, reads and writes, and returns how many connections there was something to do on. */
static int serve(int timeout_ms);
/* Requests that are not answered. */
static uint64_t underway(void);
/* Keeps the latencies of those that were due and are not answered: they have waited until now at least. */
static void keep_unanswered(double at);

/* How many requests a connection shall send that has sent `asked`, and may send `room` more. */
static uint64_t take_due(size_t connection, uint64_t asked, uint64_t room, double then) {
  if (schedule.rate == 0) return room;
  uint64_t due = due_by(&schedule, connection, then) - asked;
  if (due > room) return room;
  if (due == 0) return 0;
  late += (double)due * (then - (due_at(&schedule, connection, asked) + due_at(&schedule, connection, asked + due - 1)) / 2);
  seen += due;
  return due;
}

static void run_for(double seconds) {
  for (double until = now() + seconds; now() < until && !stopped;) {
    if (serve((int)(PATIENCE * 1000)) == 0) wrong("none in five seconds");
  }
}

/* Does not sleep, so that the generator's own waking is no part of a latency. With `drain` no longer than something is under way. */
static void run_until(double until, int drain) {
  double last = now(), heard = last;
  while (last < until && !(drain && underway() == 0) && (drain || !stopped)) {
    size_t asked = ask_all(last);
    int served = serve(0);
    double at = now();
    if (asked == 0 && served <= 0) idle += at - last;
    if (served > 0 || underway() == 0) heard = at;
    if (at - heard > PATIENCE) wrong("none in five seconds");
    last = at;
  }
}

static void run_closed(clockid_t server, double warm, double seconds) {
  ask_all(now());
  run_for(warm);
  struct measurement m = begin_measurement(server, answers);
  measuring = 1;
  run_for(seconds);
  end_measurement(&m, answers);
  print_measurement(&m, m.own_cpu, 0);
}

/* What is still under way in the end has a second to be answered. */
static void run_open(clockid_t server, double warm, double seconds) {
  schedule.start = now();
  schedule.from = schedule.start + warm;
  schedule.until = schedule.from + seconds;
  run_until(schedule.from, 0);
  struct measurement m = begin_measurement(server, answers);
  idle = late = 0;
  seen = 0;
  run_until(schedule.until, 0);
  end_measurement(&m, answers);
  if (m.answers == 0) wrong("none");
  print_measurement(&m, m.at - idle, seen > 0 ? late / (double)seen : 0);
  run_until(now() + 1, 1);
  if (latency_file) keep_unanswered(now());
}

static void run(int server_pid, double warm, double seconds) {
  clockid_t server = cpu_clock_of(server_pid);
  if (schedule.rate > 0) run_open(server, warm, seconds);
  else run_closed(server, warm, seconds);
  if (latency_file) write_latencies(&latencies, latency_file);
}

#endif

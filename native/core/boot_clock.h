#pragma once

#include <time.h>

#include <cstdint>

namespace kms {

// Nanoseconds that no clock setting moves. Time asleep counts where the system can tell: a machine that wakes up knows nothing
// of what others did meanwhile.
inline int64_t sinceBoot() {
  timespec time{};
#if defined(CLOCK_BOOTTIME)
  clock_gettime(CLOCK_BOOTTIME, &time);
#else
  clock_gettime(CLOCK_MONOTONIC, &time);
#endif
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

}  // namespace kms

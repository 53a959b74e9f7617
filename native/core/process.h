#pragma once

#include <cstdint>

#include "core/status.h"

namespace kms {

// Before any key is read: no core file (RLIMIT_CORE 0), no ptrace and no /proc/PID/mem for the same uid (Linux,
// PR_SET_DUMPABLE 0), and SIGUSR1 ignored, on which Node would open its inspector. Concerns the whole process.
Failure hardenProcess();

// RLIMIT_MEMLOCK in bytes, UINT64_MAX if there is no limit.
uint64_t memlockLimit();

}  // namespace kms

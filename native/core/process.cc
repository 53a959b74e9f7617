#include "core/process.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include "core/os_error.h"

namespace kms {

Failure hardenProcess() {
  const rlimit none{0, 0};
  if (setrlimit(RLIMIT_CORE, &none) != 0) return Failure(Status::Internal, "RLIMIT_CORE cannot be set: " + osError(errno));
#if defined(__linux__)
  if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0) {
    return Failure(Status::Internal, "PR_SET_DUMPABLE cannot be set: " + osError(errno));
  }
#endif
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  if (sigaction(SIGUSR1, &ignore, nullptr) != 0) {
    return Failure(Status::Internal, "SIGUSR1 cannot be ignored: " + osError(errno));
  }
  return Failure();
}

uint64_t memlockLimit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 0;
  return limit.rlim_cur == RLIM_INFINITY ? UINT64_MAX : static_cast<uint64_t>(limit.rlim_cur);
}

}  // namespace kms

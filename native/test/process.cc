#include "core/process.h"

#include <signal.h>
#include <sys/resource.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

#include "test/check.h"

TEST("a hardened process makes no core, cannot be dumped and ignores SIGUSR1") {
  const int answer = check::inChild([] {
    if (!kms::hardenProcess().ok()) return 1;
    rlimit core{1, 1};
    if (getrlimit(RLIMIT_CORE, &core) != 0 || core.rlim_cur != 0 || core.rlim_max != 0) return 2;
#if defined(__linux__)
    if (prctl(PR_GET_DUMPABLE) != 0) return 3;
#endif
    return raise(SIGUSR1) == 0 ? 0 : 4;
  });
  CHECK_EQUAL(answer, 0);
}

TEST("a process that was not hardened dies of SIGUSR1") {
  const int answer = check::inChild([] {
    signal(SIGUSR1, SIG_DFL);
    raise(SIGUSR1);
    return 0;
  });
  CHECK_EQUAL(answer, 128 + SIGUSR1);
}

TEST("the lock limit is the one that was set, and unlimited is the largest number") {
  const int answer = check::inChild([] {
    rlimit limit{};
    if (getrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 1;
    if (limit.rlim_cur == RLIM_INFINITY && kms::memlockLimit() != UINT64_MAX) return 2;
    limit.rlim_cur = 65536;
    if (setrlimit(RLIMIT_MEMLOCK, &limit) != 0) return 3;
    return kms::memlockLimit() == 65536 ? 0 : 4;
  });
  CHECK_EQUAL(answer, 0);
}

MAIN

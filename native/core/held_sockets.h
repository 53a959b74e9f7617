#pragma once

#include <cstdint>

#include "core/endpoint.h"

namespace kms {

// What the kernel says of a TCP socket that is ESTABLISHED and that a process holds. A socket in any other state is not
// found, and nor is one without an inode: TIME_WAIT and FIN_WAIT2 entries belong to nobody any more, those closed by
// their process and those not yet accepted have no owner, and for all of them the tables say uid 0, which is a lie: the
// field was never filled in. Whoever believed it would take everybody who hangs up quickly for root.
struct HeldSocket {
  // In the user namespace of the caller.
  uint32_t uid = UINT32_MAX;
  uint32_t inode = 0;
};

enum class Finding {
  Found,
  // No such socket, or more than one.
  NotFound,
  // The kernel does not answer this question here.
  NotTold,
};

// The socket of this network namespace whose own address is `local` and that is connected to `remote`.
using FindSocket = Finding (*)(const Endpoint& local, const Endpoint& remote, HeldSocket* found);

// By NETLINK_SOCK_DIAG: one lookup in the kernel's hash table.
Finding findByNetlink(const Endpoint& local, const Endpoint& remote, HeldSocket* found);
// By reading /proc/net/tcp and tcp6, for where netlink is refused: takes as long as there are many sockets.
Finding findInProc(const Endpoint& local, const Endpoint& remote, HeldSocket* found);

}  // namespace kms

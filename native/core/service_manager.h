#pragma once

#include <string>

#include "core/status.h"

namespace kms {

// Tells the service manager that started us what we are doing (sd_notify(3)): `message` as one datagram to the Unix socket
// `address`, a path or, on Linux, an abstract name behind an `@`. Waits at most `waitMs` for a manager that does not read.
Failure notifyManager(const std::string& address, const std::string& message, unsigned waitMs);

}  // namespace kms

#pragma once

#include <cerrno>
#include <string>
#include <system_error>

#include "core/status.h"

namespace kms {

// The system's text for an errno; unlike strerror it may be called on any thread.
inline std::string osError(int error) { return std::generic_category().message(error); }

// "<name> cannot be <verb>: <why>", as a question of permission or as a wrong argument.
inline Failure osFailure(const std::string& name, const char* verb, int error) {
  const Status status = error == EACCES || error == EPERM ? Status::PermissionDenied : Status::InvalidArgument;
  return Failure(status, name + " cannot be " + verb + ": " + osError(error));
}

}  // namespace kms

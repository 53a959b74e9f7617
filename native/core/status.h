#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace kms {

// The native copy of the table in src/errors.ts: same names, same numbers, same messages. A test compares them.
#define KMS_STATUS_TABLE(X)                                                     \
  X(KeyNotFound, 1, "KEY_NOT_FOUND", "no such key")                             \
  X(AuthenticationFailed, 2, "AUTHENTICATION_FAILED", "decryption failed")      \
  X(InvalidArgument, 3, "INVALID_ARGUMENT", "invalid argument")                 \
  X(Unauthenticated, 4, "UNAUTHENTICATED", "not authenticated")                 \
  X(PermissionDenied, 5, "PERMISSION_DENIED", "permission denied")              \
  X(KeyDisabled, 6, "KEY_DISABLED", "the key is disabled")                      \
  X(KeyDestroyed, 7, "KEY_DESTROYED", "the key is destroyed")                   \
  X(KeyExhausted, 8, "KEY_EXHAUSTED", "the key has reached its use limit")      \
  X(Sealed, 9, "SEALED", "the key service is sealed")                           \
  X(Busy, 10, "BUSY", "too much at once")                                       \
  X(TooLarge, 11, "TOO_LARGE", "the message is too large")                      \
  X(AuditUnavailable, 12, "AUDIT_UNAVAILABLE", "the audit log cannot be written") \
  X(StoreUnavailable, 13, "STORE_UNAVAILABLE", "the key store is unavailable")  \
  X(DeadlineExceeded, 14, "DEADLINE_EXCEEDED", "the deadline passed")           \
  X(Conflict, 15, "CONFLICT", "conflicting state")                              \
  X(Unsupported, 16, "UNSUPPORTED", "not supported")                            \
  X(Internal, 17, "INTERNAL", "internal error")                                 \
  X(NotFound, 18, "NOT_FOUND", "not found")

enum class Status : int32_t {
  Ok = 0,
#define KMS_STATUS_ENTRY(name, number, code, message) name = number,
  KMS_STATUS_TABLE(KMS_STATUS_ENTRY)
#undef KMS_STATUS_ENTRY
};

// "KEY_NOT_FOUND" and its like; "INTERNAL" for a number outside the table.
const char* statusCode(Status status);
const char* statusMessage(Status status);

// Why a cold operation did not succeed. `detail` is for people: it never holds key bytes or the content of a file.
struct Failure {
  Status status = Status::Ok;
  std::string detail;

  Failure() = default;
  explicit Failure(Status why, std::string text = std::string()) : status(why), detail(std::move(text)) {}
  bool ok() const { return status == Status::Ok; }
};

// Results of the hot calls are a length, or one of these, negative: a status, or a reason to come back later.
using HotResult = int64_t;
constexpr HotResult kNotCached = -100;
constexpr HotResult kNeedsUses = -101;
constexpr HotResult kNotCovered = -102;
constexpr HotResult kNeedsAudit = -103;
constexpr HotResult hotFailure(Status status) { return -static_cast<HotResult>(status); }

// Not removed by the optimiser.
void wipe(void* data, size_t length);
// Clears the vector registers, then overwrites the part of the stack that calls from here have used: what a cipher or a hash may
// have spilled there.
void wipeStack();

}  // namespace kms

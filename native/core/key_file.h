#pragma once

#include <cstddef>
#include <cstdint>

#include "core/arena.h"
#include "core/status.h"

namespace kms {

constexpr size_t kMaxKeyFileBytes = 4096;

// Reads a key: 64 hex digits or the base64 of 32 bytes, each with white space allowed after it, or 32 raw bytes.
// `scratch` and `key` are the caller's locked memory: the file's bytes go nowhere else. `scratch` is wiped before the
// return in every case, `key` unless the answer is Ok. A refusal is INVALID_ARGUMENT, or PERMISSION_DENIED for an owner
// or mode, with a detail that names the path and the command that mends a mode.
Failure readKeyFile(const char* path, bool mayBeGroupReadable, uint8_t* scratch, size_t scratchLength,
                    uint8_t key[kKeyBytes]);
// The same from an inherited descriptor, to its end; whoever passed it answers for where it leads. A regular file's offset
// stays where it was.
Failure readKeyDescriptor(int fd, uint8_t* scratch, size_t scratchLength, uint8_t key[kKeyBytes]);
// The decoder of both: `text` is what was read, `name` what to call it in a refusal.
Failure decodeKey(const uint8_t* text, size_t length, const char* name, uint8_t key[kKeyBytes]);

// Writes a new random key as 64 hex digits and a newline to a new file, mode 0600, durable when it returns Ok. An
// existing file is a CONFLICT and stays as it was: overwriting a key loses everything under it.
Failure writeKeyFile(const char* path);

}  // namespace kms

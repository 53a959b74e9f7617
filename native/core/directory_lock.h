#pragma once

#include "core/status.h"

namespace kms {

// Takes `<directory>/lock` for this process; `*lock` is the descriptor that holds it until unlock or the end of
// the process. CONFLICT if it is held, by this very process through an earlier call too: flock(2) belongs to the open
// file, which fcntl locks do not.
Failure lockDirectory(const char* directory, int* lock);
// The same for one file of a name of its own, made if it is not there.
Failure lockFile(const char* path, int* lock);
// Lets go. The file stays: removing it would let two owners lock two files of one name.
void unlock(int lock);

}  // namespace kms

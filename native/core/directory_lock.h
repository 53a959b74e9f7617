#pragma once

#include "core/status.h"

namespace kms {

// Takes `<directory>/lock` for this process; `*lock` is the descriptor that holds it until unlockDirectory or the end of
// the process. CONFLICT if it is held, by this very process through an earlier call too: flock(2) belongs to the open
// file, which fcntl locks do not.
Failure lockDirectory(const char* directory, int* lock);
// Lets go. The file stays: removing it would let two owners lock two files of one name.
void unlockDirectory(int lock);

}  // namespace kms

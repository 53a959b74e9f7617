#pragma once

#include "core/cipher.h"

namespace kms {

// How far an append came.
struct Appended {
  // Bytes that the file has taken.
  size_t written = 0;
  // The errno that ended it: of write(2) if bytes are left, of fsync(2) if none is; 0 if neither failed.
  int error = 0;
  // Whether `path` still names the file.
  bool isInPlace = false;
};

// Writes all of `lines` to the end of the file, has the disk take them, and looks whether `path` is still that file: last, so that
// lines which went to a file that somebody has removed or renamed are not taken for kept. Blocks.
Appended appendToLog(int fd, Bytes lines, const char* path);

}  // namespace kms

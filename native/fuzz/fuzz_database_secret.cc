#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "core/database_secret.h"

// A secret that is read is written as the same text; one that is refused leaves no key behind.
extern "C" __attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint8_t work[kms::kMaxSecretJsonBytes], groupId[kms::kGroupIdBytes], key[kms::kKeyBytes], text[kms::kMaxSecretBytes];
  if (!kms::readDatabaseSecret(kms::Bytes{data, size}, work, groupId, key)) {
    for (const uint8_t byte : key) {
      if (byte != 0) abort();
    }
    return 0;
  }
  if (kms::writeDatabaseSecret(groupId, key, work, text) != size || memcmp(text, data, size) != 0) abort();
  return 0;
}

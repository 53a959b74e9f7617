#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "core/encoding.h"
#include "core/key_file.h"

// A key that is accepted comes back from its own hex; one that is refused leaves nothing behind.
extern "C" __attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  uint8_t key[kms::kKeyBytes], again[kms::kKeyBytes], text[2 * kms::kKeyBytes];
  const kms::Failure failure = kms::decodeKey(data, size, "input", key);
  if (!failure.ok()) {
    for (const uint8_t byte : key) {
      if (byte != 0) abort();
    }
    return 0;
  }
  kms::encodeHex(key, sizeof key, text);
  if (!kms::decodeKey(text, sizeof text, "input", again).ok() || memcmp(key, again, sizeof key) != 0) abort();
  return 0;
}

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "core/packed_record.h"

// Whatever is accepted follows the rules that others rely on, and is the one packed form of what was read.
extern "C" __attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kms::Record record;
  const kms::Failure failure = kms::readPackedRecord(data, size, &record);
  kms::PackedRecord packed;
  kms::PackedFault fault;
  if (kms::unpack(kms::Bytes{data, size}, &packed, &fault) != failure.ok()) abort();
  if (!failure.ok()) {
    if (!record.keyId.empty() || failure.detail.empty() || fault.what == nullptr) abort();
    return 0;
  }
  const size_t wrapped = record.state == "destroyed" ? 0 : 60;
  if (!kms::isKeyId(record.keyId) || record.wrapped.size() != wrapped || record.mac.size() != 32) abort();
  if (!record.threadId.empty() && !kms::isThreadId(record.threadId)) abort();
  uint8_t canonical[kms::kMaxCanonicalBytes], aad[kms::kMaxDekAadBytes];
  const kms::Bytes written = kms::canonicalOf(packed, canonical);
  if (written.length + 32 != size || memcmp(written.data, data, written.length) != 0) abort();
  if (kms::dekAadOf(packed, aad).length > sizeof aad) abort();
  return 0;
}

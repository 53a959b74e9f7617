#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "core/document_rules.h"
#include "core/documents.h"

// Whatever is accepted follows the rules that others rely on: ids may become paths, blobs have their lengths.
extern "C" __attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kms::Record record;
  const kms::Failure failure = kms::readRecord(data, size, &record);
  if (!failure.ok()) {
    if (!record.keyId.empty() || failure.detail.empty()) abort();
    return 0;
  }
  const size_t wrapped = record.state == "destroyed" ? 0 : 60;
  if (!kms::isKeyId(record.keyId) || record.wrapped.size() != wrapped || record.mac.size() != 32) abort();
  if (!record.threadId.empty() && !kms::isThreadId(record.threadId)) abort();
  if (record.format != 1 || record.version == 0 || record.kekVersion == 0 || record.createdAt.size() != 24) abort();
  return 0;
}

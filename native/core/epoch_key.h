#pragma once

#include "core/key_table.h"

namespace kms {

constexpr size_t kSealedEpochKeyBytes = kKeyBytes + kWrappedBytes;

// Seals an epoch key to an auditor's X25519 public key, docs/FORMATS.md: e(32) ‖ wrapped(60). InvalidArgument for a public key of low
// order, with which the shared secret would be known to everybody, and for a handle that is no live epoch key.
Status sealEpochKey(Handle epoch, Bytes auditor, Bytes storeId, Bytes boot, uint8_t out[kSealedEpochKeyBytes]);

}  // namespace kms

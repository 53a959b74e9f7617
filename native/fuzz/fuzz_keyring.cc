#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "core/documents.h"

extern "C" __attribute__((visibility("default"))) int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  kms::Keyring keyring;
  const kms::Failure failure = kms::readKeyring(data, size, &keyring);
  if (!failure.ok()) {
    if (!keyring.slots.empty() || failure.detail.empty()) abort();
    return 0;
  }
  if ((keyring.format != 1 && keyring.format != 2) || keyring.generation == 0) abort();
  if (keyring.sha256.size() != 32 || keyring.mac.size() != 32) abort();
  if (keyring.slots.empty() || keyring.slots.size() > 64 || keyring.keks.empty() || keyring.keks.size() > 1024) abort();
  for (const kms::KeyringSlot& slot : keyring.slots) {
    if (slot.salt.size() != 32 || slot.root.size() != 60 || slot.slotKey.size() != 60) abort();
  }
  for (const kms::KeyringKek& kek : keyring.keks) {
    if (kek.wrapped.size() != 60 || kek.kekVersion == 0) abort();
  }
  const bool isFirst = keyring.format == 1;
  if (keyring.recordMac.size() != (isFirst ? 0u : 60u) || keyring.auditKeys.size() > (isFirst ? 0u : 2u)) abort();
  for (const kms::AuditKey& key : keyring.auditKeys) {
    if (key.publicKey.size() != 32 || key.wrapped.size() != 60) abort();
  }
  return 0;
}

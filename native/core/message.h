#pragma once

#include "core/audit_actors.h"
#include "core/key_table.h"

namespace kms {

constexpr size_t kMaxPlaintextBytes = 15u * 1024 * 1024;
constexpr size_t kMaxAadBytes = 64u * 1024;
constexpr uint32_t kMaxBatchItems = 65536;

// One message under a key whose context is entered: nonce(12) ‖ ciphertext ‖ tag(16), docs/FORMATS.md. Bytes written to
// `out`, or a negative status. `encrypt` writes plaintext + 28 bytes, `decrypt` ciphertext − 28; nothing of a message
// whose tag does not match stays in `out`.
HotResult encrypt(ThreadState& thread, Context& context, Bytes plaintext, Bytes aad, uint8_t* out);
HotResult decrypt(Context& context, Bytes ciphertext, Bytes aad, uint8_t* out);

// The same by handle: enters, does it, leaves, and is audited as done by `actor`.
HotResult encryptWith(ThreadState& thread, Handle dek, Bytes plaintext, Bytes aad, uint8_t* out, uint32_t actor = AuditActors::kOwn);
HotResult decryptWith(ThreadState& thread, Handle dek, Bytes ciphertext, Bytes aad, uint8_t* out, uint32_t actor = AuditActors::kOwn);

}  // namespace kms

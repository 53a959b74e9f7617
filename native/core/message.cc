#include "core/message.h"

#include "core/registers.h"

namespace kms {

HotResult encrypt(ThreadState& thread, Context& context, Bytes plaintext, Bytes aad, uint8_t* out) {
  if (plaintext.length > kMaxPlaintextBytes || aad.length > kMaxAadBytes) return hotFailure(Status::TooLarge);
  // No nonce, no encryption: a failed draw must not be papered over with anything less random.
  if (!thread.nonces().next(out)) return hotFailure(Status::Internal);
  if (!context.cipher.seal(out, aad, plaintext, out + kNonceBytes)) return hotFailure(Status::Internal);
  return static_cast<HotResult>(plaintext.length + kOverheadBytes);
}

HotResult decrypt(Context& context, Bytes ciphertext, Bytes aad, uint8_t* out) {
  if (ciphertext.length > kMaxPlaintextBytes + kOverheadBytes || aad.length > kMaxAadBytes) return hotFailure(Status::TooLarge);
  if (ciphertext.length < kOverheadBytes) return hotFailure(Status::AuthenticationFailed);
  const Bytes sealed{ciphertext.data + kNonceBytes, ciphertext.length - kNonceBytes};
  if (!context.cipher.open(ciphertext.data, aad, sealed, out)) return hotFailure(Status::AuthenticationFailed);
  return static_cast<HotResult>(ciphertext.length - kOverheadBytes);
}

namespace {

// A handle that is stale is a key that is missing.
HotResult refused(HotResult entered) {
  if (entered == kNotCached) KeyTable::instance().missed();
  return entered;
}

}  // namespace

HotResult encryptWith(ThreadState& thread, Handle dek, Bytes plaintext, Bytes aad, uint8_t* out) {
  const RegisterGuard registers;
  Context* context = nullptr;
  const HotResult entered = KeyTable::instance().enter(thread, dek, 1, &context);
  if (entered != 0) return refused(entered);
  const HotResult result = encrypt(thread, *context, plaintext, aad, out);
  KeyTable::instance().leave(context);
  return result;
}

HotResult decryptWith(ThreadState& thread, Handle dek, Bytes ciphertext, Bytes aad, uint8_t* out) {
  const RegisterGuard registers;
  Context* context = nullptr;
  const HotResult entered = KeyTable::instance().enter(thread, dek, 0, &context);
  if (entered != 0) return refused(entered);
  const HotResult result = decrypt(*context, ciphertext, aad, out);
  KeyTable::instance().leave(context);
  return result;
}

}  // namespace kms

#include "core/message.h"

#include "core/data_audit.h"
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

Status statusOf(HotResult result) { return result >= 0 ? Status::Ok : static_cast<Status>(-result); }

// What keeps a key from being used is told too. A handle that is stale is a key that is missing: what becomes of it is not known here.
HotResult refused(ThreadState& thread, Handle dek, HotResult entered, uint32_t actor, DataEvent event) {
  KeyTable& table = KeyTable::instance();
  if (entered == kNotCached) table.missed();
  if (entered == kNotCached || entered == kNeedsUses) return entered;
  SpaceId space = 0;
  std::string id;
  if (!table.describe(dek, &space, &id)) return entered;
  DataUse use(thread, space, actor, 1);
  if (use.refusal() != 0) return use.refusal();
  const HotResult result = use.isStale() ? hotFailure(Status::StoreUnavailable) : entered;
  event.outcome = statusOf(result);
  use.tell(AuditedKey{Handle{}, id}, event);
  return result;
}

template <typename Work>
HotResult useOnce(ThreadState& thread, Handle dek, uint32_t uses, uint32_t actor, DataEvent event, Work&& work) {
  const RegisterGuard registers;
  KeyTable& table = KeyTable::instance();
  Context* context = nullptr;
  const HotResult entered = table.enter(thread, dek, uses, &context);
  if (entered != 0) return refused(thread, dek, entered, actor, event);
  DataUse use(thread, table.spaceOf(*context), actor, 1);
  HotResult result = use.refusal();
  if (result == 0) {
    if (use.isStale()) table.giveBack(*context, uses);
    result = use.isStale() ? hotFailure(Status::StoreUnavailable) : work(*context);
    event.outcome = statusOf(result);
    use.tell(table.keyOf(*context), event);
  } else {
    table.giveBack(*context, uses);
  }
  table.leave(context);
  return result;
}

DataEvent eventOf(bool encrypts, Bytes data) {
  DataEvent event;
  event.encrypts = encrypts;
  event.items = 1;
  event.bytes = data.length;
  return event;
}

}  // namespace

HotResult encryptWith(ThreadState& thread, Handle dek, Bytes plaintext, Bytes aad, uint8_t* out, uint32_t actor) {
  return useOnce(thread, dek, 1, actor, eventOf(true, plaintext),
                 [&](Context& context) { return encrypt(thread, context, plaintext, aad, out); });
}

HotResult decryptWith(ThreadState& thread, Handle dek, Bytes ciphertext, Bytes aad, uint8_t* out, uint32_t actor) {
  return useOnce(thread, dek, 0, actor, eventOf(false, ciphertext),
                 [&](Context& context) { return decrypt(context, ciphertext, aad, out); });
}

}  // namespace kms

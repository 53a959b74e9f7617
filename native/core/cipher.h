#pragma once

#include <cstddef>
#include <cstdint>

#include "core/arena.h"
#include "core/entropy.h"
#include "core/gcm_provider.h"
#include "core/status.h"

namespace kms {

constexpr size_t kTagBytes = 16;
constexpr size_t kOverheadBytes = kNonceBytes + kTagBytes;
constexpr size_t kWrappedBytes = kKeyBytes + kOverheadBytes;

struct Bytes {
  const uint8_t* data = nullptr;
  size_t length = 0;
};

// AES-256-GCM (NIST SP 800-38D) in an OpenSSL context. The context holds the expanded key on the ordinary heap while it
// is keyed (measured), so how long it stays keyed is the caller's decision; `forget` wipes it.
class Cipher {
 public:
  Cipher() = default;
  ~Cipher();
  Cipher(const Cipher&) = delete;
  Cipher& operator=(const Cipher&) = delete;

  // Fetches the algorithm, once per process; false when OpenSSL has none.
  static bool available();

  bool setKey(const uint8_t key[kKeyBytes]);
  void forget();
  // out: plaintext.length + kTagBytes bytes, ciphertext and tag.
  bool seal(const uint8_t nonce[kNonceBytes], Bytes aad, Bytes plaintext, uint8_t* out);
  // in: ciphertext and tag; out: in.length − kTagBytes bytes, wiped again when the tag does not match.
  bool open(const uint8_t nonce[kNonceBytes], Bytes aad, Bytes in, uint8_t* out);

 private:
  bool update(uint8_t* out, Bytes in);
  bool finish();

  const GcmProvider& gcm_ = GcmProvider::instance();
  void* context_ = nullptr;
};

// One wrap or unwrap of a 32-byte key: the context is keyed, used and wiped.
// wrapped = nonce(12) ‖ ct(32) ‖ tag(16).
Status wrapKey(const uint8_t under[kKeyBytes], const uint8_t key[kKeyBytes], Bytes aad, uint8_t wrapped[kWrappedBytes]);
Status unwrapKey(const uint8_t under[kKeyBytes], Bytes wrapped, Bytes aad, uint8_t key[kKeyBytes]);
// The same in a context that may serve another key before it is wiped, and without wiping the stack: once for all that a caller
// does. The first twelve bytes of `wrapped` are the nonce, which the caller has drawn.
Status wrapIn(Cipher& cipher, const uint8_t under[kKeyBytes], const uint8_t key[kKeyBytes], Bytes aad, uint8_t wrapped[kWrappedBytes]);
Status unwrapIn(Cipher& cipher, const uint8_t under[kKeyBytes], const uint8_t wrapped[kWrappedBytes], Bytes aad, uint8_t key[kKeyBytes]);

// Published AES-256-GCM test cases (McGrew and Viega, "The Galois/Counter Mode of Operation", cases 14 and 16), and
// what the service relies on beyond them: that wrong tags, nonces and AAD are refused, that each nonce and key counts however often
// a context is used, that messages may be sealed and opened in place. The provider need not be the one that this was written for.
Failure selfTest();

}  // namespace kms

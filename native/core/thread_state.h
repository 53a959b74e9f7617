#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "core/cipher.h"
#include "core/document_rules.h"
#include "core/entropy.h"
#include "core/tally.h"

namespace kms {

class AuditSeats;

// A key's place in the table and which of the place's lives it is: a handle to a wiped key never names its successor.
struct Handle {
  uint32_t slot = 0;
  uint32_t generation = 0;

  bool none() const { return generation == 0; }
  bool operator==(const Handle& other) const { return slot == other.slot && generation == other.generation; }
  // Handles cross the boundary as one number below 2^53: 24 bits of slot, 29 of generation.
  static constexpr uint32_t kSlotBits = 24;
  static constexpr uint32_t kGenerationMask = (1u << 29) - 1;
  double number() const { return static_cast<double>(uint64_t{generation} << kSlotBits | slot); }
  static Handle of(double number);
};

// A handle that may be read without holding what it stands in.
class SharedHandle {
 public:
  operator Handle() const {
    const uint64_t bits = bits_.load();
    return Handle{static_cast<uint32_t>(bits), static_cast<uint32_t>(bits >> 32)};
  }
  SharedHandle& operator=(Handle key) {
    bits_.store(uint64_t{key.generation} << 32 | key.slot);
    return *this;
  }
  bool operator==(const Handle& other) const { return Handle(*this) == other; }
  bool none() const { return Handle(*this).none(); }

 private:
  std::atomic<uint64_t> bits_{0};
};

// Who holds a context. Its thread takes it for one operation, a wiper (destroy, evict, idle sweep) for one wipe.
enum class Hold : uint32_t { Free, Owner, Wiper };

// A keyed cipher context kept for a hot key. Everything but `hold` is touched only by who holds it.
struct Context {
  std::atomic<Hold> hold{Hold::Free};
  // False: the key is wiped when the operation ends.
  bool kept = true;
  // Set only under the table's lock; cleared after the cipher was wiped, so that a wiper that reads another key has nothing
  // to wait for.
  SharedHandle key;
  // Encryptions this thread may do without asking the key's shared counter.
  uint32_t credit = 0;
  uint32_t lastUse = 0;
  Cipher cipher;
};

// A remembered answer of the id map. It may be stale: the generation in the handle tells.
struct RememberedId {
  uint32_t space = 0;
  Handle key;
  uint8_t length = 0;
  char id[kKeyIdBytes] = {};

  bool names(uint32_t theSpace, std::string_view theId) const { return space == theSpace && std::string_view(id, length) == theId; }
};

// What a thread has of its own: kept contexts, remembered ids, nonces and its tally. Direct-mapped by slot, so that a wiper finds the
// one context that a key can have here without a search.
class ThreadState {
 public:
  // `keptContexts` is rounded down to a power of two; 0 keeps none.
  explicit ThreadState(uint32_t keptContexts);
  ~ThreadState();
  ThreadState(const ThreadState&) = delete;
  ThreadState& operator=(const ThreadState&) = delete;

  // The context a slot's key has on this thread; null when none are kept.
  Context* contextOf(uint32_t slot) { return contextCount_ == 0 ? nullptr : &contexts_[slot & (contextCount_ - 1)]; }
  Context* contexts() { return contexts_.get(); }
  uint32_t contextCount() const { return contextCount_; }
  uint32_t keyedContexts() const;
  // For keys whose context is not kept: held only for the one operation, wiped after it.
  Context& passing() { return passing_; }

  RememberedId& remembered(uint64_t hash);
  // The answer that was last asked for. Requests of one key come in a row: comparing is cheaper than hashing.
  RememberedId& lastRemembered() { return *last_; }
  NonceBatch& nonces() { return nonces_; }
  AuditSeats& audits() { return *audits_; }
  Tally& tally() { return tally_; }
  const Tally& tally() const { return tally_; }

  // Where this thread's event loop looks for keys that want more uses, and in the second cell for audit events that want to be
  // written; null on pool threads.
  void setDoorbell(int32_t* doorbell) { doorbell_ = doorbell; }
  void ring() {
    if (doorbell_ != nullptr) doorbell_[0] = 1;
  }
  void ringForAudit() {
    (doorbell_ != nullptr ? doorbell_[1] : rungForAudit_) = 1;
  }
  // Whether it rang on a thread without a bell: who waits for the thread's work takes the call.
  bool takeAuditRing() {
    const bool rung = rungForAudit_ != 0;
    rungForAudit_ = 0;
    return rung;
  }

 private:
  static constexpr size_t kRememberedIds = 4096;

  uint32_t contextCount_ = 0;
  std::unique_ptr<Context[]> contexts_;
  std::vector<RememberedId> remembered_;
  RememberedId nobody_;
  RememberedId* last_ = &nobody_;
  Context passing_;
  NonceBatch nonces_;
  Tally tally_;
  std::unique_ptr<AuditSeats> audits_;
  int32_t* doorbell_ = nullptr;
  int32_t rungForAudit_ = 0;
};

// The calling thread's own state, made at its first use and wiped when the thread ends.
ThreadState& thisThread();
// The same for a thread of a pool, which keeps no context: its messages are large, so that keying costs nothing beside them.
ThreadState& thisPoolThread();

}  // namespace kms

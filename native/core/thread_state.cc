#include "core/thread_state.h"

#include "core/data_audit.h"
#include "core/key_table.h"

namespace kms {

namespace {

uint32_t powerOfTwoUpTo(uint32_t value) {
  uint32_t power = 1;
  while (power <= value / 2) power *= 2;
  return value == 0 ? 0 : power;
}

}  // namespace

Handle Handle::of(double number) {
  if (!(number >= 0 && number < 9007199254740992.0)) return Handle{};
  const auto bits = static_cast<uint64_t>(number);
  return Handle{static_cast<uint32_t>(bits & ((1u << kSlotBits) - 1)), static_cast<uint32_t>(bits >> kSlotBits)};
}

ThreadState::ThreadState(uint32_t keptContexts) : contextCount_(powerOfTwoUpTo(keptContexts)) {
  if (contextCount_ != 0) contexts_ = std::make_unique<Context[]>(contextCount_);
  passing_.kept = false;
  audits_ = std::make_unique<AuditSeats>();
  KeyTable::instance().addThread(this);
}

ThreadState::~ThreadState() { KeyTable::instance().removeThread(this); }

RememberedId& ThreadState::remembered(uint64_t hash) {
  if (remembered_.empty()) remembered_.resize(kRememberedIds);
  last_ = &remembered_[hash % kRememberedIds];
  return *last_;
}

uint32_t ThreadState::keyedContexts() const {
  uint32_t keyed = 0;
  for (uint32_t i = 0; i < contextCount_; ++i) keyed += contexts_[i].key.none() ? 0 : 1;
  return keyed;
}

ThreadState& thisThread() {
  static thread_local ThreadState state(KeyTable::instance().keptContexts());
  return state;
}

ThreadState& thisPoolThread() {
  static thread_local ThreadState state(0);
  return state;
}

}  // namespace kms

#pragma once

#include <cstdint>
#include <deque>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <unordered_map>

namespace kms {

// Who uses keys, by number: the hot path passes four bytes instead of a name. A number stays its name's for the life of the process.
class AuditActors {
 public:
  static constexpr uint32_t kMost = 1u << 20;
  // Of one kind, the part of a name before its colon: whoever can be given names without end, as by an issuer of tokens, leaves
  // room for users, certificates and tokens.
  static constexpr uint32_t mostOfKind(uint32_t most) { return most / 4 * 3; }
  // No name's: an operation that has to be audited is refused to it.
  static constexpr uint32_t kNone = 0;
  // The actor that the space was given for what is done without naming one.
  static constexpr uint32_t kOwn = 0xfffffffe;
  // For what is no use of a key, although it goes the same way.
  static constexpr uint32_t kUnaudited = 0xffffffff;

  explicit AuditActors(uint32_t most = kMost) : most_(most) {}
  static AuditActors& instance();

  // kNone for what is no actor, and when there are no more numbers.
  uint32_t numberOf(std::string_view name);
  // Empty for a number that is no name's.
  std::string_view nameOf(uint32_t number);

 private:
  const uint32_t most_;
  std::shared_mutex mutex_;
  // A deque: what is in it never moves.
  std::deque<std::string> names_;
  std::unordered_map<std::string_view, uint32_t> numbers_;
  std::unordered_map<std::string_view, uint32_t> kinds_;
};

}  // namespace kms

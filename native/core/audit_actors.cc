#include "core/audit_actors.h"

#include <mutex>

namespace kms {

namespace {

constexpr size_t kMaxActorBytes = 64;

// ACTOR_PATTERN of src/limits.ts: none of these characters has a meaning in JSON.
bool isActor(std::string_view name) {
  constexpr std::string_view kAllowed = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._:@/-";
  return !name.empty() && name.size() <= kMaxActorBytes && name.find_first_not_of(kAllowed) == std::string_view::npos;
}

std::string_view kindOf(std::string_view name) {
  const size_t colon = name.find(':');
  return colon == std::string_view::npos ? std::string_view() : name.substr(0, colon);
}

}  // namespace

// Never destroyed: threads that end after main may still name theirs.
AuditActors& AuditActors::instance() {
  static AuditActors* const actors = new AuditActors();
  return *actors;
}

uint32_t AuditActors::numberOf(std::string_view name) {
  if (!isActor(name)) return kNone;
  {
    const std::shared_lock<std::shared_mutex> hold(mutex_);
    const auto known = numbers_.find(name);
    if (known != numbers_.end()) return known->second;
  }
  const std::unique_lock<std::shared_mutex> hold(mutex_);
  const auto known = numbers_.find(name);
  if (known != numbers_.end()) return known->second;
  const auto kind = kinds_.find(kindOf(name));
  if (names_.size() >= most_ || (kind != kinds_.end() && kind->second >= mostOfKind(most_))) return kNone;
  const std::string& kept = names_.emplace_back(name);
  ++kinds_[kindOf(kept)];
  const auto number = static_cast<uint32_t>(names_.size());
  numbers_.emplace(kept, number);
  return number;
}

std::string_view AuditActors::nameOf(uint32_t number) {
  const std::shared_lock<std::shared_mutex> hold(mutex_);
  return number == kNone || number > names_.size() ? std::string_view() : std::string_view(names_[number - 1]);
}

}  // namespace kms

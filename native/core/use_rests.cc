#include "core/use_rests.h"

#include <algorithm>

namespace kms {

namespace {

constexpr size_t kFirstPlaces = 64;

bool parseHalf(const char* hex, uint64_t* out) {
  uint64_t value = 0;
  for (int i = 0; i < 16; ++i) {
    const char c = hex[i];
    uint64_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<uint64_t>(c - 'a' + 10);
    } else {
      return false;
    }
    value = value << 4 | digit;
  }
  *out = value;
  return true;
}

bool parseId(std::string_view id, uint64_t* high, uint64_t* low) {
  return id.size() == 34 && id[0] == 'k' && id[1] == '_' && parseHalf(id.data() + 2, high) && parseHalf(id.data() + 18, low);
}

std::string formatId(uint64_t high, uint64_t low) {
  static const char digits[] = "0123456789abcdef";
  std::string id = "k_";
  for (const uint64_t half : {high, low}) {
    for (int shift = 60; shift >= 0; shift -= 4) id.push_back(digits[half >> shift & 15]);
  }
  return id;
}

}  // namespace

size_t UseRests::home(uint64_t high, uint64_t low) const {
  return static_cast<size_t>(((high ^ low) * 0x9e3779b97f4a7c15u) >> 32) & (places_.size() - 1);
}

UseRests::Place* UseRests::find(uint64_t high, uint64_t low) {
  if (places_.empty()) return nullptr;
  for (size_t at = home(high, low); places_[at].uses != 0; at = (at + 1) & (places_.size() - 1)) {
    if (places_[at].high == high && places_[at].low == low) return &places_[at];
  }
  return nullptr;
}

void UseRests::insert(const Place& place) {
  size_t at = home(place.high, place.low);
  while (places_[at].uses != 0) at = (at + 1) & (places_.size() - 1);
  places_[at] = place;
}

void UseRests::grow() {
  std::vector<Place> old(std::max(kFirstPlaces, places_.size() * 2));
  old.swap(places_);
  for (const Place& place : old) {
    if (place.uses != 0) insert(place);
  }
}

// Closes the gap behind the removed place (Knuth, TAOCP 6.4, algorithm R), so that no probe ends too early.
void UseRests::remove(Place* place) {
  const size_t mask = places_.size() - 1;
  size_t gap = static_cast<size_t>(place - places_.data());
  for (size_t at = (gap + 1) & mask; places_[at].uses != 0; at = (at + 1) & mask) {
    const size_t wanted = home(places_[at].high, places_[at].low);
    if (((at - wanted) & mask) >= ((at - gap) & mask)) {
      places_[gap] = places_[at];
      gap = at;
    }
  }
  places_[gap] = Place{};
  --count_;
}

void UseRests::add(std::string_view id, uint64_t uses) {
  if (uses == 0) return;
  uint64_t high = 0, low = 0;
  if (!parseId(id, &high, &low)) {
    others_[std::string(id)] += uses;
    return;
  }
  if (Place* const known = find(high, low)) {
    // What does not fit is forgotten: it counts as used, which errs on the safe side.
    known->uses = static_cast<uint32_t>(std::min<uint64_t>(UINT32_MAX, known->uses + uses));
    return;
  }
  if (places_.empty() || count_ * 4 >= places_.size() * 3) grow();
  insert(Place{high, low, static_cast<uint32_t>(std::min<uint64_t>(UINT32_MAX, uses))});
  ++count_;
}

uint64_t UseRests::take(std::string_view id) {
  uint64_t high = 0, low = 0, uses = 0;
  if (!parseId(id, &high, &low)) {
    const auto found = others_.find(std::string(id));
    if (found == others_.end()) return 0;
    uses = found->second;
    others_.erase(found);
    return uses;
  }
  Place* const place = find(high, low);
  if (place == nullptr) return 0;
  uses = place->uses;
  remove(place);
  return uses;
}

std::vector<std::pair<std::string, uint64_t>> UseRests::takeAll() {
  std::vector<std::pair<std::string, uint64_t>> all(others_.begin(), others_.end());
  for (const Place& place : places_) {
    if (place.uses != 0) all.emplace_back(formatId(place.high, place.low), place.uses);
  }
  others_.clear();
  places_.clear();
  count_ = 0;
  return all;
}

}  // namespace kms

#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace kms {

// Uses that were reserved for keys no longer cached: 24 bytes a key for ids of the made form (`k_` and 128 bits in hex),
// so that a million evicted keys cost little; other ids stand in an ordinary map. Not for several threads at once.
class UseRests {
 public:
  void add(std::string_view id, uint64_t uses);
  // What the id has left; it has nothing afterwards.
  uint64_t take(std::string_view id);
  // Everything, ids included; nothing is left afterwards.
  std::vector<std::pair<std::string, uint64_t>> takeAll();

 private:
  struct Place {
    uint64_t high = 0;
    uint64_t low = 0;
    // 0 is a free place: a rest of nothing is not kept.
    uint32_t uses = 0;
  };

  size_t home(uint64_t high, uint64_t low) const;
  Place* find(uint64_t high, uint64_t low);
  void insert(const Place& place);
  void grow();
  void remove(Place* place);

  std::vector<Place> places_;
  size_t count_ = 0;
  std::unordered_map<std::string, uint64_t> others_;
};

}  // namespace kms

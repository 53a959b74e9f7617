#pragma once

#include <string>
#include <vector>

#include "core/message.h"

// Keys for tests of the table: made of random bytes and put under an id.
namespace keys {

inline kms::Handle loose(kms::SpaceId space, kms::Kind kind = kms::Kind::Dek) {
  kms::Handle handle;
  const kms::Failure failure = kms::KeyTable::instance().add(
      space, kind, [](uint8_t* key) { return kms::fillRandom(key, kms::kKeyBytes) ? kms::Failure() : kms::Failure(kms::Status::Internal); },
      &handle);
  return failure.ok() ? handle : kms::Handle{};
}

inline kms::Handle published(kms::SpaceId space, const std::string& id, uint64_t uses) {
  kms::Handle serving;
  const kms::Failure failure = kms::KeyTable::instance().publish(space, loose(space), id, 1, uses, &serving);
  return failure.ok() ? serving : kms::Handle{};
}

inline kms::Bytes bytes(const std::string& text) { return {reinterpret_cast<const uint8_t*>(text.data()), text.size()}; }

// nonce ‖ ciphertext ‖ tag, or empty with the status in `result`.
inline std::vector<uint8_t> sealed(kms::Handle key, const std::string& text, kms::HotResult* result) {
  std::vector<uint8_t> out(text.size() + kms::kOverheadBytes);
  *result = kms::encryptWith(kms::thisThread(), key, bytes(text), {}, out.data());
  if (*result < 0) out.clear();
  return out;
}

inline kms::HotResult opened(kms::Handle key, const std::vector<uint8_t>& ciphertext, std::string* text) {
  text->assign(ciphertext.size(), '\0');
  const kms::Bytes input{ciphertext.data(), ciphertext.size()};
  const kms::HotResult result = kms::decryptWith(kms::thisThread(), key, input, {}, reinterpret_cast<uint8_t*>(text->data()));
  text->resize(result < 0 ? 0 : static_cast<size_t>(result));
  return result;
}

}  // namespace keys

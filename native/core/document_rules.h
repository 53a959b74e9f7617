#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace kms {

// What the members of a record and of a keyring may be, however the document is written down: docs/FORMATS.md.

constexpr uint64_t kRecordFormat = 1;
constexpr uint64_t kMaxInteger = (uint64_t{1} << 53) - 1;
constexpr uint64_t kMaxKekVersion = 0xffffffff;
constexpr uint64_t kMaxUses = uint64_t{1} << 32;
// From here on a key is due for a successor.
constexpr uint64_t kSoftUses = uint64_t{1} << 31;

constexpr size_t kMaxKeks = 1024;
constexpr size_t kStoreIdBytes = 32;
constexpr size_t kKeyIdBytes = 66;
constexpr size_t kMaxThreadIdBytes = 256;
constexpr size_t kKekIdBytes = 36;
constexpr size_t kMaxActorBytes = 64;
constexpr size_t kTimeBytes = 24;

// `^k_[0-9a-z]{1,64}$`
bool isKeyId(std::string_view id);
bool isKeyIdOrEmpty(std::string_view text);
// `^[A-Za-z0-9._:@/-]{1,256}$`
bool isThreadId(std::string_view id);
bool isThreadIdOrEmpty(std::string_view text);
// `^[0-9a-f]{32}$`, `^kek_[0-9a-f]{32}$`, `^s_[0-9a-f]{32}$`
bool isStoreId(std::string_view text);
bool isKekId(std::string_view text);
bool isSlotId(std::string_view text);
// `^[A-Za-z0-9._:@/-]{1,64}$`
bool isActor(std::string_view text);
bool isAlg(std::string_view text);
bool isKeyState(std::string_view text);
bool isKekState(std::string_view text);
bool isSlotKind(std::string_view text);
bool isSlotState(std::string_view text);
// `2026-01-31T12:00:00.000Z`, a day that exists; no leap seconds, which the service never writes.
bool isTime(std::string_view text);
bool isTimeOrEmpty(std::string_view text);
// `length` lower-case hex digits.
bool isLowerHex(std::string_view text, size_t length);

}  // namespace kms

#pragma once

#include <cstdint>
#include <string_view>

#include "core/key_table.h"
#include "core/packed_record.h"

namespace kms {

// What is done to the keys of packed records, with the ring of a space (`RecordRings`): every key of a million is made, loaded and
// moved by one of these calls, so that none allocates but a cipher's context, and a KEK's context lives for one call.
//
// They answer a negative status for whatever is not sound, without a word: the caller reads the record once more, the slow way,
// which says what it is.

struct NewRecord {
  std::string_view keyId;
  // Empty for a key without a thread.
  std::string_view threadId;
  std::string_view createdBy;
  std::string_view at;
  uint64_t uses = 0;
};

// The first record of a key, its `dek` under the active KEK: its length in `out`, which takes kMaxPackedBytes.
HotResult makeRecord(ThreadState& thread, SpaceId space, const NewRecord& made, Handle dek, uint8_t* out);

// Puts the key of a record into the table, without uses, or its state where that is not active. 0, or a status: KeyExhausted for one
// that is due for a successor, which somebody has to be told.
HotResult loadRecord(SpaceId space, std::string_view keyId, Bytes packed, Handle* serving);

// The record with its key under the active KEK, one version on: its length in `out`, which takes kMaxPackedBytes. 0 for a record that
// needs no move: its key stands under the active KEK, or is destroyed.
HotResult moveRecord(ThreadState& thread, SpaceId space, std::string_view keyId, Bytes packed, std::string_view at, uint8_t* out);

// 1 if two records of one key id hold the same key, 0 if they hold two.
HotResult holdSameKey(SpaceId space, Bytes one, Bytes other);

}  // namespace kms

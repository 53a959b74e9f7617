#include <map>
#include <tuple>
#include <utility>

#include "core/data_audit.h"

// How what data operations have left becomes lines, docs/FORMATS.md.
namespace kms {

namespace {

void open(AuditLine& line, uint32_t actor, bool encrypts, std::string_view keyId, Status outcome, std::string_view database) {
  line.text(encrypts ? "\"type\":\"encrypt\",\"actor\":\"" : "\"type\":\"decrypt\",\"actor\":\"");
  line.text(AuditActors::instance().nameOf(actor));
  if (!keyId.empty()) {
    line.text("\",\"key_id\":\"");
    line.text(keyId);
  }
  line.text("\",\"outcome\":\"");
  line.text(outcome == Status::Ok ? "ok" : statusCode(outcome));
  if (!database.empty()) {
    line.text("\",\"database\":\"");
    line.text(database);
  }
  line.text("\"");
}

void member(AuditLine& line, std::string_view name, uint64_t value) {
  line.text(",\"");
  line.text(name);
  line.text("\":");
  line.number(value);
}

void time(AuditLine& line, std::string_view name, int64_t value) {
  line.text(",\"");
  line.text(name);
  line.text("\":\"");
  line.time(value);
  line.text("\"");
}

void sum(AuditLine& line, const DataSum& sum) {
  member(line, "count", sum.count);
  member(line, "bytes", sum.bytes);
  time(line, "first", sum.first);
  time(line, "last", sum.last);
}

// The same for different threads, and for different lives of one key.
using GroupKey = std::tuple<uint32_t, std::string_view, bool, Status>;
using OverflowKey = std::tuple<uint32_t, bool, Status>;

// Adds to what is there under the same key, or puts it there. `places` holds where, for as long as nothing is taken out.
template <typename Key, typename One, typename Add>
void merge(std::deque<One>& into, std::map<Key, One*>& places, One&& one, Key (*keyOf)(const One&), Add&& add) {
  const auto known = places.find(keyOf(one));
  if (known != places.end()) {
    add(*known->second, one);
    return;
  }
  One& kept = into.emplace_back(std::move(one));
  places.emplace(keyOf(kept), &kept);
}

GroupKey keyOf(const DataGroup& group) { return {group.actor, group.keyId(), group.encrypts, group.outcome}; }
OverflowKey keyOf(const DataOverflow& overflow) { return {overflow.actor, overflow.encrypts, overflow.outcome}; }

bool isFull(const std::vector<uint8_t>& lines, size_t most) { return lines.size() + DataAudit::kMaxDataLineBytes > most; }

}  // namespace

// Takes what all threads have; those that ended are forgotten with their last groups.
void DataAudit::gather() {
  std::vector<std::shared_ptr<AuditGroups>> all;
  {
    const std::lock_guard<std::mutex> hold(groupsMutex_);
    for (auto at = groups_.begin(); at != groups_.end();) {
      // Only the map still has it: nobody adds to it any more.
      if (at->second.use_count() == 1 && at->second->empty()) {
        at = groups_.erase(at);
      } else {
        all.push_back((at++)->second);
      }
    }
  }
  std::map<GroupKey, DataGroup*> places;
  std::map<OverflowKey, DataOverflow*> overflowPlaces;
  for (const std::shared_ptr<AuditGroups>& one : all) {
    AuditGroups::Taken taken = one->take();
    for (DataGroup& group : taken.groups) {
      merge<GroupKey, DataGroup>(gathered_, places, std::move(group), keyOf, [](DataGroup& known, const DataGroup& more) { known.sum.add(more.sum); });
    }
    for (DataOverflow& overflow : taken.overflows) {
      merge<OverflowKey, DataOverflow>(gatheredOverflows_, overflowPlaces, std::move(overflow), keyOf, [](DataOverflow& known, DataOverflow& more) {
        known.sum.add(more.sum);
        known.keys.absorb(more.keys);
      });
    }
  }
}

Failure DataAudit::takeGroups(AuditChain& chain, size_t most, std::vector<uint8_t>* out) {
  uint32_t written = 0;
  Failure failure = chain.lines(
      [&](AuditLine* line) {
        if (written == gathered_.size() || isFull(*out, most)) return false;
        const DataGroup& group = gathered_[written++];
        open(*line, group.actor, group.encrypts, group.keyId(), group.outcome, database_);
        sum(*line, group.sum);
        return true;
      },
      out);
  if (!failure.ok()) --written;
  gathered_.erase(gathered_.begin(), gathered_.begin() + written);
  if (!failure.ok()) return failure;
  written = 0;
  failure = chain.lines(
      [&](AuditLine* line) {
        if (written == gatheredOverflows_.size() || isFull(*out, most)) return false;
        const DataOverflow& overflow = gatheredOverflows_[written++];
        open(*line, overflow.actor, overflow.encrypts, {}, overflow.outcome, database_);
        sum(*line, overflow.sum);
        member(*line, "keys", overflow.keys.count());
        return true;
      },
      out);
  if (!failure.ok()) --written;
  for (uint32_t i = 0; i < written; ++i) gatheredOverflows_.pop_front();
  return failure;
}

Failure DataAudit::takeEvents(AuditChain& chain, size_t most, std::vector<uint8_t>* out) {
  const uint32_t waiting = events_.waiting();
  uint32_t written = 0;
  const Failure failure = chain.lines(
      [&](AuditLine* line) {
        if (written == waiting || isFull(*out, most)) return false;
        const EventQueue::Event& event = events_.at(written++);
        open(*line, event.actor, event.encrypts, {event.id, event.idLength}, static_cast<Status>(event.outcome), database_);
        member(*line, "bytes", event.bytes);
        if (event.batch) member(*line, "items", event.items);
        return true;
      },
      out);
  events_.drop(failure.ok() ? written : written - 1);
  return failure;
}

Failure DataAudit::take(AuditChain& chain, size_t most, std::vector<uint8_t>* out) {
  const std::lock_guard<std::mutex> hold(takeMutex_);
  // What is left of the last time comes first, so that no more is ever held here than was counted at once.
  if (gathered_.empty() && gatheredOverflows_.empty()) gather();
  const Failure failure = takeGroups(chain, most, out);
  return failure.ok() ? takeEvents(chain, most, out) : failure;
}

}  // namespace kms

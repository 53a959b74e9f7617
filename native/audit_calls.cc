#include <node_api.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/audit_chain.h"
#include "core/data_audit.h"
#include "core/frame.h"
#include "core/signing.h"
#include "environment.h"

namespace kms {

namespace {

// The arguments of one call, read one after the other; the first that does not fit spoils the rest.
class Arguments {
 public:
  Arguments(napi_env env, napi_callback_info info) : env_(env) {
    void* data = nullptr;
    napi_get_cb_info(env, info, &count_, values_, nullptr, &data);
    environment_ = static_cast<Environment*>(data);
  }

  Environment& environment() const { return *environment_; }
  bool good() const { return good_; }
  // Whether another one was given; one that may be absent is last.
  bool more() const { return good_ && at_ < count_; }

  double number() {
    double value = 0;
    const napi_value argument = next();
    good_ = good_ && napi_get_value_double(env_, argument, &value) == napi_ok && value >= 0 && value <= static_cast<double>(kMaxSequence) &&
            value == static_cast<double>(static_cast<uint64_t>(value));
    return good_ ? value : 0;
  }
  uint32_t uint32() {
    const double value = number();
    good_ = good_ && value <= UINT32_MAX;
    return good_ ? static_cast<uint32_t>(value) : 0;
  }
  bool boolean() {
    bool value = false;
    const napi_value argument = next();
    good_ = good_ && napi_get_value_bool(env_, argument, &value) == napi_ok;
    return value;
  }
  Handle handle() { return Handle::of(number()); }
  Bytes bytes() {
    uint8_t* data = nullptr;
    size_t length = 0;
    const napi_value argument = next();
    good_ = good_ && bytesOf(env_, argument, &data, &length);
    return good_ ? Bytes{data, length} : Bytes{};
  }
  std::string text() { return read(next()); }

  std::vector<std::string> texts() {
    uint32_t length = 0;
    const napi_value argument = next();
    good_ = good_ && napi_get_array_length(env_, argument, &length) == napi_ok;
    std::vector<std::string> values;
    for (uint32_t i = 0; good_ && i < length; ++i) {
      napi_value value = nullptr;
      good_ = napi_get_element(env_, argument, i, &value) == napi_ok;
      values.push_back(read(value));
    }
    return values;
  }

  napi_value fail(const Failure& failure) const {
    throwFailure(env_, *environment_, failure);
    return nullptr;
  }
  napi_value refuse() const { return fail(Failure(Status::InvalidArgument, "arguments of a call on an audit chain")); }

 private:
  static constexpr size_t kMost = 6;

  std::string read(napi_value argument) {
    std::string value;
    good_ = good_ && textOf(env_, argument, &value);
    return value;
  }

  napi_value next() {
    good_ = good_ && at_ < count_;
    return good_ ? values_[at_++] : nullptr;
  }

  napi_env env_;
  Environment* environment_ = nullptr;
  napi_value values_[kMost] = {};
  size_t count_ = kMost;
  size_t at_ = 0;
  bool good_ = true;
};

napi_value bytesValue(napi_env env, const uint8_t* data, size_t length) {
  napi_value buffer = nullptr, view = nullptr;
  void* at = nullptr;
  if (napi_create_arraybuffer(env, length, &at, &buffer) != napi_ok) return nullptr;
  if (length != 0) memcpy(at, data, length);
  napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &view);
  return view;
}

// (signing): its public half.
napi_value publicKey(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const Handle signing = arguments.handle();
  if (!arguments.good()) return arguments.refuse();
  uint8_t key[kKeyBytes];
  const Status status = KeyTable::instance().with(signing, KeyTable::bit(Kind::Signing), [&key](const uint8_t* seed) {
    return publicKeyOf(seed, key) ? Status::Ok : Status::Internal;
  });
  return status == Status::Ok ? bytesValue(env, key, sizeof key) : arguments.fail(Failure(status));
}

// (space, storeId, boot, seq, prev)
napi_value openChain(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const SpaceId space = arguments.uint32();
  const std::string storeId = arguments.text(), boot = arguments.text();
  ChainHead head;
  head.seq = static_cast<uint64_t>(arguments.number());
  const Bytes prev = arguments.bytes();
  if (!arguments.good() || prev.length != kSha256Bytes) return arguments.refuse();
  memcpy(head.prev, prev.data, kSha256Bytes);
  std::shared_ptr<AuditChain> chain;
  if (const Failure failure = AuditChain::open(space, storeId, boot, head, &chain); !failure.ok()) return arguments.fail(failure);
  const uint32_t id = AuditChains::instance().add(std::move(chain));
  arguments.environment().chains.push_back(id);
  napi_value result = nullptr;
  napi_create_uint32(env, id, &result);
  return result;
}

// (chain, auditorPublic)
napi_value sealKey(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const uint32_t id = arguments.uint32();
  const Bytes auditor = arguments.bytes();
  if (!arguments.good()) return arguments.refuse();
  const std::shared_ptr<AuditChain> chain = AuditChains::instance().find(id);
  if (chain == nullptr) return arguments.fail(Failure(Status::Sealed));
  uint8_t sealed[kSealedEpochKeyBytes];
  const Failure failure = chain->sealKey(auditor, sealed);
  return failure.ok() ? bytesValue(env, sealed, sizeof sealed) : arguments.fail(failure);
}

// (chain, members, signing | 0)
napi_value chainLine(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const uint32_t id = arguments.uint32();
  const std::string members = arguments.text();
  const Handle signing = arguments.handle();
  if (!arguments.good()) return arguments.refuse();
  const std::shared_ptr<AuditChain> chain = AuditChains::instance().find(id);
  if (chain == nullptr) return arguments.fail(Failure(Status::Sealed));
  std::vector<uint8_t> line;
  const Failure failure = chain->line(members, signing, &line);
  return failure.ok() ? bytesValue(env, line.data(), line.size()) : arguments.fail(failure);
}

// (chain, members[])
napi_value chainLines(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const uint32_t id = arguments.uint32();
  const std::vector<std::string> members = arguments.texts();
  if (!arguments.good()) return arguments.refuse();
  const std::shared_ptr<AuditChain> chain = AuditChains::instance().find(id);
  if (chain == nullptr) return arguments.fail(Failure(Status::Sealed));
  std::vector<uint8_t> lines;
  const Failure failure = chain->linesOf(members, &lines);
  // As with `takeData`: what is made is the chain's, and whoever asks for the next line hears of the failure.
  return failure.ok() || !lines.empty() ? bytesValue(env, lines.data(), lines.size()) : arguments.fail(failure);
}

// (chain): {seq, prev}
napi_value chainHead(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const uint32_t id = arguments.uint32();
  if (!arguments.good()) return arguments.refuse();
  const std::shared_ptr<AuditChain> chain = AuditChains::instance().find(id);
  if (chain == nullptr) return arguments.fail(Failure(Status::Sealed));
  const ChainHead head = chain->head();
  napi_value result = nullptr, seq = nullptr;
  napi_create_object(env, &result);
  napi_create_double(env, static_cast<double>(head.seq), &seq);
  napi_set_named_property(env, result, "seq", seq);
  napi_set_named_property(env, result, "prev", bytesValue(env, head.prev, kSha256Bytes));
  return result;
}

// (chain)
napi_value closeChain(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const uint32_t id = arguments.uint32();
  if (!arguments.good()) return arguments.refuse();
  AuditChains::instance().close(id);
  std::vector<uint32_t>& chains = arguments.environment().chains;
  chains.erase(std::remove(chains.begin(), chains.end(), id), chains.end());
  return nullptr;
}

// (chain, mostBytes, space?)
napi_value takeData(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const uint32_t id = arguments.uint32();
  const double most = arguments.number();
  const SpaceId other = arguments.more() ? arguments.uint32() : 0;
  if (!arguments.good() || most < DataAudit::kMaxDataLineBytes) return arguments.refuse();
  const std::shared_ptr<AuditChain> chain = AuditChains::instance().find(id);
  if (chain == nullptr) return arguments.fail(Failure(Status::Sealed));
  std::vector<uint8_t> lines;
  const std::shared_ptr<DataAudit> audit = DataAudits::instance().find(other == 0 ? chain->space() : other);
  const Failure failure = audit == nullptr ? Failure() : audit->take(*chain, static_cast<size_t>(most), &lines);
  // Lines that are made are the chain's: they are given away before the failure is told, by the next call.
  return failure.ok() || !lines.empty() ? bytesValue(env, lines.data(), lines.size()) : arguments.fail(failure);
}

// (name): its number.
napi_value auditActor(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const std::string name = arguments.text();
  if (!arguments.good()) return arguments.refuse();
  napi_value result = nullptr;
  napi_create_uint32(env, AuditActors::instance().numberOf(name), &result);
  return result;
}

// (space, mode, ownActor, database?)
napi_value setDataAudit(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const SpaceId space = arguments.uint32();
  const std::string mode = arguments.text();
  const uint32_t actor = arguments.uint32();
  const std::string database = arguments.more() ? arguments.text() : std::string();
  const bool known = mode == "off" || mode == "grouped" || mode == "each";
  if (!arguments.good() || !known || (mode != "off" && AuditActors::instance().nameOf(actor).empty())) return arguments.refuse();
  if (!KeyTable::instance().hasSpace(space)) return arguments.fail(Failure(Status::Sealed));
  if (!database.empty()) DataAudits::instance().of(space)->nameDatabase(database);
  DataAudits::instance().of(space)->set(mode == "off" ? DataMode::Off : mode == "grouped" ? DataMode::Grouped : DataMode::Each, actor);
  return nullptr;
}

// (space, on)
napi_value setDataRefusal(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const SpaceId space = arguments.uint32();
  const bool on = arguments.boolean();
  if (!arguments.good()) return arguments.refuse();
  if (!KeyTable::instance().hasSpace(space)) return arguments.fail(Failure(Status::Sealed));
  DataAudits::instance().of(space)->refuse(on);
  return nullptr;
}

// (space, until), in milliseconds of the clock of `sinceBoot`
napi_value keepFresh(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const SpaceId space = arguments.uint32();
  const double until = arguments.number();
  if (!arguments.good() || !(until >= 0 && until < 1e12)) return arguments.refuse();
  if (!KeyTable::instance().hasSpace(space)) return arguments.fail(Failure(Status::Sealed));
  DataAudits::instance().of(space)->keepFresh(static_cast<int64_t>(until * 1e6));
  return nullptr;
}

napi_value sinceBootCall(napi_env env, napi_callback_info) {
  napi_value value = nullptr;
  napi_create_double(env, static_cast<double>(sinceBoot()) / 1e6, &value);
  return value;
}

napi_value statusValue(napi_env env, HotResult result) {
  napi_value value = nullptr;
  napi_create_int32(env, static_cast<int32_t>(result), &value);
  return value;
}

bool isOutcome(uint32_t number) { return number < Tally::kOutcomes; }

// (space, actor, encrypts, keyId, outcome, bytes)
napi_value tellDataCall(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const SpaceId space = arguments.uint32();
  DataEvent event;
  event.actor = arguments.uint32();
  event.encrypts = arguments.boolean();
  const std::string keyId = arguments.text();
  const uint32_t outcome = arguments.uint32();
  event.bytes = static_cast<uint64_t>(arguments.number());
  ThreadState* const thread = arguments.environment().thread;
  if (!arguments.good() || !isOutcome(outcome) || thread == nullptr) return arguments.refuse();
  event.outcome = static_cast<Status>(outcome);
  event.items = 1;
  return statusValue(env, tellData(*thread, space, keyId, event));
}

// (space, actor, body, outcome)
napi_value tellFrameCall(napi_env env, napi_callback_info info) {
  Arguments arguments(env, info);
  const SpaceId space = arguments.uint32();
  const uint32_t actor = arguments.uint32();
  const Bytes body = arguments.bytes();
  const uint32_t outcome = arguments.uint32();
  ThreadState* const thread = arguments.environment().thread;
  if (!arguments.good() || !isOutcome(outcome) || thread == nullptr) return arguments.refuse();
  return statusValue(env, tellFrame(*thread, space, actor, body.data, body.length, static_cast<Status>(outcome)));
}

}  // namespace

napi_status defineAuditCalls(napi_env env, napi_value exports, Environment* environment) {
  const napi_property_descriptor calls[] = {
      {"publicKeyOf", nullptr, publicKey, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"openChain", nullptr, openChain, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"sealEpochKey", nullptr, sealKey, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"chainLine", nullptr, chainLine, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"chainLines", nullptr, chainLines, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"chainHead", nullptr, chainHead, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"closeChain", nullptr, closeChain, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"takeData", nullptr, takeData, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"auditActor", nullptr, auditActor, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"setDataAudit", nullptr, setDataAudit, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"setDataRefusal", nullptr, setDataRefusal, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"keepFresh", nullptr, keepFresh, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"sinceBoot", nullptr, sinceBootCall, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"tellData", nullptr, tellDataCall, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"tellFrame", nullptr, tellFrameCall, nullptr, nullptr, nullptr, napi_enumerable, environment},
  };
  return napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}

}  // namespace kms

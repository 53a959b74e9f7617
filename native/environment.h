#pragma once

#include <node_api.h>

#include <string>
#include <vector>

#include "core/status.h"
#include "core/thread_state.h"

namespace kms {

// What the addon keeps for each thread that loaded it.
struct Environment {
  napi_ref errorClass = nullptr;
  napi_ref doorbell = nullptr;
  int32_t* bell = nullptr;
  // Null until `initialise`: before it there is no table that a thread could join.
  ThreadState* thread = nullptr;
  // What the thread opened and has not closed: given up with it.
  std::vector<uint32_t> spaces;
  std::vector<uint32_t> chains;
  std::vector<int> locks;

  ~Environment();
};

// Throws KmsError(code, detail).
void throwFailure(napi_env env, const Environment& environment, const Failure& failure);

// The bytes of a Uint8Array; false for anything else.
bool bytesOf(napi_env env, napi_value value, uint8_t** data, size_t* length);
// A string in UTF-8; false for anything else.
bool textOf(napi_env env, napi_value value, std::string* text);

// Hot calls: raw Node-API, because a wrapper costs as much again as the call (measured). One per operation or chunk.
napi_status defineHotCalls(napi_env env, napi_value exports, Environment* environment);
// Large messages, on the thread pool.
napi_status definePoolCalls(napi_env env, napi_value exports, Environment* environment);
// appendToLog: the end of the audit log, on the thread pool.
napi_status defineAppendCalls(napi_env env, napi_value exports, Environment* environment);
// parseRecord, unpackRecord, parseKeyring: the strict readers of what is on disk.
napi_status defineDocumentCalls(napi_env env, napi_value exports, Environment* environment);
// setRing, and what is done with it: makeRecord, loadRecord, moveRecord, holdSameKey, on packed records.
napi_status defineRecordCalls(napi_env env, napi_value exports, Environment* environment);
// openTrust, whyNotTrusted, holdsDelta, firstNextUpdate: a client's certificate against authorities and revocation lists,
// whether those are lists, and how long they hold.
napi_status defineCertificateCalls(napi_env env, napi_value exports, Environment* environment);
// openChain and what is done with a chain; publicKeyOf: the lines of the audit log, and what signs them.
napi_status defineAuditCalls(napi_env env, napi_value exports, Environment* environment);
// newDatabaseSecret, readDatabaseSecret, joinHalves, sealDocument, openDocument: client-sealed databases.
napi_status defineDatabaseCalls(napi_env env, napi_value exports, Environment* environment);
// listenUnix, listenTcp, holdUnix, listenFd, peerOf, widenFd, closeFd, notifyManager: sockets, and who is at the other end.
napi_status defineListenCalls(napi_env env, napi_value exports, Environment* environment);

}  // namespace kms

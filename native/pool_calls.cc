#include <node_api.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "core/message.h"
#include "core/serve_chunk.h"
#include "environment.h"

namespace kms {

namespace {

// Memory that may hold plaintext: wiped before it is freed. Given to JavaScript it becomes a Uint8Array that wipes itself.
struct Block {
  uint8_t* data = nullptr;
  size_t length = 0;

  bool allocate(size_t bytes) {
    data = static_cast<uint8_t*>(malloc(bytes == 0 ? 1 : bytes));
    length = data == nullptr ? 0 : bytes;
    return data != nullptr;
  }
  ~Block() {
    if (data == nullptr) return;
    wipe(data, length);
    free(data);
  }
};

enum class Task { Encrypt, Decrypt, Serve };

// One message on its way through the pool. Input is a copy: what the caller does with its buffers meanwhile is its own affair.
struct Job {
  Environment* environment = nullptr;
  Task task = Task::Encrypt;
  Handle key;
  SpaceId space = 0;
  uint32_t bits = 0;
  uint32_t actor = AuditActors::kOwn;
  Block input;
  Block aad;
  Block output;
  HotResult result = 0;
  // Audit events want to be written.
  bool rangForAudit = false;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
};

void work(ThreadState& thread, Job& job) {
  const Bytes input{job.input.data, job.input.length}, aad{job.aad.data, job.aad.length};
  thread.nonces().discard();
  if (job.task == Task::Serve) {
    job.result = serveLarge(thread, job.space, job.bits, job.actor, job.input.data, job.input.length, &job.output.data);
    job.output.length = job.result < 0 ? 0 : static_cast<size_t>(job.result);
    return;
  }
  const bool encrypts = job.task == Task::Encrypt;
  if (!job.output.allocate(encrypts ? input.length + kOverheadBytes : input.length)) {
    job.result = hotFailure(Status::Internal);
    return;
  }
  job.result = encrypts ? encryptWith(thread, job.key, input, aad, job.output.data, job.actor)
                        : decryptWith(thread, job.key, input, aad, job.output.data, job.actor);
}

void execute(napi_env, void* data) {
  Job& job = *static_cast<Job*>(data);
  ThreadState& thread = thisPoolThread();
  work(thread, job);
  job.rangForAudit = thread.takeAuditRing();
}

napi_value release(napi_env env, Block& block, size_t length) {
  auto* const kept = new (std::nothrow) Block();
  if (kept == nullptr) return nullptr;
  kept->data = block.data;
  kept->length = block.length;
  block.data = nullptr;
  napi_value buffer = nullptr, view = nullptr;
  const auto finalize = [](napi_env, void*, void* hint) { delete static_cast<Block*>(hint); };
  if (napi_create_external_arraybuffer(env, kept->data, length, finalize, kept, &buffer) != napi_ok) {
    delete kept;
    return nullptr;
  }
  napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &view);
  return view;
}

void complete(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  napi_value value = nullptr;
  if (job->result > 0) value = release(env, job->output, static_cast<size_t>(job->result));
  if (job->result > 0 && value == nullptr) job->result = hotFailure(Status::Internal);
  if (value == nullptr) napi_create_int32(env, static_cast<int32_t>(job->result), &value);
  // Pool threads have no event loop to be rung at: the one that waits for the result takes the call.
  if (KeyTable::instance().hasUseRequests() && job->environment->bell != nullptr) job->environment->bell[0] = 1;
  if (job->rangForAudit && job->environment->bell != nullptr) job->environment->bell[1] = 1;
  napi_resolve_deferred(env, job->deferred, value);
  napi_delete_async_work(env, job->work);
}

bool copyOf(napi_env env, napi_value value, Block* block) {
  uint8_t* data = nullptr;
  size_t length = 0;
  if (!bytesOf(env, value, &data, &length) || !block->allocate(length)) return false;
  if (length != 0) memcpy(block->data, data, length);
  return true;
}

// Absent is the space's own.
bool readActor(napi_env env, napi_value value, uint32_t* actor) {
  napi_valuetype type = napi_undefined;
  return napi_typeof(env, value, &type) == napi_ok && (type == napi_undefined || napi_get_value_uint32(env, value, actor) == napi_ok);
}

napi_value start(napi_env env, std::unique_ptr<Job> job) {
  napi_value promise = nullptr, name = nullptr;
  // Only an environment that is being torn down makes none.
  if (napi_create_promise(env, &job->deferred, &promise) != napi_ok) return nullptr;
  napi_create_string_utf8(env, "progressdb-kms", NAPI_AUTO_LENGTH, &name);
  Job* const raw = job.release();
  if (napi_create_async_work(env, nullptr, name, execute, complete, raw, &raw->work) != napi_ok ||
      napi_queue_async_work(env, raw->work) != napi_ok) {
    const std::unique_ptr<Job> failed(raw);
    if (failed->work != nullptr) napi_delete_async_work(env, failed->work);
    throwFailure(env, *failed->environment, Failure(Status::Internal, "the thread pool takes no work"));
    return nullptr;
  }
  return promise;
}

// (handle, input, aad | undefined, actor?)
template <Task kTask>
napi_value onPool(napi_env env, napi_callback_info info) {
  size_t argc = 4;
  napi_value argv[4];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  auto* const environment = static_cast<Environment*>(data);
  std::unique_ptr<Job> job(new (std::nothrow) Job());
  napi_valuetype aadType = napi_undefined;
  double handle = 0;
  const bool good = job != nullptr && environment->thread != nullptr && napi_get_value_double(env, argv[0], &handle) == napi_ok &&
                    copyOf(env, argv[1], &job->input) && napi_typeof(env, argv[2], &aadType) == napi_ok &&
                    (aadType == napi_undefined || copyOf(env, argv[2], &job->aad)) && readActor(env, argv[3], &job->actor);
  if (!good) {
    throwFailure(env, *environment, Failure(Status::InvalidArgument, "takes a handle, bytes and bytes or undefined"));
    return nullptr;
  }
  job->environment = environment;
  job->task = kTask;
  job->key = Handle::of(handle);
  return start(env, std::move(job));
}

// (space, bits, actor, body)
napi_value serveOnPool(napi_env env, napi_callback_info info) {
  size_t argc = 4;
  napi_value argv[4];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  auto* const environment = static_cast<Environment*>(data);
  std::unique_ptr<Job> job(new (std::nothrow) Job());
  const bool good = job != nullptr && environment->thread != nullptr && napi_get_value_uint32(env, argv[0], &job->space) == napi_ok &&
                    napi_get_value_uint32(env, argv[1], &job->bits) == napi_ok &&
                    napi_get_value_uint32(env, argv[2], &job->actor) == napi_ok && copyOf(env, argv[3], &job->input);
  if (!good) {
    throwFailure(env, *environment, Failure(Status::InvalidArgument, "takes a space, bits, an actor and a frame's body"));
    return nullptr;
  }
  job->environment = environment;
  job->task = Task::Serve;
  return start(env, std::move(job));
}

}  // namespace

napi_status definePoolCalls(napi_env env, napi_value exports, Environment* environment) {
  const napi_property_descriptor calls[] = {
      {"encryptOnPool", nullptr, onPool<Task::Encrypt>, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"decryptOnPool", nullptr, onPool<Task::Decrypt>, nullptr, nullptr, nullptr, napi_enumerable, environment},
      {"serveOnPool", nullptr, serveOnPool, nullptr, nullptr, nullptr, napi_enumerable, environment},
  };
  return napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}

}  // namespace kms

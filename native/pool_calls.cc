#include <node_api.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <utility>

#include "core/message.h"
#include "core/serve_chunk.h"
#include "environment.h"

namespace kms {

namespace {

// Memory that may hold plaintext: wiped before it is freed. Given to JavaScript it becomes a Uint8Array that wipes itself.
struct Block {
  uint8_t* data = nullptr;
  size_t length = 0;
  // What holds a ciphertext has nothing to be wiped: it was written over all that was there.
  bool secret = true;

  bool allocate(size_t bytes) {
    data = static_cast<uint8_t*>(malloc(bytes == 0 ? 1 : bytes));
    length = data == nullptr ? 0 : bytes;
    return data != nullptr;
  }
  ~Block() {
    if (data == nullptr) return;
    if (secret) wipe(data, length);
    free(data);
  }
};

enum class Task { Encrypt, Decrypt, Serve };

// One message on its way through the pool. Input is a copy: what the caller does with its buffers meanwhile is its own affair.
// A message is sealed and opened in that copy, where its result goes out: the pages of a second one, fresh from the kernel, would
// cost as much as the encryption (measured).
struct Job {
  Environment* environment = nullptr;
  Task task = Task::Encrypt;
  Handle key;
  SpaceId space = 0;
  uint32_t bits = 0;
  uint32_t actor = AuditActors::kOwn;
  Block message;
  // Where in `message` the input is.
  size_t inputAt = 0;
  size_t inputLength = 0;
  Block aad;
  // Of Task::Serve.
  Block output;
  HotResult result = 0;
  // Audit events want to be written.
  bool rangForAudit = false;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
};

void work(ThreadState& thread, Job& job) {
  const Bytes input{job.message.data + job.inputAt, job.inputLength}, aad{job.aad.data, job.aad.length};
  thread.nonces().discard();
  if (job.task == Task::Serve) {
    job.result = serveLarge(thread, job.space, job.bits, job.actor, job.message.data, input.length, &job.output.data);
    job.output.length = job.result < 0 ? 0 : static_cast<size_t>(job.result);
    return;
  }
  if (job.task == Task::Encrypt) {
    job.result = encryptWith(thread, job.key, input, aad, job.message.data, job.actor);
    job.message.secret = job.result < 0;
    return;
  }
  // In GCM the ciphertext may be opened where it lies; what comes before it, the nonce, is read first.
  job.result = decryptWith(thread, job.key, input, aad, job.message.data + kNonceBytes, job.actor);
}

void execute(napi_env, void* data) {
  Job& job = *static_cast<Job*>(data);
  ThreadState& thread = thisPoolThread();
  work(thread, job);
  job.rangForAudit = thread.takeAuditRing();
}

// `length` bytes of the block from `at` on.
napi_value release(napi_env env, Block& block, size_t at, size_t length) {
  auto* const kept = new (std::nothrow) Block();
  if (kept == nullptr) return nullptr;
  std::swap(*kept, block);
  napi_value buffer = nullptr, view = nullptr;
  const auto finalize = [](napi_env, void*, void* hint) { delete static_cast<Block*>(hint); };
  if (napi_create_external_arraybuffer(env, kept->data + at, length, finalize, kept, &buffer) != napi_ok) {
    delete kept;
    return nullptr;
  }
  napi_create_typedarray(env, napi_uint8_array, length, buffer, 0, &view);
  return view;
}

napi_value resultOf(napi_env env, Job& job) {
  const auto length = static_cast<size_t>(job.result);
  if (job.task == Task::Serve) return release(env, job.output, 0, length);
  return release(env, job.message, job.task == Task::Decrypt ? kNonceBytes : 0, length);
}

// What a message wants first, and the message: the caller may have put something else into its buffer since it gave it.
napi_value postponed(napi_env env, Job& job) {
  napi_value pair = nullptr, wanted = nullptr;
  napi_value const input = release(env, job.message, job.inputAt, job.inputLength);
  if (input == nullptr || napi_create_array_with_length(env, 2, &pair) != napi_ok ||
      napi_create_int32(env, static_cast<int32_t>(job.result), &wanted) != napi_ok || napi_set_element(env, pair, 0, wanted) != napi_ok ||
      napi_set_element(env, pair, 1, input) != napi_ok) {
    return nullptr;
  }
  return pair;
}

void complete(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  napi_value value = nullptr;
  const bool isPostponed =
      job->task != Task::Serve && (job->result == kNotCached || job->result == kNeedsUses || job->result == kNeedsAudit);
  if (isPostponed) value = postponed(env, *job);
  if (job->result > 0) value = resultOf(env, *job);
  if ((isPostponed || job->result > 0) && value == nullptr) job->result = hotFailure(Status::Internal);
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

// With room for nonce and tag around what is to be sealed.
bool copyInput(napi_env env, napi_value value, Job* job) {
  uint8_t* data = nullptr;
  size_t length = 0;
  if (!bytesOf(env, value, &data, &length)) return false;
  const bool encrypts = job->task == Task::Encrypt;
  if (!job->message.allocate(length + (encrypts ? kOverheadBytes : 0))) return false;
  job->inputAt = encrypts ? kNonceBytes : 0;
  job->inputLength = length;
  if (length != 0) memcpy(job->message.data + job->inputAt, data, length);
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
  if (job != nullptr) job->task = kTask;
  const bool good = job != nullptr && environment->thread != nullptr && napi_get_value_double(env, argv[0], &handle) == napi_ok &&
                    copyInput(env, argv[1], job.get()) && napi_typeof(env, argv[2], &aadType) == napi_ok &&
                    (aadType == napi_undefined || copyOf(env, argv[2], &job->aad)) && readActor(env, argv[3], &job->actor);
  if (!good) {
    throwFailure(env, *environment, Failure(Status::InvalidArgument, "takes a handle, bytes and bytes or undefined"));
    return nullptr;
  }
  job->environment = environment;
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
  if (job != nullptr) job->task = Task::Serve;
  const bool good = job != nullptr && environment->thread != nullptr && napi_get_value_uint32(env, argv[0], &job->space) == napi_ok &&
                    napi_get_value_uint32(env, argv[1], &job->bits) == napi_ok &&
                    napi_get_value_uint32(env, argv[2], &job->actor) == napi_ok && copyInput(env, argv[3], job.get());
  if (!good) {
    throwFailure(env, *environment, Failure(Status::InvalidArgument, "takes a space, bits, an actor and a frame's body"));
    return nullptr;
  }
  job->environment = environment;
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

#include <node_api.h>

#include <memory>
#include <new>
#include <string>

#include "core/log_append.h"
#include "environment.h"

namespace kms {

namespace {

// One append on its way through the pool. The lines stay where they are: whoever made them hands them over, and they are held.
struct Job {
  int fd = -1;
  Bytes lines;
  std::string path;
  Appended result;
  napi_ref held = nullptr;
  napi_deferred deferred = nullptr;
  napi_async_work work = nullptr;
};

void execute(napi_env, void* data) {
  Job& job = *static_cast<Job*>(data);
  job.result = appendToLog(job.fd, job.lines, job.path.c_str());
}

void release(napi_env env, Job& job) {
  if (job.held != nullptr) napi_delete_reference(env, job.held);
  if (job.work != nullptr) napi_delete_async_work(env, job.work);
}

void complete(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  napi_value result = nullptr, written = nullptr, error = nullptr, isInPlace = nullptr;
  napi_create_object(env, &result);
  napi_create_double(env, static_cast<double>(job->result.written), &written);
  napi_create_int32(env, job->result.error, &error);
  napi_get_boolean(env, job->result.isInPlace, &isInPlace);
  napi_set_named_property(env, result, "written", written);
  napi_set_named_property(env, result, "errno", error);
  napi_set_named_property(env, result, "isInPlace", isInPlace);
  napi_resolve_deferred(env, job->deferred, result);
  release(env, *job);
}

// (fd, lines, path)
napi_value append(napi_env env, napi_callback_info info) {
  size_t argc = 3;
  napi_value argv[3];
  void* data = nullptr;
  napi_get_cb_info(env, info, &argc, argv, nullptr, &data);
  const auto& environment = *static_cast<Environment*>(data);
  std::unique_ptr<Job> job(new (std::nothrow) Job());
  uint8_t* bytes = nullptr;
  size_t length = 0;
  const bool good = job != nullptr && napi_get_value_int32(env, argv[0], &job->fd) == napi_ok &&
                    bytesOf(env, argv[1], &bytes, &length) && textOf(env, argv[2], &job->path);
  if (!good) {
    throwFailure(env, environment, Failure(Status::InvalidArgument, "takes a descriptor, lines and a path"));
    return nullptr;
  }
  job->lines = Bytes{bytes, length};
  napi_value promise = nullptr, name = nullptr;
  napi_create_string_utf8(env, "progressdb-kms", NAPI_AUTO_LENGTH, &name);
  Job* const raw = job.get();
  if (napi_create_reference(env, argv[1], 1, &raw->held) != napi_ok || napi_create_promise(env, &raw->deferred, &promise) != napi_ok ||
      napi_create_async_work(env, nullptr, name, execute, complete, raw, &raw->work) != napi_ok ||
      napi_queue_async_work(env, raw->work) != napi_ok) {
    release(env, *raw);
    throwFailure(env, environment, Failure(Status::Internal, "the thread pool takes no work"));
    return nullptr;
  }
  job.release();
  return promise;
}

}  // namespace

napi_status defineAppendCalls(napi_env env, napi_value exports, Environment* environment) {
  const napi_property_descriptor calls[] = {
      {"appendToLog", nullptr, append, nullptr, nullptr, nullptr, napi_enumerable, environment},
  };
  return napi_define_properties(env, exports, sizeof calls / sizeof *calls, calls);
}

}  // namespace kms

// Switches callgrind's collecting on and off from JavaScript: start(), and dump(name), which ends it.
#include <node_api.h>
#include <valgrind/callgrind.h>

namespace {

napi_value start(napi_env, napi_callback_info) {
  CALLGRIND_TOGGLE_COLLECT;
  return nullptr;
}

napi_value dump(napi_env env, napi_callback_info info) {
  CALLGRIND_TOGGLE_COLLECT;
  size_t count = 1;
  napi_value argument = nullptr;
  char name[128] = {};
  if (napi_get_cb_info(env, info, &count, &argument, nullptr, nullptr) != napi_ok || count != 1 ||
      napi_get_value_string_utf8(env, argument, name, sizeof name, &count) != napi_ok) {
    napi_throw_type_error(env, nullptr, "dump(name)");
    return nullptr;
  }
  CALLGRIND_DUMP_STATS_AT(name);
  return nullptr;
}

bool define(napi_env env, napi_value exports, const char* name, napi_callback callback) {
  napi_value call = nullptr;
  return napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &call) == napi_ok &&
         napi_set_named_property(env, exports, name, call) == napi_ok;
}

}  // namespace

NAPI_MODULE_INIT() { return define(env, exports, "start", start) && define(env, exports, "dump", dump) ? exports : nullptr; }

#!/usr/bin/env bash
# The native core outside Node: every test under ASan + UBSan, those named *_race under TSan too, every fuzzer for
# FUZZ_SECONDS (10 unless told) from its seed corpus. Ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
build=$root/build-native
fuzz_seconds=${FUZZ_SECONDS:-10}
passed=0
failed=0

note() { printf -- '--- %s\n' "$*"; }

verdict() { # name, exit status
  if [ "$2" -eq 0 ]; then
    passed=$((passed + 1))
  else
    failed=$((failed + 1))
    note "FAILED: $1 (exit status $2)"
  fi
}

cc=$(command -v clang-14 || command -v clang || true)
cxx=$(command -v clang++-14 || command -v clang++ || true)
fuzzing=yes
if [ -z "$cc" ] || [ -z "$cxx" ]; then
  cc=$(command -v gcc || command -v cc)
  cxx=$(command -v g++ || command -v c++)
  fuzzing=no
  note "SKIPPED: no clang, so no fuzzer runs; the tests are built with $cxx"
fi

# cmake-js downloads Node's headers unless it is told where they are. The core does not need them, so no download.
nodedir=${npm_config_nodedir:-$(npm config get nodedir 2>/dev/null)}
[ -e "$nodedir/include/node/node.h" ] || nodedir=$(node -p 'path.dirname(path.dirname(fs.realpathSync(process.execPath)))')
cmake_js=$root/node_modules/.bin/cmake-js
if [ ! -x "$cmake_js" ]; then
  note "cmake-js is not installed: configuring with cmake"
  cmake_js=
elif [ ! -e "$nodedir/include/node/node.h" ]; then
  note "cmake-js would download Node's headers (none in $nodedir): configuring with cmake"
  cmake_js=
fi

configure() { # sanitizer; the cache goes, so that another compiler or generator than last time is no error
  rm -rf "$build/$1/CMakeCache.txt" "$build/$1/CMakeFiles"
  if [ -n "$cmake_js" ]; then
    npm_config_nodedir=$nodedir "$cmake_js" configure --directory "$root" --out "$build/$1" --config RelWithDebInfo \
      --cc "$cc" --cxx "$cxx" --CDKMS_SANITIZE="$1" --log-level warn
  else
    cmake -S "$root" -B "$build/$1" -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_C_COMPILER="$cc" -DCMAKE_CXX_COMPILER="$cxx" \
      -DKMS_SANITIZE="$1"
  fi
}

prepare() { # sanitizer; a build that fails is one failure and its programs do not run
  note "building for $1"
  rm -rf "$build/$1/programs"
  mkdir -p "$build/$1"
  if configure "$1" >"$build/$1.log" 2>&1 && cmake --build "$build/$1" --parallel "$(getconf _NPROCESSORS_ONLN)" >>"$build/$1.log" 2>&1; then
    return 0
  fi
  tail -n 60 "$build/$1.log"
  verdict "build for $1" 1
  return 1
}

run_tests() { # sanitizer, pattern of sources
  local source name
  for source in native/test/$2.cc; do
    name=$(basename "$source" .cc)
    note "$name ($1)"
    "$build/$1/programs/$name"
    verdict "$name ($1)" $?
  done
}

run_fuzzers() {
  local source name seeds status
  for source in native/fuzz/fuzz_*.cc; do
    name=$(basename "$source" .cc)
    seeds=$build/corpus/$name
    rm -rf "$seeds"
    mkdir -p "$seeds" "$build/crashes"
    if [ -d "native/fuzz/corpus/${name#fuzz_}" ]; then
      cp native/fuzz/corpus/"${name#fuzz_}"/* "$seeds"/
    else
      note "$name has no seed corpus in native/fuzz/corpus/${name#fuzz_}"
    fi
    note "$name for $fuzz_seconds s"
    "$build/fuzzer/programs/$name" -max_total_time="$fuzz_seconds" -timeout=5 -rss_limit_mb=1024 -print_final_stats=1 -verbosity=0 \
      -artifact_prefix="$build/crashes/$name-" "$seeds" >"$build/$name.log" 2>&1
    status=$?
    if [ "$status" -eq 0 ]; then grep number_of_executed_units "$build/$name.log"; else tail -n 60 "$build/$name.log"; fi
    verdict "$name" "$status"
  done
}

export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}
export TSAN_OPTIONS=${TSAN_OPTIONS:-halt_on_error=1:second_deadlock_stack=1}

# The published vectors, where they lie beside the checkout.
vectors=$root/../shared/vectors/wycheproof/aes_gcm_test.json
if [ -z "${KMS_WYCHEPROOF:-}" ] && [ -f "$vectors" ]; then
  mkdir -p "$build"
  node scripts/wycheproof.js "$vectors" "$build/wycheproof.txt" && export KMS_WYCHEPROOF=$build/wycheproof.txt
fi

if prepare address; then run_tests address '*'; fi
if compgen -G 'native/test/*_race.cc' >/dev/null; then
  if prepare thread; then run_tests thread '*_race'; fi
else
  note "SKIPPED: there is no native/test/*_race.cc, so nothing runs under TSan"
fi
if [ "$fuzzing" = yes ] && prepare fuzzer; then run_fuzzers; fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]

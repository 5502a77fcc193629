#!/usr/bin/env bash
# `make demo`: builds and runs two small web applications with strata, and shows what a second
# build, and one after a change, still have to do. Any expectation that fails ends it with 1.
#
#   STRATA_BIN=PATH   uses that program and compiles nothing
#   FRESH=1           begins with an empty store, so that every step runs
#   BASES=hub|stand-in   see scripts/base-images.sh
#   scripts/demo.sh clean   removes what the demo keeps in the cache directory
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

keep=${XDG_CACHE_HOME:-$HOME/.cache}/strata/demo
work=
server=

heading() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
say() { printf '%s\n' "$*"; }
die() { printf '\ndemo: %s\n' "$*" >&2; exit 1; }

gone() { # PID SECONDS
  for _ in $(seq "$2"0); do
    kill -0 "$1" 2>/dev/null || { wait "$1" 2>/dev/null || true; return 0; }
    sleep 0.1
  done
  return 1
}

# As `docker stop`: some programs have no handler for SIGTERM, and as process 1 of a container
# they then do not see it.
stop_server() {
  [[ -n $server ]] || return 0
  local pid=$server
  server=
  kill -TERM "$pid" 2>/dev/null || true
  if gone "$pid" 3; then say "(stopped)"; return; fi
  kill -KILL "$pid"
  disown "$pid" 2>/dev/null || true # no shell message about it
  gone "$pid" 5 || die "process $pid can not be stopped"
  say "(it takes no notice of SIGTERM: killed)"
}

clean_up() {
  [[ -z $server ]] || kill -KILL "$server" 2>/dev/null || true
  [[ -z $work ]] || rm -rf "$work"
}

answers() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

need_free_port() { # PORT
  ! answers "$1" || die "port $1 is in use on this machine: stop what listens there, then try again"
}

milliseconds() { echo $(($(date +%s%N) / 1000000)); }

build() { # NAME DIRECTORY: the log in $work/log, the time in $took
  local begin
  begin=$(milliseconds)
  say "\$ strata build -t $1 $2"
  "$strata" build -t "$1" "${contexts[@]}" "${proxies[@]}" --iidfile "$work/id" \
    --progress plain "$2" 2>&1 |
    tee "$work/log" || die "the build failed"
  took=$(($(milliseconds) - begin))
  say "took $took ms"
}

# A step that runs says why; one that does not is CACHED.
steps_that_ran() { grep -cE '^#[0-9]+ why: ' "$work/log" || true; }

need_all_cached() {
  local ran
  ran=$(steps_that_ran)
  ((ran == 0)) || die "the second build ran $ran steps"
  grep -q 'CACHED$' "$work/log" || die "the second build did not say that its steps are cached"
}

serve() { # NAME PORT EXPECTED: runs the image and reads its page
  local page
  need_free_port "$2"
  say "\$ strata run $1 &"
  "$strata" run "$1" >"$work/server.log" 2>&1 &
  server=$!
  for _ in $(seq 300); do
    ! answers "$2" || break
    kill -0 "$server" 2>/dev/null || { cat "$work/server.log" >&2; die "$1 ended by itself"; }
    sleep 0.1
  done
  say "\$ curl http://127.0.0.1:$2/"
  page=$(curl -fsS --noproxy '*' --max-time 10 "http://127.0.0.1:$2/") ||
    { cat "$work/server.log" >&2; die "http://127.0.0.1:$2/ does not answer"; }
  say "$page"
  grep -qF -- "$3" <<<"$page" || die "the page of $1 does not say: $3"
  stop_server
  for _ in 1 2 3 4 5; do answers "$2" || return 0; sleep 0.2; done
  die "$1 was stopped, and port $2 still answers"
}

prepare() {
  ((EUID == 0)) || die "RUN needs root for now: sudo env \"PATH=\$PATH\" make demo"
  need_free_port 3000
  need_free_port 8000
  strata=${STRATA_BIN:-}
  if [[ -z $strata ]]; then
    scripts/setup.sh demo
    heading "Compiling strata (RocksDB alone takes some ten minutes, the first time)"
    cargo build --release --workspace
    strata=${CARGO_TARGET_DIR:-target}/release/strata
  fi
  strata=$(realpath -m "$strata")
  [[ -x $strata ]] || die "there is no program $strata"
  [[ -z ${FRESH:-} ]] || rm -rf "$keep/store"
  mkdir -p "$keep"
  export STRATA_STORE=$keep/store
  work=$(mktemp -d)
  trap clean_up EXIT
  trap 'exit 130' INT TERM

  heading "Base images"
  local text
  text=$(STRATA=$strata scripts/base-images.sh) || die "there are no base images"
  read -r -d '' -a contexts <<<"$text" || true
  say "${text:-from Docker Hub}"
  # As with docker build: a proxy is for the commands, and is not part of what they are.
  proxies=()
  local name
  for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
    [[ -z ${!name:-} ]] || proxies+=(--build-arg "$name=${!name}")
  done
}

node_app() {
  local first app=$keep/node-app
  # A copy, as it will be changed; always in the same place, as that is what "the same project"
  # means when two builds are compared.
  rm -rf "$app"
  cp -r examples/node-app "$app"
  heading "1. A node application: the first build"
  build notes "$app"
  first=$(<"$work/id")
  (($(steps_that_ran))) ||
    say "(all of it is known from an earlier demo: FRESH=1 make demo begins with nothing)"

  heading "2. The same again: nothing to do"
  build notes "$app"
  [[ $(<"$work/id") == "$first" ]] || die "the second build gave another image"
  need_all_cached

  heading "3. One file changed: what runs, and why"
  say "(src/notes.js of a copy of the application)"
  sed -i "s/that strata built/that strata built again at $(date +%T.%N)/" \
    "$app/src/notes.js"
  build notes "$app"
  [[ $(<"$work/id") != "$first" ]] || die "a file changed and the image did not"
  grep -q 'src/notes.js' "$work/log" || die "the build did not name the file that changed"

  heading "4. The image runs"
  serve notes 3000 'that strata built again'
}

flask_app() {
  heading "5. A Python application: what a build would do"
  say "\$ strata plan examples/flask-app"
  "$strata" plan "${contexts[@]}" "${proxies[@]}" examples/flask-app || die "there is no plan"

  heading "6. Its build"
  build hello examples/flask-app

  heading "7. The same again"
  build hello examples/flask-app
  need_all_cached

  heading "8. The image runs"
  serve hello 8000 'Hello from flask'
}

if [[ ${1:-} == clean ]]; then
  rm -rf "$keep"
  exit 0
fi
prepare
node_app
flask_app
heading "Done"
say "The images are in $STRATA_STORE: STRATA_STORE=$STRATA_STORE $strata images"

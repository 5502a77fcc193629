#!/usr/bin/env bash
# Runs the tests that depend on rights once more, as an ordinary user made for it: root and a user
# take different ways through the kernel, and images must come out the same.
#
#   scripts/test-as-user.sh [TEST-BINARY...]   default: the sandbox's, the program's with commands
#   scripts/test-as-user.sh --delegated        only limits, in cgroups that the user was given
#
# The test programs are those that `cargo test --workspace --release` has made. The user sees them
# where they are, even below a home directory that is closed to others: in a mount namespace of
# this script's own, nothing of which is left.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

user=strata-test
wanted=("$@")
[[ ${1:-} != --delegated ]] || wanted=()
# A test binary, and which of its tests.
(($#)) || wanted=(
  strata-exec/sandbox
  'strata/images caches:: cases:: control:: extremes:: mounts:: rootless:: sandbox::'
  'strata/images foreign:: paths:: secrets:: shell:: tools::'
)

say() { echo "test-as-user: $*" >&2; }
((EUID == 0)) || { say "root is needed to become another user: left out"; exit 0; }

# A second start, in a mount namespace of its own.
if [[ -z ${STRATA_TEST_AS_USER:-} ]]; then
  command -v newuidmap >/dev/null || { say "uidmap is missing: scripts/setup.sh test"; exit 1; }
  id "$user" >/dev/null 2>&1 || useradd --create-home "$user"
  for kind in uids gids; do
    grep -q "^$user:" "/etc/sub${kind%s}" 2>/dev/null ||
      usermod "--add-sub$kind" 200000-265535 "$user"
  done
  STRATA_TEST_AS_USER=1 exec unshare --mount --propagation private "$0" "$@"
fi

target=$(cargo metadata --no-deps --format-version 1 | jq -r .target_directory)
mapfile -t binaries < <(
  cargo test --release --workspace --no-run --message-format json 2>/dev/null |
    jq -r 'select(.executable != null and .profile.test) |
      "\(.package_id | split("/") | last | split("#")[0])/\(.target.name) \(.executable)"'
)

# The folders above these paths that others may not enter are covered, and the paths show through.
# All of them are kept before the first folder is covered: it may be above several.
show() { # PATH...
  local path above part parts keep=()
  mkdir -p "/run/$user"
  mount -t tmpfs tmpfs "/run/$user"
  for path in "$@"; do
    keep+=("$(mktemp -d "/run/$user/XXXXXX")")
    mount --bind "$path" "${keep[-1]}"
  done
  for path in "$@"; do
    above=/
    IFS=/ read -ra parts <<<"${path#/}"
    for part in "${parts[@]}"; do
      above=${above%/}/$part
      if [[ -e $above ]] && ! runuser -u "$user" -- test -x "$above"; then
        mount -t tmpfs -o mode=755 tmpfs "$above"
        break
      fi
    done
    mkdir -p "$path"
    mount --bind "${keep[0]}" "$path"
    keep=("${keep[@]:1}")
  done
}
show "$PWD" "$target"

# Gives the user a cgroup for each limit that is tested, and puts this process one level below:
# in the second generation a cgroup with processes in it has no limited ones.
given=() before=()
delegate() {
  local controller own place
  for controller in pids memory; do
    own=$(awk -F: -v name="$controller" '$2 ~ "(^|,)" name "(,|$)" { print $3 }' /proc/self/cgroup)
    place=/sys/fs/cgroup/$controller$own
    if [[ -z $own ]]; then
      own=$(awk -F: '$1 == 0 { print $3 }' /proc/self/cgroup)
      own=/sys/fs/cgroup${own%/}
      place=$own
      [[ $own == /sys/fs/cgroup ]] || place=$(dirname "$own")
      echo "+$controller" 2>/dev/null >"$place/cgroup.subtree_control" || return 1
      before+=("$own/cgroup.procs")
    else
      before+=("$place/cgroup.procs")
    fi
    given+=("$place/$user.$$")
    mkdir -p "$place/$user.$$/own" 2>/dev/null || return 1
    chown -R "$user" "$place/$user.$$"
    echo $$ 2>/dev/null >"$place/$user.$$/own/cgroup.procs" || return 1
  done
}

take_back() {
  local place
  for place in "${before[@]}"; do echo $$ 2>/dev/null >"$place" || true; done
  for place in "${given[@]}"; do
    for _ in $(seq 50); do
      rmdir "$place/own" "$place" 2>/dev/null && break
      [[ -e $place ]] || break
      sleep 0.1
    done
  done
}

failed=
run() { # TEST-BINARY [FILTER...]
  local name=$1 line home found=
  shift
  for line in "${binaries[@]}"; do
    [[ ${line% *} == "$name" ]] || continue
    found=1
    say "$name as $(id "$user")"
    # One home for each, which is empty at the beginning.
    home=$(mktemp -d "/home/$user/test.XXXXXX")
    chown "$user:" "$home"
    timeout --kill-after 10 900 runuser -u "$user" -- env -i HOME="$home" TMPDIR="$home" \
      PATH="$PATH" RUST_BACKTRACE=1 "${settings[@]}" \
      bash -c 'cd "$1" && shift && exec "$@"' - "$PWD/crates/${name%/*}" "${line#* }" "$@" ||
      failed=1
    rm -rf "$home"
  done
  [[ -n $found ]] || { say "there is no test binary $name"; failed=1; }
}

settings=()
for line in "${wanted[@]}"; do
  read -ra words <<<"$line"
  run "${words[@]}"
done
if ((!$#)) || [[ $1 == --delegated ]]; then
  if delegate; then
    say "once more with cgroups of the user's own"
    settings=(STRATA_TEST_DELEGATED=1)
    run strata-exec/sandbox cgroup_limits_hold_or_say_why_not
  else
    say "no cgroup can be given to a user here: limits that a user sets are NOT tested"
  fi
  take_back
fi
[[ -z $failed ]] || { say "FAILED"; exit 1; }
say "all passed as $user"

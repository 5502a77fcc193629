#!/usr/bin/env bash
# Runs the tests that depend on rights once more, as an ordinary user made for it: root and a user
# take different ways through the kernel, and images must come out the same.
#
#   scripts/test-as-user.sh [TEST-BINARY...]   default: the sandbox's, the program's with commands
#
# The test programs are those that `cargo test --workspace --release` has made. The user sees them
# where they are, even below a home directory that is closed to others: in a mount namespace of
# this script's own, nothing of which is left.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

user=strata-test
wanted=("$@")
# A test binary, and which of its tests.
((${#wanted[@]})) || wanted=(
  strata-exec/sandbox
  'strata/images caches:: cases:: control:: extremes:: mounts:: rootless:: sandbox::'
  'strata/images secrets:: shell::'
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
  STRATA_TEST_AS_USER=1 exec unshare --mount --propagation private "$0" "${wanted[@]}"
fi

target=$(cargo metadata --no-deps --format-version 1 | jq -r .target_directory)
mapfile -t binaries < <(
  cargo test --release --workspace --no-run --message-format json 2>/dev/null |
    jq -r 'select(.executable != null and .profile.test) |
      "\(.package_id | split("/") | last | split("#")[0])/\(.target.name) \(.executable)"'
)

# The folders above a path that others may not enter are covered, and what is needed shows through.
show() { # PATH
  local path=$1 above=/ part
  runuser -u "$user" -- test -x "$path" && return
  mkdir -p "/run/$user"
  local keep
  keep=$(mktemp -d "/run/$user/XXXXXX")
  mount --bind "$path" "$keep"
  IFS=/ read -ra parts <<<"${path#/}"
  for part in "${parts[@]}"; do
    above=${above%/}/$part
    if ! runuser -u "$user" -- test -x "$above"; then
      mount -t tmpfs -o mode=755 tmpfs "$above"
      break
    fi
  done
  mkdir -p "$path"
  mount --bind "$keep" "$path"
}
show "$PWD"
show "$target"

failed=
for line in "${wanted[@]}"; do
  read -ra words <<<"$line"
  name=${words[0]} filters=("${words[@]:1}") found=
  for line in "${binaries[@]}"; do
    [[ ${line% *} == "$name" ]] || continue
    found=1
    say "$name as $(id "$user")"
    # One home for each, which is empty at the beginning.
    home=$(mktemp -d "/home/$user/test.XXXXXX")
    chown "$user:" "$home"
    timeout --kill-after 10 900 runuser -u "$user" -- env -i HOME="$home" TMPDIR="$home" PATH="$PATH" RUST_BACKTRACE=1 \
      bash -c 'cd "$1" && shift && exec "$@"' - "$PWD/crates/${name%/*}" "${line#* }" "${filters[@]}" ||
      failed=1
    rm -rf "$home"
  done
  [[ -n $found ]] || { say "there is no test binary $name"; failed=1; }
done
[[ -z $failed ]] || { say "FAILED"; exit 1; }
say "all passed as $user"

#!/usr/bin/env bash
# Prints the path of a static busybox for arm64, from Debian's packages: what the test of foreign
# platforms runs under an emulator. It is brought once.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

suite=bookworm
home=${XDG_CACHE_HOME:-$HOME/.cache}/strata-tests
program=$home/busybox-$suite-arm64

mkdir -p "$home"
exec 9>"$program.lock"
flock 9
if [[ ! -e $program ]]; then
  command -v mmdebstrap >/dev/null ||
    { echo "mmdebstrap is missing: scripts/setup.sh test" >&2; exit 1; }
  proxy=
  eval "$(apt-config shell proxy Acquire::http::Proxy 2>/dev/null)"
  # Check-Valid-Until: a mirror may be a dated copy; signatures are checked all the same.
  mmdebstrap --variant=extract --architectures=arm64 --include=busybox-static --format=tar --quiet \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --aptopt='Acquire::Languages "none"' \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    ${proxy:+--aptopt="Acquire::http::Proxy \"$proxy\""} \
    "$suite" "$program.tar" "$(./debian-mirror.sh)" >&2 </dev/null
  tar -xOf "$program.tar" ./bin/busybox >"$program.new"
  chmod 755 "$program.new"
  rm "$program.tar"
  mv "$program.new" "$program"
fi
echo "$program"

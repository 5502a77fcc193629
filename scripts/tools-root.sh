#!/usr/bin/env bash
# Prints the path of a tar with a Debian that has apt, npm, pip, cargo and git: what the test of real
# tools runs commands in. It is made once, of Debian's packages, which takes one to four minutes and
# needs root.
#
#   scripts/tools-root.sh DIRECTORY    where it is kept
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

suite=bookworm
packages=adduser,cargo,git,nodejs,npm,passwd,python3-pip,python3-setuptools,python3-wheel
tar=${1:?usage: scripts/tools-root.sh DIRECTORY}/tools-$suite-1.tar
if [[ -e $tar ]]; then
  echo "$tar"
  exit
fi

say() { echo "tools root: $*" >&2; }
((EUID == 0)) || { say "root is needed to make it"; exit 1; }
command -v mmdebstrap >/dev/null || { say "mmdebstrap is missing: scripts/setup.sh test"; exit 1; }
mkdir -p "$(dirname "$tar")"
exec 9>"$tar.lock"
flock 9
if [[ ! -e $tar ]]; then
  proxy=
  eval "$(apt-config shell proxy Acquire::http::Proxy 2>/dev/null)"
  mirror=$("$here/debian-mirror.sh")
  say "Debian packages from $mirror (one to four minutes, once)"
  # Check-Valid-Until: a mirror may be a dated copy; signatures are checked all the same.
  if ! mmdebstrap --variant=minbase --mode=root --quiet --format=tar \
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg \
    --aptopt='Acquire::Languages "none"' \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --aptopt='APT::Install-Recommends "false"' \
    ${proxy:+--aptopt="Acquire::http::Proxy \"$proxy\""} \
    --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' \
    --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' \
    --include="$packages" "$suite" "$tar.new" "$mirror" >"$tar.log" 2>&1 </dev/null; then
    tail -n 20 "$tar.log" >&2
    say "mmdebstrap failed, see $tar.log"
    exit 1
  fi
  chmod 644 "$tar.new"
  mv "$tar.new" "$tar"
fi
echo "$tar"

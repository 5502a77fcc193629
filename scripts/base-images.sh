#!/usr/bin/env bash
# Base images for the examples. Where Docker Hub answers there is nothing to do. Where it does
# not, this makes stand-ins from Debian's packages, under names of their own, and prints the
# arguments that make an unchanged Dockerfile build on them:
#
#   strata build $(scripts/base-images.sh) -t notes examples/node-app
#
# stdout: the arguments, or nothing. stderr: what is going on.
#
#   STRATA          the program (default: strata)
#   STRATA_STORE    the store that gets the images (default: strata's own)
#   BASES=hub|stand-in   skips the question whether Docker Hub answers
#   DEBIAN_MIRROR   where the packages come from
set -euo pipefail

strata=${STRATA:-strata}
cache=${XDG_CACHE_HOME:-$HOME/.cache}/strata/demo/rootfs
suite=bookworm
certificates=/usr/local/share/ca-certificates

say() { echo "base images: $*" >&2; }
die() { say "$*"; exit 1; }

hub_answers() {
  local status
  status=$(curl -s -o /dev/null --max-time 5 -w '%{http_code}' https://registry-1.docker.io/v2/) || true
  [[ $status == 200 || $status == 401 ]]
}

case ${BASES:-} in
  hub) exit 0 ;;
  stand-in) ;;
  '') if hub_answers; then say "Docker Hub answers: the Dockerfiles' own bases are used"; exit 0; fi ;;
  *) die "BASES is hub or stand-in" ;;
esac
say "Docker Hub does not answer from here. Stand-ins made of Debian $suite take the place of
  node:18-alpine and ubuntu:22.04: same commands, other files; sizes and times are not those of
  the images of these names."

mirror=$("$(dirname "${BASH_SOURCE[0]}")/debian-mirror.sh")

# Check-Valid-Until: a mirror may be a dated copy; signatures are checked all the same.
options=(--variant=minbase --mode=root --quiet
  --keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  --aptopt='Acquire::Languages "none"'
  --aptopt='Acquire::Check-Valid-Until "false"'
  --aptopt='APT::Install-Recommends "false"'
  --dpkgopt=force-unsafe-io
  --dpkgopt='path-exclude=/usr/share/doc/*'
  --dpkgopt='path-exclude=/usr/share/man/*'
  --dpkgopt='path-exclude=/usr/share/locale/*')
proxy=
eval "$(apt-config shell proxy Acquire::http::Proxy 2>/dev/null)"
[[ -z $proxy ]] || options+=("--aptopt=Acquire::http::Proxy \"$proxy\"")
# This machine's own CA certificates: its way to npm and PyPI may end in a proxy that needs them.
options+=(
  "--customize-hook=cp $certificates/*.crt \"\$1$certificates/\" 2>/dev/null || true"
  '--customize-hook=chroot "$1" update-ca-certificates >/dev/null'
  '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hostname"')

rootfs() { # NAME PACKAGES: makes the root file system's tar and prints its path
  local name=$1 packages=$2 id tar
  id=$({ echo "$suite $mirror $packages ${options[*]}"; cat "$certificates"/*.crt 2>/dev/null || true; } |
    sha256sum | cut -c 1-12)
  tar=$cache/$name-$id.tar
  if [[ ! -e $tar ]]; then
    ((EUID == 0)) || die "making a root file system needs root"
    command -v mmdebstrap >/dev/null || die "mmdebstrap is missing: scripts/setup.sh demo"
    say "$name: Debian packages from $mirror (one to four minutes, once)"
    if ! mmdebstrap "${options[@]}" --include="$packages" --format=tar \
      "$suite" "$tar.$$" "$mirror" >"$cache/$name.log" 2>&1 </dev/null; then
      rm -f "$tar.$$"
      tail -n 20 "$cache/$name.log" >&2
      die "$name: mmdebstrap failed, see $cache/$name.log"
    fi
    mv "$tar.$$" "$tar"
  fi
  echo "$tar"
}

stand_in() { # NAME TAR, further Dockerfile lines on stdin: prints the image's name
  local name=$1 tar=$2 base directory
  base=${tar##*-} base=strata.local/$name-rootfs:${base%.tar}
  if ! "$strata" inspect "$base" >/dev/null 2>&1; then
    say "$name: importing $(du -h "$tar" | cut -f 1)"
    "$strata" import "$tar" "$base" >&2
  fi
  directory=$(mktemp -d)
  { echo "FROM $base"; cat; } >"$directory/Dockerfile"
  if ! "$strata" build -t "strata.local/$name:stand-in" "$directory" 2>"$directory/log" >&2; then
    cat "$directory/log" >&2
    rm -rf "$directory"
    die "$name: strata could not build the stand-in"
  fi
  rm -rf "$directory"
}

mkdir -p "$cache"
# Both at once; each message stands for itself. Debian's npm, with its 300 packages, is left out:
# the example uses yarn.
rootfs debian-node18 ca-certificates,nodejs,yarnpkg >"$cache/node.path" & node=$!
rootfs debian-base ca-certificates >"$cache/base.path" & base=$!
failed=
wait $node || failed=1
wait $base || failed=1
[[ -z $failed ]] || exit 1

stand_in debian-node18 "$(<"$cache/node.path")" <<'END'
LABEL stand-in=debian
RUN ln -s yarnpkg /usr/bin/yarn
ENV NODE_EXTRA_CA_CERTS=/etc/ssl/certs/ca-certificates.crt
CMD ["node"]
END
# Debian's pip refuses to install system-wide, which Ubuntu 22.04's does not.
stand_in debian-base "$(<"$cache/base.path")" <<'END'
LABEL stand-in=debian
ENV PIP_BREAK_SYSTEM_PACKAGES=1
CMD ["/bin/bash"]
END
echo "--build-context node:18-alpine=docker-image://strata.local/debian-node18:stand-in"
echo "--build-context ubuntu:22.04=docker-image://strata.local/debian-base:stand-in"

#!/usr/bin/env bash
# Prints where Debian's packages come from: $DEBIAN_MIRROR, or else the mirror that this machine's
# own apt uses, if it is Debian's.
set -euo pipefail

mirror=${DEBIAN_MIRROR:-}
if [[ -z $mirror ]]; then
  mirror=$(apt-get indextargets --format '$(SITE)' \
    'Created-By: Packages' 'Origin: Debian' 'Component: main' 2>/dev/null | head -n 1) || true
fi
[[ $mirror == http* ]] || mirror=http://deb.debian.org/debian
echo "$mirror"

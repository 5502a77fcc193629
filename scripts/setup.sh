#!/usr/bin/env bash
# Installs what strata needs from Debian's or Ubuntu's packages: only what is missing, so that
# running it again costs nothing.
#
#   scripts/setup.sh build   to compile strata
#   scripts/setup.sh demo    that, and what `make demo` needs
#   scripts/setup.sh test    that, and what the tests need (the default)
set -euo pipefail

build=(g++ make pkg-config libclang-dev curl ca-certificates xz-utils)
demo=(mmdebstrap debian-archive-keyring)
tests=(openssh-client skopeo umoci podman runc busybox-static jq tar attr libcap2-bin bzip2 zstd git
  docker-registry python3-jsonschema uidmap python3-venv qemu-user-static)
# Clients of `strata serve`; those that are no Debian packages: scripts/cache-clients.sh.
clients=(ccache buildah gradle bazel-bootstrap python3-venv)
command -v npm >/dev/null || clients+=(nodejs npm)
# Other readers of what strata writes: used where the distribution has them.
readers=(crun)

say() { echo "setup: $*" >&2; }
die() { say "$*"; exit 1; }

missing() { # PACKAGE...: those that are not installed
  local package
  for package; do
    [[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
      echo "$package"
  done
}

as_root() {
  if ((EUID == 0)); then "$@"; return; fi
  command -v sudo >/dev/null || die "root is needed for: $* (and sudo is not there)"
  sudo "$@"
}

install_packages() { # PACKAGE...
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
    -o Dpkg::Use-Pty=0 --no-install-recommends "$@"
}

what=${1:-test}
case $what in
  build) wanted=("${build[@]}") ;;
  demo) wanted=("${build[@]}" "${demo[@]}") ;;
  test) wanted=("${build[@]}" "${demo[@]}" "${tests[@]}" "${clients[@]}") ;;
  *) die "usage: scripts/setup.sh build|demo|test" ;;
esac

if ! command -v apt-get >/dev/null || ! command -v dpkg-query >/dev/null; then
  die "this script knows only Debian and Ubuntu (apt-get). Elsewhere install by hand: a C++
compiler, make, pkg-config, libclang, curl; for the demo mmdebstrap; for the tests skopeo, umoci,
busybox (static), jq, attr, setcap"
fi

mapfile -t lacking < <(missing "${wanted[@]}")
updated=
if ((${#lacking[@]})); then
  say "installing: ${lacking[*]}"
  as_root apt-get update -qq && updated=1
  install_packages "${lacking[@]}"
fi
if [[ $what == test ]]; then
  mapfile -t lacking < <(missing "${readers[@]}")
  if ((${#lacking[@]})); then
    [[ -n $updated ]] || as_root apt-get update -qq
    for package in "${lacking[@]}"; do
      install_packages "$package" >/dev/null 2>&1 ||
        say "$package can not be installed here: tests that read images with it will say so"
    done
  fi
fi

# The S3 server of the tests: no distribution has one.
if [[ $what == test ]]; then
  "$(dirname "${BASH_SOURCE[0]}")/s3-server.sh" install
fi

# What the test of foreign platforms runs: no package of this machine's architecture has it.
if [[ $what == test ]]; then
  "$(dirname "${BASH_SOURCE[0]}")/foreign-program.sh" >/dev/null
fi

# What the test of real tools runs them in.
if [[ $what == test ]]; then
  scripts=$(dirname "${BASH_SOURCE[0]}")
  "$scripts/tools-root.sh" "${CARGO_TARGET_DIR:-$scripts/../target}/tmp" >/dev/null
fi

if ! command -v cargo >/dev/null; then
  die "Rust is missing (no cargo in PATH). Get it with
  curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh
then open a new shell, or: . \"\$HOME/.cargo/env\""
fi

# cargo-nextest runs each test in its own process, which is also what tells a hanging test from
# a slow one. Where it can not be had, `make test` says so and uses `cargo test`.
if [[ $what == test ]] && ! cargo nextest --version >/dev/null 2>&1; then
  say "installing cargo-nextest from crates.io (some minutes, once)"
  cargo install --locked cargo-nextest || say "cargo-nextest could not be installed"
fi
[[ $what != test ]] || "$(dirname "${BASH_SOURCE[0]}")/cache-clients.sh"
say "ready to $what"

#!/usr/bin/env bash
# Runs each fuzz target for some seconds (default 60 in all), on the stable toolchain: a smoke test
# for CI, not a campaign. The seeds are the Dockerfiles and ignore files of the other tests. What
# is found is left in the target directory, and the script fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

targets=(parse plan expand ignore add_tar)
seconds=$((${1:-60} / ${#targets[@]}))
root=${CARGO_TARGET_DIR:-$PWD/target}/fuzz
mkdir -p "$root"

# cargo-fuzz would only put these flags together; without a sanitizer they are stable ones.
export CARGO_TARGET_DIR=$root
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --manifest-path fuzz/Cargo.toml --release --target "$host" --bins

seed() { # TARGET FILE...: copies files into the target's corpus, by their places
  local target=$1 file
  shift
  mkdir -p "$root/corpus/$target"
  for file in "$@"; do cp "$file" "$root/corpus/$target/$(echo "$file" | tr / _)"; done
}
mapfile -t dockerfiles < <(find crates examples -name '*Dockerfile' -type f -not -path '*/target/*')
mapfile -t ignores < <(find crates examples -name '.dockerignore' -type f -not -path '*/target/*')
seed parse "${dockerfiles[@]}"
seed plan "${dockerfiles[@]}"
seed expand "${dockerfiles[@]}"
seed ignore "${ignores[@]}"
mkdir -p "$root/seed" && tar -C crates/strata-plan -cf "$root/seed/plain.tar" Cargo.toml src/lib.rs
gzip -kf "$root/seed/plain.tar"
seed add_tar "$root"/seed/plain.tar*

failed=
for target in "${targets[@]}"; do
  mkdir -p "$root/found/$target"
  log=$root/found/$target.log
  if "$root/$host/release/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
    -max_len=4096 -artifact_prefix="$root/found/$target/" "$root/corpus/$target" >"$log" 2>&1; then
    echo "$target: $(grep -E '^Done' "$log")"
  else
    failed=1
    grep -aE 'panicked|ERROR|SUMMARY' -A3 "$log" | head -20
    echo "$target: FAILED, see $log and $root/found/$target"
  fi
done
[[ -z $failed ]]

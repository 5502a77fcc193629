#!/usr/bin/env bash
# Runs each fuzz target for some seconds (default 60 in all), on the stable toolchain: a smoke test
# for CI, not a campaign. The seeds are the Dockerfiles and ignore files of the other tests. What
# is found is left in the target directory, and the script fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

targets=(parse plan expand ignore add_tar image wire)
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
make_images() { # DIRECTORY: an OCI layout and a Docker archive with the smallest of images
  rm -rf "$1"
  mkdir -p "$1/oci/blobs/sha256" "$1/docker"
  digest() { sha256sum "$1" | cut -d' ' -f1; }
  tar -b 1 -C crates/strata-plan -cf "$1/docker/layer.tar" Cargo.toml
  local layer config manifest oci=application/vnd.oci.image
  layer=$(digest "$1/docker/layer.tar")
  printf '{"architecture":"amd64","os":"linux","config":{"Env":["A=b"]},"rootfs":{"type":"layers",'`
    `'"diff_ids":["sha256:%s"]},"history":[{"created_by":"COPY"}]}' "$layer" >"$1/config.json"
  config=$(digest "$1/config.json")
  printf '{"schemaVersion":2,"mediaType":"%s.manifest.v1+json","config":{"mediaType":'`
    `'"%s.config.v1+json","digest":"sha256:%s","size":%d},"layers":[{"mediaType":"%s.layer.v1.tar",'`
    `'"digest":"sha256:%s","size":%d}]}' $oci $oci "$config" "$(wc -c <"$1/config.json")" $oci \
    "$layer" "$(wc -c <"$1/docker/layer.tar")" >"$1/manifest.json"
  manifest=$(digest "$1/manifest.json")
  printf '{"schemaVersion":2,"manifests":[{"mediaType":"%s.manifest.v1+json","digest":"sha256:%s",'`
    `'"size":%d,"platform":{"architecture":"amd64","os":"linux"}}]}' $oci "$manifest" \
    "$(wc -c <"$1/manifest.json")" >"$1/index.json"
  cp "$1/docker/layer.tar" "$1/oci/blobs/sha256/$layer"
  cp "$1/config.json" "$1/oci/blobs/sha256/$config"
  cp "$1/manifest.json" "$1/oci/blobs/sha256/$manifest"
  cp "$1/index.json" "$1/oci/"
  printf '{"imageLayoutVersion":"1.0.0"}' >"$1/oci/oci-layout"
  cp "$1/config.json" "$1/docker/"
  printf '[{"Config":"config.json","RepoTags":["a:1"],"Layers":["layer.tar"]}]' \
    >"$1/docker/manifest.json"
  tar -b 1 -C "$1/oci" -cf "$1/oci.tar" oci-layout index.json blobs
  tar -b 1 -C "$1/docker" -cf "$1/docker.tar" .
  printf 'registry.example:5000/team/app:1.0@sha256:%s' "$manifest" >"$1/name"
}
make_wire() { # DIRECTORY: what clients say to a server, as the target `wire` has it
  rm -rf "$1"
  mkdir -p "$1"
  local hash=e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 head='host: x\r\n'
  http() { # FILE METHOD PATH HEADERS [BODY]
    local body=${5:-}
    printf "$2 $3 HTTP/1.1\r\n$head$4content-length: ${#body}\r\n\r\n%s" "$body" >"$1"
  }
  http "$1/post" POST /v2/team/app/blobs/uploads/ ''
  http "$1/patch" PATCH /v2/team/app/blobs/uploads/UPLOADID 'content-range: 0-3\r\n' body
  http "$1/put" PUT "/v2/team/app/blobs/uploads/UPLOADID?digest=sha256:$hash" 'content-range: bytes 0-0/1\r\n' x
  http "$1/manifest" PUT /v2/team/app/manifests/v1 \
    'content-type: application/vnd.oci.image.manifest.v1+json\r\n' '{"schemaVersion":2,"layers":[]}'
  http "$1/range" GET /cache/space/key 'range: bytes=0-1\r\nif-none-match: "x"\r\n'
  http "$1/value" PUT /cache/space/key '' value
  http "$1/dav" PROPFIND /cache/space/ 'depth: 1\r\n'
  http "$1/cas" PUT "/instance/cas/$hash" 'authorization: Basic dTpw\r\n'
  http "$1/turbo" PUT '/v8/artifacts/abc?teamId=t' 'x-artifact-duration: 1\r\n' value
  http "$1/nx" PUT /v1/cache/abc 'content-type: application/octet-stream\r\n' value
  http "$1/actions" POST /twirp/github.actions.results.api.v1.CacheService/CreateCacheEntry \
    'content-type: application/json\r\n' '{"key":"k","version":"v"}'
  printf "PUT /cache/a/b HTTP/1.1\r\n${head}transfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n" \
    >"$1/chunked"
  printf 'g\t\n\x48blobs/%s/0' "$hash" >"$1/read"
  printf 'g\n\n\x52uploads/1/blobs/%s/1\x18\x01\x52\x01x' "$hash" >"$1/write"
  printf 'g\x03\x12\x44\x0a\x40%s\x10\x01' "$hash" >"$1/missing"
  printf 'm\x0a\x40%s\x10\x01' "$hash" >"$1/message"
  printf 'c%s\n' 'anonymous = "read"' 'body-limit = 9' '[[token]]' 'name = "a"' \
    'token = "0123456789abcdef"' 'scope = "write"' 'trust = 7' | sed '2,$s/^c//' >"$1/config"
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
make_images "$root/seed/images"
seed image "$root"/seed/images/*.tar "$root"/seed/images/*.json "$root"/seed/images/name
make_wire "$root/seed/wire"
seed wire "$root"/seed/wire/*

failed=
for target in "${targets[@]}"; do
  mkdir -p "$root/found/$target"
  log=$root/found/$target.log
  if "$root/$host/release/$target" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 \
    -max_len=16384 -artifact_prefix="$root/found/$target/" "$root/corpus/$target" >"$log" 2>&1; then
    echo "$target: $(grep -E '^Done' "$log")"
  else
    failed=1
    grep -aE 'panicked|ERROR|SUMMARY' -A3 "$log" | head -20
    echo "$target: FAILED, see $log and $root/found/$target"
  fi
done
[[ -z $failed ]]

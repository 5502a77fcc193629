#!/usr/bin/env bash
# What a RUN costs without a builder: `crun run` of `true`, as root, in a root file system that is
# stacked by overlayfs anew each time, with the namespaces, mounts and system call filter that strata
# gives to runtimes. Prints the milliseconds of each run's mean, for as many rounds as wanted.
#
#   benches/bare-crun.sh IMAGE [RUNS [ROUNDS [STRATA-BUILD-ARGUMENT...]]]    default: 100 and 1
#
# STRATA is the program [target/release/strata]. crun knows no machine with both generations of
# cgroups, and so sees only the second one here.
set -euo pipefail

image=$1 runs=${2:-100} rounds=${3:-1}
shift $(($# < 3 ? $# : 3))
strata=$(realpath "${STRATA:-target/release/strata}")
((EUID == 0)) || { echo "bare-crun: root is needed" >&2; exit 1; }
if [[ -z ${BARE_CRUN_INSIDE:-} ]]; then
  BARE_CRUN_INSIDE=1 exec unshare --mount --propagation private "$0" "$image" "$runs" "$rounds" "$@"
fi

work=$(mktemp -d)
trap 'umount -q "$work/root" || true; rm -rf "$work"' EXIT
mkdir "$work"/{context,lower,upper,work,root,bundle}
echo "FROM $image" >"$work/context/Dockerfile"
"$strata" build -q "$@" -o "$work/lower" "$work/context" >/dev/null

# A runtime that only keeps what it is given.
cat >"$work/runtime" <<END
#!/bin/sh
while [ \$# -gt 0 ]; do [ "\$1" = --bundle ] && cp "\$2/config.json" "$work/config"; shift; done
END
chmod 755 "$work/runtime"
printf 'FROM %s\nRUN true %s\n' "$image" "$work" >"$work/context/Dockerfile"
"$strata" build -q "$@" --oci-runtime "$work/runtime" "$work/context" >/dev/null
jq --arg root "$work/root" '.root.path = $root | .process.args = ["true"] |
  .mounts |= map(select(.source | startswith("/") | not))' "$work/config" >"$work/bundle/config.json"

umount --lazy --recursive /sys/fs/cgroup
mount -t cgroup2 none /sys/fs/cgroup
for ((round = 0; round < rounds; round++)); do
  begin=$(date +%s%N)
  for ((run = 0; run < runs; run++)); do
    mount -t overlay overlay "$work/root" \
      -o "lowerdir=$work/lower,upperdir=$work/upper,workdir=$work/work"
    crun --cgroup-manager=disabled run --bundle "$work/bundle" "bare-$$-$run"
    umount "$work/root"
  done
  echo $((($(date +%s%N) - begin) / runs / 10000)) | sed 's/..$/.&/'
done

#!/usr/bin/env bash
# An S3 server for tests: moto (PyPI), which keeps its buckets in memory.
#
#   scripts/s3-server.sh install      puts moto where this script finds it, once
#   scripts/s3-server.sh BUCKET...    prints its address, when the buckets are there; it ends with
#                                     its standard input, so that none outlives the test it is for
set -euo pipefail

version=5.2.1
home=${XDG_CACHE_HOME:-$HOME/.cache}/strata-tests/moto-$version

if [[ ${1:-} == install ]]; then
  mkdir -p "${home%/*}"
  exec 9>"$home.lock"
  flock 9
  [[ -e $home/ready ]] && exit 0
  rm -rf "$home"
  "$(PATH=/usr/bin:$PATH command -v python3)" -m venv "$home"
  "$home/bin/pip" install --quiet "moto[s3,server]==$version"
  touch "$home/ready"
  exit 0
fi
(($#)) || { echo "usage: scripts/s3-server.sh install|BUCKET..." >&2; exit 2; }
[[ -e $home/ready ]] || "$0" install >&2

# A single process; its buckets are those of the server's threads.
AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test exec "$home/bin/python" -c '
import logging, sys, urllib.request
from moto.server import ThreadedMotoServer

logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
address = "http://%s:%s" % server.get_host_and_port()
for bucket in sys.argv[1:]:
    urllib.request.urlopen(urllib.request.Request(address + "/" + bucket, method="PUT")).close()
print(address, flush=True)
sys.stdin.read()
server.stop()
' "$@"

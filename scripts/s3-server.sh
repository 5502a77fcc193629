#!/usr/bin/env bash
# An S3 server for tests: moto (PyPI), which keeps its buckets in memory; with S3_STATE=DIRECTORY
# its objects are files there, too, and are there again when it was killed. S3_PORT is its port.
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
import logging, os, sys, urllib.parse, urllib.request
from moto.s3.models import S3Backend
from moto.server import ThreadedMotoServer

state = os.environ.get("S3_STATE")


def file_of(bucket, key):
    return os.path.join(state, bucket, urllib.parse.quote(key, safe=""))


def remembering(put):
    def wrapper(self, bucket_name, key_name, value, *rest, **named):
        kept = put(self, bucket_name, key_name, value, *rest, **named)
        path = file_of(bucket_name, key_name)
        with open(path + ".new", "wb") as file:
            file.write(kept.value)
        os.rename(path + ".new", path)
        return kept
    return wrapper


def forgetting(delete):
    def wrapper(self, bucket_name, key_name, *rest, **named):
        gone = delete(self, bucket_name, key_name, *rest, **named)
        path = file_of(bucket_name, key_name)
        if os.path.exists(path):
            os.remove(path)
        return gone
    return wrapper


logging.getLogger("werkzeug").setLevel(logging.ERROR)
server = ThreadedMotoServer("127.0.0.1", int(os.environ.get("S3_PORT", "0")), verbose=False)
server.start()
address = "http://%s:%s" % server.get_host_and_port()
for bucket in sys.argv[1:]:
    urllib.request.urlopen(urllib.request.Request(address + "/" + bucket, method="PUT")).close()
    if state:
        os.makedirs(os.path.join(state, bucket), exist_ok=True)
        for name in os.listdir(os.path.join(state, bucket)):
            url = address + "/" + bucket + "/" + urllib.parse.quote(urllib.parse.unquote(name))
            with open(os.path.join(state, bucket, name), "rb") as file:
                body = file.read()
            if not name.endswith(".new"):
                binary = {"Content-Type": "application/octet-stream"}
                request = urllib.request.Request(url, body, binary, method="PUT")
                urllib.request.urlopen(request).close()
if state:
    S3Backend.put_object = remembering(S3Backend.put_object)
    S3Backend.delete_object = forgetting(S3Backend.delete_object)
print(address, flush=True)
sys.stdin.read()
server.stop()
' "$@"

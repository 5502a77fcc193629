#!/usr/bin/env bash
# Real tools inside RUN: apt-get, npm, pip, cargo and git, each with a repository that lies in the
# build context, so that no network decides. Prints one line for each step and builder, in seconds.
#
#   benches/real-tools.sh BASE BUILD-COMMAND...
#
#   benches/real-tools.sh tools strata build
#   runuser -u somebody -- benches/real-tools.sh tools strata build
#   benches/real-tools.sh tools docker build --network host
#   benches/real-tools.sh tools buildah build --network host --layers
#
# BASE is an image with apt, npm, pip, cargo and git, known to the builder; `--base` makes one of
# `debian:bookworm-slim` with the build command, which is apt-get with some hundred packages:
#
#   benches/real-tools.sh --base strata build -t tools
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/context" "$work/logs"
cd "$work/context"

if [[ $1 == --base ]]; then
  shift
  cat >Dockerfile <<'END'
FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends nodejs npm python3-pip cargo git
END
  time "$@" .
  exit
fi
base=$1
shift

# apt: a package that makes a user and gives it files, as services' packages do.
mkdir -p deb/DEBIAN deb/usr/share/greeting apt
echo hello >deb/usr/share/greeting/text
printf '%s\n' 'Package: greeting' 'Version: 1.0' 'Architecture: all' 'Maintainer: nobody <n@localhost>' \
  'Depends: adduser' 'Description: says hello' >deb/DEBIAN/control
cat >deb/DEBIAN/postinst <<'END'
#!/bin/sh
set -e
useradd --system greeter
chown -R greeter:games /usr/share/greeting
chmod 2750 /usr/share/greeting
END
chmod 755 deb/DEBIAN/postinst
dpkg-deb --root-owner-group --build deb apt/greeting.deb >/dev/null
{
  cat deb/DEBIAN/control
  echo "Filename: ./greeting.deb"
  echo "Size: $(stat -c %s apt/greeting.deb)"
  echo "SHA256: $(sha256sum apt/greeting.deb | cut -d ' ' -f 1)"
} >apt/Packages

# npm: an application with a package beside it that has a script and a program.
mkdir -p npm/app npm/dep
echo '{"name":"app","version":"1.0.0","dependencies":{"dep":"file:../dep"}}' >npm/app/package.json
echo '{"name":"dep","version":"1.0.0","main":"i.js","bin":{"dep":"i.js"}}' >npm/dep/package.json
printf '#!/usr/bin/env node\nconsole.log("hello");\n' >npm/dep/i.js
chmod 755 npm/dep/i.js

# pip: a source package; its build needs setuptools, which the base has.
mkdir -p pip/greeting
printf '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n[project]\nname = "greeting"\nversion = "1.0"\n[project.scripts]\ngreeting = "greeting:main"\n[tool.setuptools]\npackages = ["greeting"]\n' >pip/pyproject.toml
printf 'def main():\n    print("hello")\n' >pip/greeting/__init__.py

# cargo: a workspace of two crates.
mkdir -p cargo/app/src cargo/dep/src
printf '[workspace]\nmembers = ["app", "dep"]\n' >cargo/Cargo.toml
printf '[package]\nname = "app"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\ndep = { path = "../dep" }\n' >cargo/app/Cargo.toml
printf 'fn main() {\n    println!("{}", dep::hello());\n}\n' >cargo/app/src/main.rs
printf '[package]\nname = "dep"\nversion = "0.1.0"\nedition = "2021"\n' >cargo/dep/Cargo.toml
printf 'pub fn hello() -> &'"'"'static str {\n    "hello"\n}\n' >cargo/dep/src/lib.rs

# git: a repository with history and a submodule's worth of files.
mkdir repo
git -C repo init -q
for number in $(seq 200); do echo "$number" >"repo/$number"; done
git -C repo add -A
git -C repo -c user.name=n -c user.email=n@localhost commit -q -m all
git clone -q --bare repo repo.git
rm -rf repo deb

step() { # NAME RUN-TEXT
  printf 'FROM %s\nRUN %s\n' "$base" "$2" >"../logs/Dockerfile.$1"
  local begin end
  begin=$(date +%s%N)
  if ! "${builder[@]}" -f "../logs/Dockerfile.$1" -t "real-$1" . >"../logs/$1" 2>&1; then
    cat "../logs/$1" >&2
    echo "$1 FAILED"
    return 1
  fi
  end=$(date +%s%N)
  echo "$1 $(((end - begin) / 1000000)) ms"
}
builder=("$@")
salt="echo $(date +%s%N)"
step nothing "$salt"
step apt "--mount=target=/context $salt && echo 'deb [trusted=yes] file:/context/apt ./' >/etc/apt/sources.list.d/local.list && \
apt-get update -o Dir::Etc::sourcelist=sources.list.d/local.list -o Dir::Etc::sourceparts=- && \
apt-get install -y greeting && [ \"\$(stat -c '%U %G %a' /usr/share/greeting)\" = 'greeter games 2750' ]"
step npm "--mount=target=/context,rw $salt && cp -r /context/npm /srv && cd /srv/npm/app && npm install --offline && [ \$(node_modules/.bin/dep) = hello ]"
step pip "--mount=target=/context,rw $salt && PIP_BREAK_SYSTEM_PACKAGES=1 pip install --no-index --no-build-isolation /context/pip && [ \$(greeting) = hello ]"
step cargo "--mount=target=/context $salt && cp -r /context/cargo /srv && cd /srv/cargo && cargo build --offline --release && [ \$(target/release/app) = hello ]"
step git "--mount=target=/context $salt && git -c safe.directory='*' clone -q /context/repo.git /srv/clone && [ \$(cat /srv/clone/200) = 200 ] && git -C /srv/clone status --porcelain | wc -l | grep -q ^0"

#!/usr/bin/env bash
# Whole-program tests: real processes on loopback addresses or in network
# namespaces of their own, SIGKILL, the real AWS CLI. Needs root, for these and to
# install what is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "$(id -u)" -ne 0 ]; then
  echo "make e2e needs root" >&2
  exit 1
fi
missing=()
command -v aws >/dev/null || missing+=(awscli)
command -v ip >/dev/null || missing+=(iproute2)
command -v strace >/dev/null || missing+=(strace)
command -v dnf >/dev/null || missing+=(dnf)
command -v zypper >/dev/null || missing+=(zypper)
command -v rpmbuild >/dev/null || missing+=(rpm)
command -v createrepo_c >/dev/null || missing+=(createrepo-c)
if [ "${#missing[@]}" -gt 0 ]; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -qy "${missing[@]}"
fi
# The package managers of other families, with a database of their own. Debian's zypper and dnf-plugins-core
# exclude each other: the latter is only unpacked.
plugins=$PWD/bin/dnf-plugins-core
if [ ! -d "$plugins" ]; then
  mkdir -p "$plugins.new"
  (cd "$plugins.new" && apt-get update -q && apt-get download -q dnf-plugins-core && dpkg-deb -x dnf-plugins-core_*.deb .)
  mv "$plugins.new" "$plugins"
fi
PATCHER_DNF_PLUGINS=$plugins go test -tags e2e -count=1 -timeout 10m -run '^Test(DNF|Zypper|RPM)' ./patcher
exec go test -tags e2e -count=1 -timeout 20m ./test/e2e/

#!/usr/bin/env bash
# Measures a mesh beside floors and peers; `make bench` builds what it needs.
# BENCH is full, quick, or a list of tables. Peers are installed from the
# distribution's packages where root asks for them; those that are not there are
# left out, and the results say so.
set -euo pipefail
cd "$(dirname "$0")/../.."
which=${BENCH:-full}
peers() {
  case "$which" in
  full | *rivals* | *membership* | *store* | *patch*) true ;;
  *) false ;;
  esac
}
missing=()
need() { [ -x "$(PATH=$PATH:/usr/sbin command -v "$1" || true)" ] || missing+=("$2"); }
need serf serf
need etcd etcd-server
need clush clustershell
need ansible ansible-core
need sshd openssh-server
need ssh openssh-client
need dnf dnf
need rpmbuild rpm
if peers && [ "${#missing[@]}" -gt 0 ] && [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  # Packages come without starting their services.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
    trap 'rm -f "$policy"' EXIT
  fi
  echo "installing peers: ${missing[*]}"
  apt-get update -q >/dev/null || echo "apt-get update failed; going on with what is known" >&2
  for package in "${missing[@]}"; do
    DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$package" >/dev/null ||
      echo "$package cannot be installed; its rows are left out" >&2
  done
fi
bin/bench -tables "$which" -bin bin -out bench

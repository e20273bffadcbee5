#!/usr/bin/env bash
# Whole-program tests: real processes on loopback addresses, SIGKILL, the real
# AWS CLI. Needs root, to install what is missing.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [ "$(id -u)" -ne 0 ]; then
  echo "make e2e needs root" >&2
  exit 1
fi
if ! command -v aws >/dev/null; then
  apt-get update -q
  DEBIAN_FRONTEND=noninteractive apt-get install -qy awscli
fi
exec go test -tags e2e -count=1 -timeout 20m ./test/e2e/

#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0
#
# Runs MCM's integration framework on this provider, in private PID and network
# namespaces; see test/integration. Ends with "10/10 specs passed", or fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# need PROGRAM PACKAGE: the framework calls these programs itself.
need() {
  command -v "$1" >/dev/null && return
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get install -y --no-install-recommends "$2" >/dev/null && return
  fi
  echo "integration: missing: $1 (Debian package $2)" >&2
  exit 1
}
need make make
need ps procps
need unshare util-linux

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/integration" ./test/integration
"$bin/integration"

#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0
#
# Checks that what building and testing needs is there: Go, and a few programs of
# every Linux distribution. As root on Debian or Ubuntu it installs the missing
# ones; otherwise it prints one line that says what is missing, and fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Program, and the Debian package that holds it.
needed=(
  "git git"
  "make make"
  "cc gcc"               # the race detector
  "flock util-linux"     # hack/controlplane.sh
  "sha256sum coreutils"  # hack/controlplane.sh
  "unshare util-linux"   # the integration framework runs in namespaces of its own
  "ps procps"            # the integration framework looks for processes
  "e2fsck e2fsprogs"     # the tests of pkg/image/ext4 let others judge its disks,
  "qemu-img qemu-utils"  # those of pkg/image/vmdk as well,
  "qemu-system-x86_64 qemu-system-x86" # and those of test/boot boot them
)

PATH=$PATH:/usr/sbin:/sbin # where users other than root do not look
programs=()
packages=()
for line in "${needed[@]}"; do
  read -r program package <<<"$line"
  if ! command -v "$program" >/dev/null; then
    programs+=("$program")
    packages+=("$package")
  fi
done
# The race detector needs the C library's headers, which gcc alone does not bring.
if command -v cc >/dev/null && ! echo '#include <stdlib.h>' | cc -E -o /dev/null - 2>/dev/null; then
  programs+=("stdlib.h")
  packages+=("libc6-dev")
elif ! command -v cc >/dev/null; then
  packages+=("libc6-dev")
fi

if [ ${#packages[@]} -gt 0 ]; then
  if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
    echo "prerequisites: missing: ${programs[*]} (Debian packages: ${packages[*]})" >&2
    exit 1
  fi
  echo "prerequisites: installing ${packages[*]}" >&2
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -q >/dev/null
  apt-get install -q -y --no-install-recommends "${packages[@]}" >/dev/null
fi

want=$(sed -n 's/^go \([0-9.]*\)$/\1/p' go.mod)
if ! command -v go >/dev/null; then
  echo "prerequisites: missing: go $want or newer, from https://go.dev/dl" >&2
  exit 1
fi
# With GOTOOLCHAIN=local an old Go refuses; otherwise it fetches the right one.
if ! go list -m >/dev/null 2>&1; then
  echo "prerequisites: go $want or newer is needed, this one is $(GOTOOLCHAIN=local go env GOVERSION)" >&2
  exit 1
fi

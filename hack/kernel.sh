#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0
#
# Fetches Debian's kernel for virtual machines, which the tests of root disks boot,
# and prints the directory it is in: vmlinuz, and modules below lib/modules.
# Progress goes to stderr, the directory is the only line on stdout.
#
# It is unpacked into the user's cache, not installed, so that a second call only
# prints. Calls at the same time wait for the first one. A directory that is not
# complete is never printed.
set -euo pipefail

name=machine-controller-manager-provider-vch
meta=linux-image-cloud-amd64

say() { printf 'kernel: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

cache=${XDG_CACHE_HOME:-$HOME/.cache}/$name
mkdir -p "$cache"
exec 9>"$cache/kernel.lock"
if ! flock -n 9; then
  say "another call fetches it, waiting"
  flock 9
fi

# Any kernel does: the newest that is here.
newest() { find "$cache" -mindepth 2 -maxdepth 2 -path '*/kernel-*/complete' -printf '%h\n' | sort -V | tail -1; }
dir=$(newest)
if [ -n "$dir" ]; then
  printf '%s\n' "$dir"
  exit 0
fi

for tool in apt-get apt-cache dpkg; do
  command -v "$tool" >/dev/null || die "missing: $tool. The kernel comes from Debian's package $meta; a directory with vmlinuz and lib/modules of another one can be named by BOOT_KERNEL_DIR"
done
package() { apt-cache depends "$meta" 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -1; }
wanted=$(package)
if [ -z "$wanted" ] && [ "$(id -u)" = 0 ]; then
  say "asking for the newest $meta"
  apt-get update -q >/dev/null
  wanted=$(package)
fi
[ -n "$wanted" ] || die "apt knows no package $meta: run this once as root on Debian, or name a directory with vmlinuz and lib/modules by BOOT_KERNEL_DIR"

work=$(mktemp -d "$cache/kernel.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# apt downloads into the working directory, as a user of its own when it can.
chmod 755 "$work"
say "fetching $wanted"
if ! (cd "$work" && apt-get download -q "$wanted" >download.log 2>&1 9>&-); then
  # What is known of the archive may be older than the archive.
  [ "$(id -u)" = 0 ] || { cat "$work/download.log" >&2; die "fetching $wanted failed: what apt knows may be old, run apt-get update as root"; }
  apt-get update -q >/dev/null
  wanted=$(package)
  (cd "$work" && apt-get download -q "$wanted" >download.log 2>&1 9>&-) || { cat "$work/download.log" >&2; die "fetching $wanted failed"; }
fi
dpkg -x "$work"/*.deb "$work/package"
version=${wanted#linux-image-}
mkdir -p "$work/kernel/lib"
mv "$work/package/boot/vmlinuz-$version" "$work/kernel/vmlinuz"
modules=$work/package/lib/modules
[ -d "$modules" ] || modules=$work/package/usr/lib/modules
mv "$modules" "$work/kernel/lib/"
touch "$work/kernel/complete"
dir=$cache/kernel-$version
rm -rf "$dir"
mv "$work/kernel" "$dir"
say "ready in $dir"
printf '%s\n' "$dir"

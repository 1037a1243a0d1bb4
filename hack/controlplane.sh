#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0
#
# Builds the programs of test/controlplane and prints the directory they are in.
# Progress goes to stderr, the directory is the only line on stdout.
#
# What was built is kept in the user's cache under a key of everything that
# decides the result, so a second call only prints. Calls at the same time wait
# for the first one. A directory that is not complete is never printed.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
module=$(dirname "$here")/test/controlplane
name=machine-controller-manager-provider-vch

# Program, and the package that it is built from.
programs=(
  "etcd go.etcd.io/etcd/server/v3"
  "kube-apiserver k8s.io/kubernetes/cmd/kube-apiserver"
  "kube-controller-manager k8s.io/kubernetes/cmd/kube-controller-manager"
  "kubectl k8s.io/kubernetes/cmd/kubectl"
  "kubemark k8s.io/kubernetes/cmd/kubemark"
  "machine-controller-manager github.com/gardener/machine-controller-manager/cmd/machine-controller-manager"
)

say() { printf 'controlplane: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

for tool in go flock sha256sum; do
  command -v "$tool" >/dev/null || die "missing: $tool"
done

# kubectl and MCM parse the server's version, so it has to be stamped.
# A program that is linked with GOFLAGS or GOOS of the caller would not be what the key says.
export CGO_ENABLED=0 GOWORK=off GOFLAGS=-mod=readonly
unset GOOS GOARCH
go=$(cd "$module" && go version)
version=$(cd "$module" && go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${version#v*.}
stamp=k8s.io/component-base/version
ldflags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*}"

key=$({ cat "$module/go.mod" "$module/go.sum" "${BASH_SOURCE[0]}"; printf '%s\n' "$go"; } | sha256sum | cut -c1-16)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/$name/controlplane
dir=$cache/$key
mkdir -p "$cache"

exec 9>"$cache/$key.lock"
if ! flock -n 9; then
  say "another build is under way, waiting for it"
  flock 9
fi
if [ -e "$dir/complete" ]; then
  printf '%s\n' "$dir"
  exit 0
fi

# Runs one build; says every 15 seconds how far it is.
build() { # number program package
  local start=$SECONDS log=$work/$2.log ticks=0
  (cd "$module" && exec go build -v -trimpath -buildvcs=false -ldflags "$ldflags" -o "$work/$2" "$3") >"$log" 2>&1 9>&- &
  builder=$!
  while kill -0 "$builder" 2>/dev/null; do
    sleep 0.5 9>&-
    ticks=$((ticks + 1))
    if [ $((ticks % 30)) = 0 ]; then
      say "  $2: $((SECONDS - start)) s, $(grep -cv '^go: downloading' "$log" || true) packages compiled, $(grep -c '^go: downloading' "$log" || true) modules fetched"
    fi
  done
  if ! wait "$builder"; then
    tail -20 "$log" >&2
    die "building $2 from $3 failed"
  fi
  builder=
  rm -f "$log"
  say "[$1/${#programs[@]}] $2 built in $((SECONDS - start)) s"
}

builder=
work=$(mktemp -d "$cache/$key.XXXXXX")
trap 'if [ -n "$builder" ]; then kill "$builder" 2>/dev/null || true; fi; rm -rf "$work"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "building the control plane (Kubernetes $version); the first time takes 4 to 10 minutes"
number=0
for program in "${programs[@]}"; do
  number=$((number + 1))
  build "$number" ${program}
done
touch "$work/complete"
rm -rf "$dir"
mv "$work" "$dir"

# Results of earlier keys are of no use any more unless someone just built them.
find "$cache" -mindepth 1 -maxdepth 1 ! -name "$key*" -mtime +30 -exec rm -rf {} +
say "ready in $dir"
printf '%s\n' "$dir"

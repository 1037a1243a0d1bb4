#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0
#
# Lints the protocol and generates its Go code, pkg/api/cmi/v1, with buf.yaml and
# buf.gen.yaml. protoc-gen-go has the version of google.golang.org/protobuf in go.mod.
# The tools are built once, which takes some minutes, and kept in the user's cache;
# with them in place, nothing here needs the network.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source hack/versions.sh

protobuf=$(go list -m -f '{{.Version}}' google.golang.org/protobuf)
bin=${XDG_CACHE_HOME:-$HOME/.cache}/machine-controller-manager-provider-vch/bin
mkdir -p "$bin"
# Builds that are cut off leave nothing in the cache that looks whole.
work=$(mktemp -d "$bin/build.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/path"

# Puts a tool of one version on the path, where buf looks for its plugins by name.
tool() { # package version
  local name=${1##*/}
  if [ ! -x "$bin/$name-$2" ]; then
    echo "update-proto: building $name $2; all tools together take some minutes" >&2
    GOBIN=$work go install "$1@$2"
    mv "$work/$name" "$bin/$name-$2"
  fi
  ln -s "$bin/$name-$2" "$work/path/$name"
}
tool github.com/bufbuild/buf/cmd/buf "$BUF_VERSION"
tool google.golang.org/protobuf/cmd/protoc-gen-go "$protobuf"
tool google.golang.org/grpc/cmd/protoc-gen-go-grpc "$PROTOC_GEN_GO_GRPC_VERSION"

export PATH=$work/path:$PATH BUF_CACHE_DIR=$work/cache
buf lint
buf generate

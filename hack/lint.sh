#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0
#
# Lints, with .golangci.yml; formatting is part of it. Arguments go to the linter:
#   hack/lint.sh --fix ./pkg/vcenter/...
# The linter is built once, which takes some minutes, and kept in the user's cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source hack/versions.sh

bin=${XDG_CACHE_HOME:-$HOME/.cache}/machine-controller-manager-provider-vch/bin
linter=$bin/golangci-lint-$GOLANGCI_LINT_VERSION
if [ ! -x "$linter" ]; then
  echo "lint: building golangci-lint $GOLANGCI_LINT_VERSION, this takes some minutes" >&2
  mkdir -p "$bin"
  # A directory of its own, so that a build that is cut off leaves nothing that looks whole.
  build=$(mktemp -d "$bin/build.XXXXXX")
  trap 'rm -rf "$build"' EXIT
  GOBIN=$build go install "github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$GOLANGCI_LINT_VERSION"
  mv "$build/golangci-lint" "$linter"
fi

"$linter" run "$@"

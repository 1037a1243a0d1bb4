#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0
#
# Runs the demo; see test/demo. --keep leaves everything running, --sidecar has the
# driver as a gRPC plugin.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
hack/prerequisites.sh

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/demo" ./test/demo
"$bin/demo" "$@"

#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0
#
# Runs MCM's integration framework on this provider, with the driver in the
# machine-controller and as a sidecar at the same time, in private PID and network
# namespaces; see test/integration. Ends with "10/10 specs passed" for each, or fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

hack/prerequisites.sh

bin=$(mktemp -d)
trap 'rm -rf "$bin"' EXIT
go build -o "$bin/integration" ./test/integration
"$bin/integration"

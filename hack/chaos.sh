#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0
#
# Runs test/chaos for longer than the test suites do; see docs/chaos.md. Variables:
#
#   CHAOS_MODE      long (default): a run of all kinds of faults, with samples of memory,
#                   goroutines and sessions; soak: a longer one of the kinds that leave the
#                   programs running, which fails if one of those grows; drill: one kind after
#                   the other; short: the run of the test suites
#   CHAOS_SEED      what to draw the faults from (default: the time, which is printed)
#   CHAOS_MACHINES  number of machines (default: 200; in a soak 50, in a drill 4)
#   CHAOS_MINUTES   how long there are faults (default: 10; in a soak 30)
#   CHAOS_SECONDS   in a drill, how long each fault lasts (default: 20)
#   CHAOS_KINDS     names of the kinds, with spaces between them (default: all)
#   CHAOS_RESTART   not empty: the machine-controller is started again after the faults, so that
#                   the recovery is not MCM's waiting
#   CHAOS_NODES     not empty: machines join as hollow nodes, a process each
#   CHAOS_OUT       directory for the samples, as CSV and SVG, and for the programs' logs
#                   if the run fails (default: a new one in the temporary directory)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
hack/prerequisites.sh

export CHAOS_MODE=${CHAOS_MODE:-long}
CHAOS_OUT=${CHAOS_OUT:-$(mktemp -d -t chaos-XXXXXX)}
mkdir -p "$CHAOS_OUT"
CHAOS_OUT=$(cd "$CHAOS_OUT" && pwd) # the test runs in another directory
export CHAOS_OUT
E2E_CONTROLPLANE_DIR=$(hack/controlplane.sh)
export E2E_CONTROLPLANE_DIR

code=0
go test -count=1 -timeout 0 -v ./test/chaos/runs || code=$?
echo "chaos: samples and logs are in $CHAOS_OUT"
exit $code

#!/usr/bin/env bash
# SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
# SPDX-License-Identifier: Apache-2.0
#
# Runs the test suites, all of them or those that are named:
#   hack/test.sh [unit] [e2e] [chaos] [integration]
#
#   unit         all packages with the race detector: unit tests, conformance of
#                the SPI implementations, the provider on a simulated vCenter,
#                layers and manifests
#   e2e          test/e2e: real API server, real MCM, nodes that join
#   chaos        test/chaos: two minutes of an installation under faults, by a fixed seed;
#                hack/chaos.sh does it for longer
#   integration  MCM's own integration framework, in namespaces of its own, with the
#                driver in the machine-controller and as a sidecar
#
# A suite that fails does not keep the next ones from running; the last lines say
# how each ended, and the exit code is 0 only if all passed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
hack/prerequisites.sh

unit() {
  local all packages kernel
  kernel=$(hack/kernel.sh) || return 1
  all=$(go list ./...) || return 1
  packages=$(grep -v -e '/test/e2e$' -e '/test/chaos/runs$' -e '/test/integration/controller$' <<<"$all")
  # shellcheck disable=SC2086 # one word per package
  BOOT_KERNEL_DIR=$kernel CGO_ENABLED=1 go test -race -shuffle=on -timeout 30m -skip '(UnderFaults|AtFullSize)$' $packages || return 1
  # Thousands of operations one after the other: the race detector would find
  # nothing in them and make them take half an hour.
  go test -count=1 -timeout 30m -run 'UnderFaults$' ./pkg/spi/... ./pkg/image/... ./pkg/volume/... ./test/conformance ./test/volumes || return 1
  # The largest images that may be: the race detector has memory of its own, and
  # these measure memory.
  go test -count=1 -timeout 20m -run 'AtFullSize$' ./pkg/image/disk ./test/rootdisk
}

e2e() {
  # Built first, so that the time limit is for the tests alone.
  local controlplane
  controlplane=$(hack/controlplane.sh) || return 1
  E2E_CONTROLPLANE_DIR=$controlplane go test -count=1 -timeout 30m -v ./test/e2e
}

chaos() {
  local controlplane
  controlplane=$(hack/controlplane.sh) || return 1
  # It takes three minutes; a busy computer and MCM's waits may make it many times that.
  CHAOS_MODE=short E2E_CONTROLPLANE_DIR=$controlplane go test -count=1 -timeout 60m -v ./test/chaos/runs
}

integration() { hack/integration.sh; }

suites=("$@")
[ $# -gt 0 ] || suites=(unit e2e chaos integration)
for suite in "${suites[@]}"; do
  case $suite in
    unit | e2e | chaos | integration) ;;
    *)
      echo "test: no suite $suite; there are unit, e2e, chaos and integration" >&2
      exit 2
      ;;
  esac
done

results=()
code=0
for suite in "${suites[@]}"; do
  echo "=== $suite"
  begin=$SECONDS
  if "$suite"; then
    results+=("$suite: passed ($((SECONDS - begin)) s)")
  else
    results+=("$suite: FAILED ($((SECONDS - begin)) s)")
    code=1
  fi
done
echo "=== summary"
printf '%s\n' "${results[@]}"
exit $code

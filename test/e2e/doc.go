// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package e2e tests the whole installation: the real API server, the real MCM,
// this project's machine-controller with the rights of the manifests in
// kubernetes/, and a simulated vCenter whose machines really join as nodes.
//
// All tests share one control plane; each has an installation of its own (see
// test/stack) and they run at the same time, because most of their time is MCM
// waiting: deleting a machine takes it 15 to 30 seconds. That is why these are
// plain parallel tests: ginkgo runs the specs of one process one after another.
//
// The package needs the programs of hack/controlplane.sh and builds them if
// E2E_CONTROLPLANE_DIR does not name a directory that has them. It never skips.
package e2e

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
// All of them run in both modes at the same time: with the driver as a part of
// the machine-controller and as a sidecar, for a mistake in the way between the two
// can show in any of them. Where the modes differ:
//
//   - Without a target cluster, the sidecar alone knows how to reach the vCenter.
//     With one, the credentials come over the socket, and no log may show them.
//   - Only one installation of a cluster can make machines join, so the joining
//     sidecar has a control plane of its own.
//   - A crash of the controllers leaves the sidecar alive. Its own crashes, under
//     load, are what TestAKilledDriverLosesNothing is about.
//
// The package needs the programs of hack/controlplane.sh and builds them if
// E2E_CONTROLPLANE_DIR does not name a directory that has them. It never skips.
package e2e

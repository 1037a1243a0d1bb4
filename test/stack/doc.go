// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package stack runs a whole installation on loopback, for the end-to-end tests,
// the integration test and the demo: a simulated vCenter with a VCH (cmd/vchsim),
// MCM, and this project's machine-controller, on a control plane of test/cluster.
//
// An installation is one namespace with the manifests of kubernetes/ applied to
// it. MCM and the machine-controller run as processes with the rights of the
// service account of those manifests, so what works here works with least rights.
// Several installations can share one control plane; each has its own vCenter.
//
// With Sidecar, the manifests are those of kubernetes/sidecar and the driver is a
// process of its own with a unix socket, which can be killed and started alone.
//
// With Join, the machines of an installation join the control plane as hollow
// nodes. Without, the machine-controller runs with --target-kubeconfig=none.
package stack

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package cluster runs a Kubernetes control plane on loopback, for tests and the
// demo: etcd, kube-apiserver and kube-controller-manager as processes, with
// certificates of its own and ports that were free, so that any number of them
// can run beside each other. No container, no root, no network.
//
// Nodes can join it by TLS bootstrap with a bootstrap token, as they join a real
// cluster. There is no scheduler and no node until one joins.
//
// A cluster lives in one directory that its caller makes and removes. Nothing in
// it is meant to last: etcd does not even sync to the disk.
//
// The programs come from hack/controlplane.sh. The package knows nothing of
// vSphere or of the driver; test/stack puts those on top of it.
package cluster

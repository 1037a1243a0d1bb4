// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package controlplane has no code: its directory is a nested module whose tool
// lines pin what the end-to-end tests and the demo run beside the driver: etcd,
// kube-apiserver, kube-controller-manager, kubectl, kubemark and MCM.
// hack/controlplane.sh builds them; test/cluster runs them.
package controlplane

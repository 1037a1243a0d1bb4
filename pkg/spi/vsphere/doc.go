// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package vsphere implements the SPI on vCenter: machines are container VMs of a
// VCH, reached through govmomi alone.
//
// Backend puts the parts together for each call: the session of the Secret
// (pkg/vcenter), the configuration of the VCH (pkg/vch), the machine's identity
// (pkg/identity) and the steps of a container VM's life (pkg/containervm). It
// holds no state about machines: only sessions and VCH configurations are kept.
//
// Called by cmd/machine-controller; it knows nothing of MCM.
package vsphere

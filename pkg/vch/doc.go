// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package vch finds a Virtual Container Host and reads its configuration.
//
// A VCH is what VIC made of a vSphere cluster: an appliance VM that holds the
// configuration in its ExtraConfig, a folder for the container VMs, a resource
// pool, a datastore path for images, volume stores, and named container
// networks. Find resolves a reference of the ProviderSpec to its appliance,
// proves that it is one, and reads all that a container VM is built from;
// Cache keeps the answer for a while. State reads, beside a container VM,
// whether the VCH is just being upgraded or reconfigured (UpdateInProgress).
//
// Words: appliance (the endpoint VM), container network, image store, volume
// store, name convention: as in VIC.
//
// Called by pkg/containervm, pkg/spi/vsphere and pkg/cli. The package never
// changes anything in vCenter.
package vch

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is version v1alpha1 of the ProviderSpec: what a MachineClass
// says about the container VMs it describes, and the keys of its Secret.
//
// The way in is Load: Decode (strict: an unknown field is an error that names
// it), then SetDefaults, then Validate, which reports every fault at once.
// CheckSecret judges the Secret beside it. Code behind pkg/provider sees only
// decoded, defaulted and valid specs.
//
// The package does no I/O and knows nothing of vSphere.
//
// +k8s:deepcopy-gen=package
package v1alpha1

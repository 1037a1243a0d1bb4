// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package containervm plans, starts, stops and removes one container VM.
//
// A container VM is a small VM that boots the VCH's bootstrap ISO, takes its
// whole configuration from guestinfo keys, mounts its root disk and runs one
// process. Plan is pure: it turns a ProviderSpec, an image, an identity and a VCH into the
// complete VirtualMachineConfigSpec. Operator applies: each of its methods is
// one step of a VM's life, may be repeated and may be cut off after any call.
//
// Words: tether (VIC's init in the guest, which reports "started"), host key
// (the SSH key that the tether insists on), mark (pkg/identity), display name
// (VIC's name convention applied), directory (where the VM's own files are).
//
// Called by pkg/spi/vsphere and pkg/cli. What a caller may do with a VM that is
// not ours is decided here too: Find sorts VMs into ours and foreign, and no
// method changes a VM that Find did not call ours.
package containervm

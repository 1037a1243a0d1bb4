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
// (VIC's name convention applied), directory (where the VM's own files are), stored
// (ExtraConfig as it is, whatever version wrote it; what is read is migrated in memory).
//
// Called by pkg/spi/vsphere and pkg/cli. What a caller may do with a VM that is
// not ours is decided here too. For machines, Find sorts VMs into ours and foreign. For
// people, who may mean docker's containers as well, Members lists what stands in the
// VCH, and Proven says whether a VM is within their Scope; Rename and ApplyMigration
// ask it again before each write. No method changes any other VM, nor one whose data a
// newer program wrote.
package containervm

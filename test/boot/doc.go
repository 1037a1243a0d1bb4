// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package boot shows that root disks made from OCI images boot, and that volumes
// are found and keep what is written to them.
//
// Its test makes the disk of an image as the driver does, gives it to a virtual
// machine of QEMU on the SCSI controller that container VMs have, and boots
// Debian's kernel. The guest does what VIC's init does: it finds the disk by its
// label, mounts it writable as root and runs the image's command, whose output
// the test reads from the serial console. Then the disk is checked from outside.
// One machine has the flat disk, the other a child of the imported one. Two more
// follow each other with the same volumes, which the volume store made in a simulated
// vCenter.
//
// QEMU emulates, so that no hardware support is needed. Its program and the kernel
// are installed and fetched by hack/prerequisites.sh and hack/kernel.sh.
// BOOT_KERNEL_DIR names a directory that has another kernel. The test never skips.
package boot

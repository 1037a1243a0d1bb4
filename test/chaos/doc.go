// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package chaos runs a whole installation of test/stack while things break, and looks
// at what is left when they work again.
//
// # Words
//
// A kind is one thing that breaks, and how it is undone: Kinds is the catalogue. A step
// is a kind at a time, for a time, with a strength. A plan is all steps of a run, and how
// the deployment is scaled meanwhile; it follows from a seed. Kinds of one lane never
// overlap, those of different lanes do: the network, the vCenter, and the programs.
//
// # A run
//
// Run makes a deployment, waits until all is well, follows the plan, undoes everything,
// and waits again: the time from there until as many machines are available as there
// should be, each with a VM of its own that is on, and no other VM, is the recovery. Then
// it scales to zero and compares the vCenter with what it was at the beginning: VMs with
// their change versions, files and directories, those of others among them. Then it waits
// until the programs hold no more than before the faults: goroutines by the function that
// they began with, and open files by what they are.
//
// No check depends on how fast the computer is: what is wrong stays wrong, so all waits
// end when it is right, and their limits are longer than anything waits for here.
//
// Drill is the other way to use the catalogue: one kind at a time, and what each did.
//
// # What a seed reproduces
//
// Which kinds come when, for how long and how strong, and the scaling. Not which of the
// concurrent calls meets a fault: that is up to the scheduler of the kernel.
//
// # How it is built
//
// The vCenter is test/vchsim in this process. In front of it is a toxiproxy, also in this
// process, that only the driver goes through. Programs of the Pod that end are started
// again at once, as the kubelet does it, without its back-off.
//
// test/chaos/runs has the tests that need a control plane; docs/chaos.md says what came
// out of them.
package chaos

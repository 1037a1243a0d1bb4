// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package containercache knows the container VMs of VCHs from what vCenter says of
// their changes, so that who asks for them again and again costs vCenter nothing. (VIC's port
// layer has a cache of that name, too, and fills it by asking.)
//
// A View is the watch of one VCH in one session: one property filter, whose news come with
// those of all tasks of the session (vcenter.Client.Watch). It keeps a handful of properties of each
// VM, and Facts: what somebody who read a VM learned of it. Facts are good for
// as long as the VM's change version, power state and address are those that they were learned at.
//
// What a view answers is a yes: there is such a VM, and vCenter said so at most MaxAge ago. That something is not
// there, it cannot say: that question, and whatever destroys, goes to vCenter. A view that is not synced, or was
// not heard of for MaxAge, answers nothing at all, so that its absence costs time and never truth. Whoever is about to
// change a VM that a view knows reads it first, by Read, where those who do so at the same time share a call.
//
// The end of a task is known to who waits for it only after the view heard of its effects; so own
// writes are visible to whoever made them.
//
// pkg/containervm asks it, pkg/spi/vsphere owns it. It knows nothing of machines' lives or specs.
package containercache

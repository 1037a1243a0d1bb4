// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package vchsim is a vCenter in memory that holds a Virtual Container Host as
// VIC would have made it, with guests that behave as VIC's containers do.
//
// It stands on govmomi's simulator (vcsim) and serves the vSphere API over TLS
// on the loopback interface. Around the inventory it adds what this project's
// promises need to be tested:
//
//   - A world: one datacenter and cluster, a VCH (folder, pool, appliance with its
//     whole configuration, bootstrap ISO, image store, volume stores, container
//     networks), an image disk, and plenty of VMs that are not ours.
//   - A guest: after power-on it plays the tether (VIC's init): it checks the
//     VM's devices and keys as far as the real one would, looks for the process's
//     user, program and directory in the file system on its root disk, takes
//     addresses, mounts volumes by the labels on their disks, writes started, obeys
//     kill and group-kill, and powers off.
//   - An image registry beside vCenter, if wanted, with the image of a node.
//   - vCenter's manners that vcsim lacks: changeVersion, Destroy that follows the
//     disk chain and leaves foreign files, names unique per folder, renames that all
//     readers see and that move no file, no leftovers of a failed create, locks on the
//     disks of running VMs, guest operations without a container runtime, sessions
//     that expire, a disabled Destroy.
//   - PropertyCollectors that wait as vCenter's do: one wait can carry all tasks of a
//     ListView and all VMs of a folder, at a cost that does not grow with their number.
//   - Age: container VMs, and by Options.VCHDataVersion the VCH, as older versions of
//     VIC stored them.
//   - Faults: any vSphere fault from the method or inside its task, HTTP errors
//     and cut connections, by method, probability or count.
//   - A cluster: with a kubeconfig, each started machine joins it as a hollow
//     kubelet with the bootstrap token found in its userData.
//
// # Words
//
// A world is all that one Sim holds. A foreign VM is one that the driver must
// never list or touch. The guest is the simulated inside of one VM; a joiner is
// the hollow kubelet that a guest starts.
//
// # Who uses it
//
// Tests of this module, and cmd/vchsim for people and for tests across processes.
// Nothing in pkg may import it.
//
// # What it does not do
//
// It keeps no state across runs, executes nothing that is on a disk, models no ESXi
// host failures (inject faults instead), checks no privileges, and does not simulate
// time: a guest's delays are real. A joiner is kubemark's kubelet, with what that
// cannot be told: it listens on all addresses (on ports that were free a moment
// before), and its node's provider id is kubemark://<machine>, for good.
//
// # Disks
//
// Files and disks have the contents that came through /folder or NFC. A child disk
// has none of its own: what a guest sees is its last parent, and a parent that is
// empty or all zero, as ImageDisk is, counts as one that holds what the machine
// needs.
//
// Volumes are disks with an ext4. What a guest writes on them, by WriteVolume,
// GuestOptions.Diary or because an empty volume gets what the image has at its mount
// point, is written by debugfs, so that it is there for whoever reads the disk; on
// an independent_nonpersistent disk it is forgotten at power-off. Volumes on NFS are
// noted, not mounted.
//
// # userData
//
// The token is the first text of the form [a-z0-9]{6}.[a-z0-9]{16} in
// guestinfo.userdata, whose encoding stands in guestinfo.userdata.encoding as
// cloud-init's VMware datasource has it: gzip+base64 (gz+b64), base64 (b64), or
// none. Server and certificate authority are those of the kubeconfig's current context.
//
// # Waits
//
// What changed is what a client was not told yet: values are compared with what was last
// reported, so a value that comes back is no change, nor is one that is set again. A
// version stands for one answer of one collector. The empty version asks for everything,
// and is answered at once, with nothing if need be, unless there is no filter. At most
// 100 objects come in one answer, Truncated says that more follow; a wait rests for 30
// seconds at most and is then answered with nothing, as one is whose time is up. An answer
// can be asked for again until the next one is.
//
// A selected path is reported whole, or, with PartialUpdates, by the fields and keys that
// changed in it. An element that comes or goes (config.extraConfig["key"]) is added or
// removed, a property that has no value any more is assigned none, and what was in it is
// removed indirectly. A path that a type does not have is in the MissingSet of its objects
// (vCenter refuses the filter); an object that a filter names and that is gone leaves, and
// is in the filter's MissingSet. PropertyCollector.filter is always empty.
//
// # Others at work
//
// To have somebody else change a VM between a read and the write that follows from
// it, let him come first when the write arrives: OnCall("ReconfigVM_Task", f), with
// SetKeys, Age or a client of his own in f, makes it ConcurrentAccess. A rule
// task:ConcurrentAccess does the same without a change.
//
// # Concurrency
//
// All methods of a Sim may be called from many goroutines, and any number of Sims
// may live in one process: everything that this package adds hangs off the Sim.
// vcsim itself has package variables. Trace, StatusSDK, DefaultLogin and TaskDelay
// are left alone; whoever sets them affects every Sim. EvalLicense is changed by
// vcsim, so clusters are made one at a time.
package vchsim

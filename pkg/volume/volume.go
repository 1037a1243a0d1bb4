// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
)

// Driver is the kind of a store, by the names that VIC's design has for them.
type Driver string

// The drivers.
const (
	// VMDK volumes are virtual disks. One VM at a time can have one.
	VMDK Driver = "vsphere-vmdk"
	// NFS volumes are directories of an NFSv3 export, which VMs share.
	NFS Driver = "vsphere-nfs"
)

// DefaultStore is the label of the store that is meant when none is named.
const DefaultStore = "default"

// MaxDisks is how many VMDK volumes a container VM can have: its SCSI bus has 15
// places, and the root disk takes one (VIC, pkg/vsphere/disk/disk_manager.go:630).
const MaxDisks = 14

// Volume is one volume.
type Volume struct {
	// Name is VIC's volume ID.
	Name string `json:"name"`
	// Store is the label of its store, Driver what kind that is.
	Store  string `json:"store"`
	Driver Driver `json:"driver"`
	// Location is where it is, for people: the datastore path of the disk, such as
	// [ds1] VIC/volumes/data/data.vmdk, or nfs://host/export/volumes/data.
	Location string `json:"location"`
	// Disk is the datastore path as the devices of a VM must have it; empty on NFS.
	// Where directories are objects it has an id that Location has not.
	Disk string `json:"disk,omitempty"`
	// Capacity is the size of the disk in bytes; 0 on NFS, where nothing limits it,
	// and if the volume is damaged.
	Capacity int64 `json:"capacity,omitempty"`
	// Created is when it was made, by LabelCreated or as far as the store knows it; else zero.
	Created time.Time `json:"created,omitzero"`
	// Metadata is what VIC's docker persona keeps with it.
	Metadata Metadata `json:"metadata"`
	// Damage is why VIC could not use the volume or, for its sake, the store; empty
	// for a good one.
	Damage string `json:"damage,omitempty"`
}

// Anonymous reports whether the volume was made for one machine, without a name
// of its own, to go with it.
func (v *Volume) Anonymous() bool { return v.Metadata.Labels[LabelAnonymous] == "true" }

// Request is what a new volume is to be.
type Request struct {
	// Name must be valid, see ValidateName.
	Name string
	// Capacity is the size in bytes; DefaultCapacity if 0. It has no meaning on NFS.
	Capacity int64
	// Metadata is kept with it. Name and Driver in it are filled in.
	Metadata Metadata
}

// User is a VM that has a volume, or may have it. A disk counts that is attached or
// belongs to a snapshot, an NFS volume that the VM is configured to mount; whether
// the VM runs is all one.
type User struct {
	// Name is the VM's name, VM its managed object reference, such as vm-42.
	Name string `json:"name"`
	VM   string `json:"vm"`
	// Unproven says that vCenter cannot tell what the VM has; so it counts.
	Unproven bool `json:"unproven,omitempty"`
}

// Mount is how a container VM is to have a volume.
type Mount struct {
	// Path is where the volume is mounted: absolute and clean.
	Path string
	// ReadOnly says that nothing that the VM writes may stay.
	ReadOnly bool
	// NoCopy says that an empty volume is not filled with what the image has at Path.
	NoCopy bool
}

// Joint is what joins a container VM to a volume.
type Joint struct {
	// Volume is the name, under which Spec stands in the VM's configuration.
	Volume string
	// Spec is what the guest is told.
	Spec guestinfo.MountSpec
	// Disk is the datastore path of the disk to attach, empty for none.
	Disk string
	// Discard says that the disk is attached so that what is written to it is
	// forgotten when the VM is powered off: guests of VIC do not heed ro on disks
	// (VIC, lib/tether/ops_linux.go:833,936).
	Discard bool
}

// Leftover is what an operation that was cut off left.
type Leftover struct {
	// Store is the label of the store that has it.
	Store string `json:"store"`
	// Path is where it is, for people; Reason says what it is.
	Path   string `json:"path"`
	Reason string `json:"reason"`
	// ID is what the store knows it by.
	ID string `json:"id"`
}

// Store keeps volumes. See the package comment for what holds for all methods.
type Store interface {
	// String names the store with its place and VCH, for people.
	String() string

	// Driver is the kind of the store. Nothing is sent.
	Driver() Driver

	// Create makes a volume, empty and complete. One of that name, damaged or not, is
	// AlreadyExists, and of many that create the same one has success. No room is
	// ResourceExhausted. What it made is taken away when it fails, unless it is published by then.
	Create(ctx context.Context, r Request) (*Volume, error)

	// Get returns a volume, damaged or not; NotFound if there is none.
	Get(ctx context.Context, name string) (*Volume, error)

	// List returns all volumes, damaged ones too, sorted by name.
	List(ctx context.Context) ([]Volume, error)

	// Users returns the VMs, of whomever, that have one of the volumes, by its name,
	// sorted by VM; all in one look at vCenter. A name without a volume may be asked for.
	Users(ctx context.Context, names ...string) (map[string][]User, error)

	// Remove deletes a volume with all that is on it, damaged or not. With users other than those of
	// except, managed object references, it is FailedPrecondition, names them, and the
	// volume stays; who joins while it is removed counts. NotFound if there is none.
	Remove(ctx context.Context, name string, except ...string) error

	// Join returns what joins a VM to a volume. It sends and changes nothing. A damaged
	// volume is FailedPrecondition, a mount that the store cannot do InvalidArgument.
	Join(v *Volume, m Mount) (*Joint, error)
}

// Cleaner is a Store whose operations can leave something when they are cut off.
type Cleaner interface {
	// Leftovers returns it, sorted by Path. What belongs to an operation that is under
	// way, here or elsewhere, is not in it.
	Leftovers(ctx context.Context) ([]Leftover, error)

	// Clean deletes leftovers that Leftovers returned. A volume whose removal was cut
	// off and that a VM has comes back instead. What is no leftover any more is passed over.
	Clean(ctx context.Context, leftovers ...Leftover) error
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package spitest

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
)

// Harness is one world with one implementation in it. It fails its test by
// itself when it cannot do what it is asked. Its methods are called from one
// goroutine, except SPI, Spec and Secret.
type Harness interface {
	World

	// SPI returns the implementation, working on this world. After a fault with
	// Kill it must be one that remembers nothing of the calls before; returning
	// a new one every time is right, too.
	SPI() spi.PluginSPI
	// Spec returns a new, defaulted and valid ProviderSpec of the world's VCH.
	// The suite changes tags, cpus, volumes, startTimeoutSeconds and stopGracePeriodSeconds in it.
	Spec() *v1alpha1.ProviderSpec
	// Secret returns a new Secret with credentials that the world accepts. It
	// must refuse any other vspherePassword.
	Secret() *corev1.Secret
	// Inject makes fault strike once, counting steps from now on. The returned
	// function ends it and reports whether the step was reached.
	Inject(fault Fault) (heal func() (struck bool))
	// SetGuest says how machines behave that are started or stopped from now on.
	SetGuest(guest Guest)
}

// World is what really exists, seen past the implementation.
type World interface {
	// VCH returns the BIOS UUID of the appliance.
	VCH() string
	// Machines returns all VMs, foreigners excepted, that bear a full mark of the cluster and role of
	// Spec, in the order of their names; a VM twice there is there twice.
	Machines() []Machine
	// Leftovers returns how the files of the world differ from those at its
	// beginning, foreigners' files and those of Volumes excepted: one line for each file or directory
	// that is there without being there at the beginning and without belonging
	// to one of Machines, and one for each that has been lost. What a volume store knows as
	// its own leftover is none once a fault has struck.
	Leftovers() []string
	// Plant puts a foreigner into the world, made for the machine name, and
	// returns the provider id that its VCH and container id would give; empty if
	// it is no container VM.
	Plant(kind Foreign, machine string) (providerID string)
	// Foreigners returns the whole state of each foreigner (power, keys,
	// devices, place) by a name; the appliance is one of them. Equal maps mean
	// that nobody touched a foreigner.
	Foreigners() map[string]string
	// Volumes returns the volumes of all stores of the VCH by name, whoever made
	// them, but for those that were there at the world's beginning.
	Volumes() map[string]Volume
	// PlantVolume makes a volume past the calls of the SPI. It is in the default
	// store, whose volumes one VM at a time can have.
	PlantVolume(name string, v Volume)
	// WriteVolume puts content on a volume that is there, as a guest would: at most MaxContent bytes.
	WriteVolume(name, content string)
}

// MaxContent is how many bytes the suite writes to a volume.
const MaxContent = 256

// Volume is one volume.
type Volume struct {
	// Labels say whose it is, see pkg/volume; LabelCreated is left out.
	Labels map[string]string
	// Content is what WriteVolume put on it.
	Content string
	// Holders are the names of the Machines that have it, sorted; "?" is any other VM.
	// It has no meaning in PlantVolume.
	Holders []string
}

// Machine is a VM of ours.
type Machine struct {
	// Name is the Machine's name in the VM's mark.
	Name string
	// Running says that the VM is powered on.
	Running bool
}

// Fault goes wrong at one step.
type Fault struct {
	// Step counts from 1.
	Step int
	// After lets the step take effect and loses the answer; otherwise the step
	// does not take effect.
	After bool
	// Kill makes all later steps fail without effect until the fault is healed,
	// as if the process had died.
	Kill bool
	// Kind is the meaning of the error that the step ends with, in the words of the
	// world (vSphere: a fault that has this meaning). It is one of FaultKinds.
	Kind errdefs.Kind
	// Cancel, if it is set, is called before the step, which then goes on with
	// the context that it has; After, Kill and Kind have no meaning.
	Cancel context.CancelFunc
}

// FaultKinds returns the kinds of errors that the suite injects: Unavailable,
// PermissionDenied, ResourceExhausted, Aborted and Internal.
func FaultKinds() []errdefs.Kind {
	return []errdefs.Kind{
		errdefs.Unavailable, errdefs.PermissionDenied, errdefs.ResourceExhausted, errdefs.Aborted, errdefs.Internal,
	}
}

// Guest is how the inside of machines behaves. The zero value is a good guest:
// it starts at once, gets one address, and obeys a stop.
type Guest struct {
	// StartError, if not empty, is what the guest reports instead of a start.
	StartError string
	// StartHangs: the guest never reports anything.
	StartHangs bool
	// StopHangs: the guest does not obey when it is told to stop.
	StopHangs bool
}

// Foreign is a kind of foreigner.
type Foreign string

// The kinds of foreigners. The first three have the machine's own identity (BIOS
// UUID and container id), the others only look like it.
const (
	// Unmarked has the machine's identity and no mark.
	Unmarked Foreign = "a VM with the machine's identity and no mark"
	// HalfMarked has the machine's identity and a mark without the machine's name.
	HalfMarked Foreign = "a VM with the machine's identity and half a mark"
	// OtherRole is a machine of the same cluster and name, but of another role.
	OtherRole Foreign = "the machine of the same name of another role"
	// OtherCluster is the machine of the same name of another cluster.
	OtherCluster Foreign = "the machine of the same name of another cluster"
	// Namesake is a plain VM, without any mark, whose name is the machine's display name.
	Namesake Foreign = "a plain VM of the machine's name"
	// Docker is a container VM of the VCH that was made through docker under the machine's name.
	Docker Foreign = "a container VM that docker made under the machine's name"
	// Clone is what is left when a person clones the machine: its full mark and
	// container id, but another BIOS UUID. It counts among Foreigners, not Machines.
	Clone Foreign = "a clone of the machine with another BIOS UUID"
	// Duplicate is a copy of the machine, mark and identity included, as a
	// restore from a backup would make it. It counts among Machines and is
	// planted only beside a machine that exists.
	Duplicate Foreign = "a copy of the machine"
)

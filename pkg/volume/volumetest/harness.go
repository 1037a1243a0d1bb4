// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volumetest

import (
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// Harness is one world with stores that work on it. It fails its test by itself
// when it cannot do what it is asked. Its methods are called from one goroutine at
// a time, while stores are in use.
type Harness interface {
	World

	// Store returns a store as another process would have it: it works on the
	// world's one place and shares nothing else with the stores before. All have the
	// same label.
	Store() volume.Store
	// Faulty is Store with a fault in it. The returned function reports whether the
	// step was reached.
	Faulty(fault Fault) (store volume.Store, struck func() bool)
	// Advance lets time pass for all stores and for the files that are there.
	Advance(d time.Duration)
}

// World is what really exists, seen past the implementation.
type World interface {
	VMs

	// Listed returns what a VCH would list that starts now, by VIC's rules read
	// strictly, sorted by name; and an error if VIC would stumble over anything, such
	// as an entry without metadata, which then is not among the entries.
	Listed() ([]Entry, error)
	// Files returns all that is there and was not at the beginning, files and
	// directories, but those of Use and directories that all volumes share.
	Files() []string

	// Damages names the ways in which there can be an entry that VIC would stumble over.
	Damages() []string
	// Damage makes an entry of a name, of which there is none, that is damaged in one of these ways.
	Damage(name, how string)

	// Write has something written on a volume, Read returns what was written last.
	// There is such a volume, and no store makes or removes it.
	Write(name, text string)
	Read(name string) string

	// Fill uses up all room for volumes, or frees it again.
	Fill(full bool)
}

// VMs are those of the world, which have volumes or not.
type VMs interface {
	// Uses names the ways in which a VM can have a volume. The first is the common one.
	Uses() []string
	// Use makes a VM that has a volume in one of these ways. It reports false, and makes
	// none, if there is no volume of that name at this moment, as vCenter would.
	Use(name, how string) (volume.User, bool)
	// UseHidden makes a VM of which vCenter cannot tell what it has. It reports false
	// if that is no reason for this kind of store to keep a volume.
	UseHidden() (volume.User, bool)
	// Release ends a VM of Use or UseHidden.
	Release(user volume.User)
}

// Entry is a volume as VIC finds it.
type Entry struct {
	Name string
	// Metadata is the content of the file volume.MetadataKey.
	Metadata string
	// Label is the label of the file system, and Capacity the size of the disk; empty on NFS.
	Label    string
	Capacity int64
}

// Fault goes wrong at one step.
type Fault struct {
	// Step counts from 1. With 0 nothing goes wrong, and Before is called before every step.
	Step int
	// Before, if it is set, is called before the step, perhaps from several
	// goroutines at the same time.
	Before func()
	// Kind is the meaning of the error that the step ends with, in the words of the
	// world. It is one of FaultKinds, or empty: then the step goes on after Before, and
	// After and Kill have no meaning.
	Kind errdefs.Kind
	// After lets the step take effect and loses the answer; otherwise the step does
	// not take effect.
	After bool
	// Kill makes all later steps of the store fail without effect, as if the
	// process had died.
	Kill bool
}

// Around carries out the step of a number as the fault has it. It is what most
// harnesses need.
func (f Fault) Around(step int, what string, do func() error) error {
	at := step == f.Step
	if f.Before != nil && (at || f.Step == 0) {
		f.Before()
	}
	killed := f.Kill && f.Step != 0 && step > f.Step
	if f.Kind == "" || !at && !killed {
		return do()
	}
	if at && f.After {
		_ = do()
	}
	return errdefs.New(f.Kind, "the fault at step %d, %s", f.Step, what)
}

// FaultKinds returns the kinds of errors that the suite injects.
func FaultKinds() []errdefs.Kind {
	return []errdefs.Kind{errdefs.Unavailable, errdefs.PermissionDenied, errdefs.Internal}
}

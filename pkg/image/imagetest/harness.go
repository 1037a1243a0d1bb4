// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package imagetest

import (
	"context"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// Harness is one world with stores that work on it. It fails its test by itself
// when it cannot do what it is asked. Its methods are called from one goroutine at
// a time, while stores are in use.
type Harness interface {
	World

	// Store returns a store as another process would have it: it works on the
	// world's one place and shares nothing else with the stores before.
	Store() image.Store
	// Faulty is Store with a fault in it. The returned function reports whether the
	// step was reached.
	Faulty(fault Fault) (store image.Store, struck func() bool)
	// Advance lets time pass for all stores, a second or some minutes, in parts so
	// small that a process that holds a lock can show in time that it is alive:
	// before the next part, what was due must have reached the world.
	Advance(d time.Duration)
}

// World is what really exists, seen past the implementation.
type World interface {
	// Content returns what the disk at a path of an image.Disk holds, without the
	// zeroes at its end; nil if there is no disk that a VM could use.
	Content(path string) []byte
	// Files returns all that is there and was not at the beginning: files, directories
	// and VMs, but those of Attach and directories that every disk shares.
	Files() []string
	// Attach makes a VM with a child disk of the disk at path.
	Attach(path string) image.User
	// AttachHidden makes a VM of which vCenter cannot tell what disks it has.
	AttachHidden() image.User
	// Detach ends a VM of Attach or AttachHidden.
	Detach(user image.User)
	// Lose deletes the files of the disk at path, as a person might.
	Lose(path string)
	// Fill uses up all room for disks, or frees it again.
	Fill(full bool)
}

// Fault goes wrong at one step.
type Fault struct {
	// Step counts from 1.
	Step int
	// After lets the step take effect and loses the answer; otherwise the step does
	// not take effect.
	After bool
	// Kill makes all later steps of the store fail without effect, as if the
	// process had died.
	Kill bool
	// Kind is the meaning of the error that the step ends with, in the words of the
	// world. It is one of FaultKinds.
	Kind errdefs.Kind
	// Cancel, if it is set, is called before the step, which then goes on with the
	// context that it has; After, Kill and Kind have no meaning.
	Cancel context.CancelFunc
}

// FaultKinds returns the kinds of errors that the suite injects.
func FaultKinds() []errdefs.Kind {
	return []errdefs.Kind{errdefs.Unavailable, errdefs.PermissionDenied, errdefs.Internal}
}

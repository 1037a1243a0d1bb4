// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"context"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Set is all volume stores of a VCH. Names are unique in it: VIC's port layer keeps
// volumes by their bare name, and of two with the same one it loses one by chance (VIC,
// lib/portlayer/storage/volume/cache/cache.go:123-131,206-222). It is safe for
// concurrent use, keeps nothing, and costs nothing to make.
type Set struct {
	host   string
	stores map[string]Store
}

// NewSet returns the stores of the VCH host by label. A VCH may have none.
func NewSet(host string, stores map[string]Store) *Set { return &Set{host: host, stores: stores} }

// Labels returns the labels of the stores, sorted.
func (s *Set) Labels() []string { return nil }

// Store returns the store with a label, DefaultStore if it is empty. One that the
// VCH does not have is FailedPrecondition; the text says which it has, and of the default
// store what its absence means: anonymous volumes and those without a store are refused.
func (s *Set) Store(label string) (Store, error) { return nil, s.todo() }

// Create makes a volume in the store with a label (empty: the default store). A
// volume of that name in any store is AlreadyExists, and the text says where it is.
// All stores must answer, or it cannot be known. Of those that make the same name
// in different stores at the same time one at most has success; when all take theirs back
// for the others' sake, again and again, it is Aborted.
func (s *Set) Create(ctx context.Context, label string, r Request) (*Volume, error) {
	return nil, s.todo()
}

// Ensure returns the volume that is there, or makes it. One that is in another store than
// label, if that is not empty, is FailedPrecondition and the text says where; its capacity
// and metadata are not compared. created says that this call made it.
func (s *Set) Ensure(ctx context.Context, label string, r Request) (v *Volume, created bool, err error) {
	return nil, false, s.todo()
}

// Get returns a volume, whichever store has it. Two with that name are
// FailedPrecondition, and the text says where both are. A store that does not answer
// is passed over if another one has the volume; else its error is the answer, since NotFound must be true.
func (s *Set) Get(ctx context.Context, name string) (*Volume, error) { return nil, s.todo() }

// List returns the volumes of all stores, sorted by name and store; two of one name
// are both there, and are Damaged. With an error of some stores it has those of the others.
func (s *Set) List(ctx context.Context) ([]Volume, error) { return nil, s.todo() }

// Users returns who has the volumes, of whichever store, by name.
func (s *Set) Users(ctx context.Context, names ...string) (map[string][]User, error) {
	return nil, s.todo()
}

// Remove deletes a volume: see Store.Remove. Where two have the name, label says
// which one is meant; otherwise it may be empty, and if it is not, must be right (FailedPrecondition).
func (s *Set) Remove(ctx context.Context, label, name string, except ...string) error {
	return s.todo()
}

// Join is Store.Join of the volume's store.
func (s *Set) Join(v *Volume, m Mount) (*Joint, error) { return nil, s.todo() }

// Leftovers returns those of all stores, sorted by store and path. With an error of
// some stores it has those of the others.
func (s *Set) Leftovers(ctx context.Context) ([]Leftover, error) { return nil, s.todo() }

// Clean deletes leftovers in the stores that they are of.
func (s *Set) Clean(ctx context.Context, leftovers ...Leftover) error { return s.todo() }

func (s *Set) todo() error {
	return errdefs.New(errdefs.Unimplemented, "volumes of VCH %s", s.host)
}

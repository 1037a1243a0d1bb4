// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// LeftoverAge is how old debris must be to be a leftover.
const LeftoverAge = 10 * time.Minute

// place is where volumes are, and the VMs that could have them.
type place struct {
	host, label string
	driver      volume.Driver

	mu sync.Mutex
	// volumes are published, by name; aside are those that are being made or removed, by id.
	volumes map[string]*entry
	aside   map[string]*entry
	vms     map[string]vm // by managed object reference
	full    bool
	counter int
	now     time.Time
}

// entry is a volume.
type entry struct {
	name     string
	capacity int64
	metadata []byte // as the file has it; nil until it is whole
	created  time.Time
	damage   string
	text     string
	// removed says that it was a volume and is aside to be deleted, touched since when it is aside.
	removed bool
	touched time.Time
}

type vm struct {
	user    volume.User
	volumes map[string]bool
}

// New returns the store with a label of the VCH host, without volumes and VMs.
func New(host, label string, driver volume.Driver) *Store {
	return &Store{place: &place{
		host: host, label: label, driver: driver,
		volumes: map[string]*entry{}, aside: map[string]*entry{}, vms: map[string]vm{},
		now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}}
}

// Another returns the same store as another process has it: with the same volumes
// and VMs, and without an interceptor.
func (s *Store) Another() *Store { return &Store{place: s.place} }

// Attach makes a VM that has volumes, whether they are there or not, or gives them to
// one that there is, by its managed object reference. One that is Unproven counts for all VMDK volumes.
func (s *Store) Attach(user volume.User, volumes ...string) {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	s.place.attach(user, volumes)
}

func (p *place) attach(user volume.User, volumes []string) {
	has := map[string]bool{}
	maps.Copy(has, p.vms[user.VM].volumes)
	for _, name := range volumes {
		has[name] = true
	}
	p.vms[user.VM] = vm{user: user, volumes: has}
}

// Detach takes volumes away from a VM, by its managed object reference; all, and
// the VM, if none is named.
func (s *Store) Detach(ref string, volumes ...string) {
	p := s.place
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range volumes {
		delete(p.vms[ref].volumes, name)
	}
	if len(volumes) == 0 {
		delete(p.vms, ref)
	}
}

// Damage makes a volume one that VIC would stumble over for a reason, or makes one of that kind.
func (s *Store) Damage(name, why string) {
	p := s.place
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.volumes[name] == nil {
		p.volumes[name] = &entry{name: name}
	}
	p.volumes[name].damage = why
}

// Write has a text written on a volume that is there.
func (s *Store) Write(name, text string) {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	s.place.volumes[name].text = text
}

// Read returns what was written on a volume last. It reports false if there is none.
func (s *Store) Read(name string) (string, bool) {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	e, ok := s.place.volumes[name]
	if !ok {
		return "", false
	}
	return e.text, true
}

// Files returns the paths of all that is there, sorted: volumes, and what operations left that were cut off.
func (s *Store) Files() []string {
	p := s.place
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	for name := range p.volumes {
		all = append(all, p.location(name))
	}
	for id := range p.aside {
		all = append(all, p.asidePath(id))
	}
	slices.Sort(all)
	return all
}

// Fill uses up all room for new volumes, or frees it again.
func (s *Store) Fill(full bool) {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	s.place.full = full
}

// Advance lets time pass.
func (s *Store) Advance(d time.Duration) {
	s.place.mu.Lock()
	defer s.place.mu.Unlock()
	s.place.now = s.place.now.Add(d)
}

func (p *place) root() string {
	if p.driver == volume.NFS {
		return "nfs://nfs.example/" + p.label
	}
	return "[" + p.label + "] VIC"
}

// location is where a volume is.
func (p *place) location(name string) string {
	if p.driver == volume.NFS {
		return p.root() + "/volumes/" + name
	}
	return p.root() + "/volumes/" + name + "/" + name + ".vmdk"
}

func (p *place) asidePath(id string) string { return p.root() + "/mcm-volumes/" + id }

// putAside keeps what is no volume. The place must be locked, as for all that follows.
func (p *place) putAside(e *entry) (id string) {
	p.counter++
	id = fmt.Sprintf("new/%s.%032x", e.name, p.counter)
	if e.removed {
		id = fmt.Sprintf("removed/%s.%032x", e.name, p.counter)
	}
	e.touched = p.now
	p.aside[id] = e
	return id
}

// volume returns a volume that shares nothing with the place.
func (p *place) volume(name string) *volume.Volume {
	e := p.volumes[name]
	if e == nil {
		return nil
	}
	v := &volume.Volume{Name: name, Store: p.label, Driver: p.driver, Location: p.location(name), Created: e.created, Damage: e.damage}
	if p.driver == volume.VMDK {
		v.Disk, v.Capacity = v.Location, e.capacity
	}
	if e.damage != "" {
		v.Capacity = 0
	}
	if m, err := volume.DecodeMetadata(e.metadata); err == nil {
		v.Metadata = m
	}
	return v
}

// usersOf returns the VMs that have a volume but those of except, sorted.
func (p *place) usersOf(name string, except ...string) []volume.User {
	var users []volume.User
	for ref, v := range p.vms {
		unproven := v.user.Unproven && p.driver == volume.VMDK
		if (v.volumes[name] || unproven) && !slices.Contains(except, ref) {
			users = append(users, v.user)
		}
	}
	slices.SortFunc(users, func(a, b volume.User) int { return strings.Compare(a.VM, b.VM) })
	return users
}

// leftovers returns what is aside for long.
func (p *place) leftovers() []volume.Leftover {
	var all []volume.Leftover
	for id, e := range p.aside {
		if p.now.Sub(e.touched) < LeftoverAge {
			continue
		}
		l := volume.Leftover{Store: p.label, Path: p.asidePath(id), ID: id, Reason: "volume " + e.name + " that was not made to the end"}
		if e.removed {
			l.Reason = "volume " + e.name + " that was not removed to the end"
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b volume.Leftover) int { return strings.Compare(a.Path, b.Path) })
	return all
}

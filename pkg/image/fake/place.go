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

	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// What a Place does unless it is told otherwise.
const (
	DefaultName   = "[fake] mcm-images"
	DefaultSettle = 2 * time.Minute
	DefaultStale  = time.Minute
)

// Options of a Place. The zero value of a field takes its default.
type Options struct {
	// Name is what its stores are called, and the beginning of all paths.
	Name string
	// Clock is what stores wait by. Default: the real one.
	Clock clock.Clock
	// Settle is what Remove and Clean wait between withdrawing and deleting.
	Settle time.Duration
	// Stale is after how long the lock of a call that has ended is taken over.
	Stale time.Duration
}

// Place is where image disks are, and the VMs that could use them. All methods may
// be called at the same time.
type Place struct {
	opts Options

	mu      sync.Mutex
	files   map[string]*file
	records map[image.Key]image.Disk
	names   map[name]image.Key
	locks   map[image.Key]*lock
	vms     map[string]vm
	full    bool
	counter int
	// changed is closed, and made anew, when a lock or a record changes.
	changed chan struct{}
}

// file is a disk, or one that is being uploaded.
type file struct {
	key image.Key
	raw []byte // nil until it is whole
}

type name struct {
	text string
	size int64
}

// lock says who makes a disk, or removes it.
type lock struct {
	owner    string
	upload   string // the path of what its holder makes
	progress image.Progress
	ended    time.Time // when its holder's call ended without giving it back
}

type vm struct {
	user image.User
	path string
	key  image.Key
}

// New returns a Place without disks and VMs.
func New(o Options) *Place {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Settle == 0 {
		o.Settle = DefaultSettle
	}
	if o.Stale == 0 {
		o.Stale = DefaultStale
	}
	return &Place{
		opts: o, files: map[string]*file{}, records: map[image.Key]image.Disk{}, names: map[name]image.Key{},
		locks: map[image.Key]*lock{}, vms: map[string]vm{}, changed: make(chan struct{}),
	}
}

// Store returns the place's store as the process owner has it.
func (p *Place) Store(owner string) *Store { return &Store{place: p, owner: owner} }

// Attach makes a VM with a child disk of the disk at path.
func (p *Place) Attach(path string) image.User {
	p.mu.Lock()
	defer p.mu.Unlock()
	v := vm{user: p.nextVM(), path: path}
	if f := p.files[path]; f != nil {
		v.key = f.key
	}
	p.vms[v.user.VM] = v
	return v.user
}

// AttachHidden makes a VM of which nobody can tell what disks it has.
func (p *Place) AttachHidden() image.User {
	p.mu.Lock()
	defer p.mu.Unlock()
	user := p.nextVM()
	user.Unproven = true
	p.vms[user.VM] = vm{user: user}
	return user
}

func (p *Place) nextVM() image.User {
	p.counter++
	return image.User{Name: fmt.Sprintf("machine-%d", p.counter), VM: fmt.Sprintf("vm-%d", p.counter)}
}

// Detach ends a VM.
func (p *Place) Detach(user image.User) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.vms, user.VM)
}

// Lose deletes the disk at path behind the stores' backs.
func (p *Place) Lose(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.files, path)
}

// Fill uses up all room for disks, or frees it again.
func (p *Place) Fill(full bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.full = full
}

// Content returns what the disk at path holds, without the zeroes at its end; nil
// if there is none or it is not whole.
func (p *Place) Content(path string) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if f := p.files[path]; f != nil {
		return slices.Clone(f.raw)
	}
	return nil
}

// Files returns the paths of disks, records, names and locks, sorted.
func (p *Place) Files() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := slices.Collect(maps.Keys(p.files))
	for key := range p.records {
		all = append(all, p.directory(key)+"/image.json")
	}
	for n := range p.names {
		all = append(all, p.namePath(n))
	}
	for key := range p.locks {
		all = append(all, p.lockPath(key))
	}
	slices.Sort(all)
	return all
}

func base(key image.Key) string {
	return fmt.Sprintf("%s-%d", strings.TrimPrefix(key.Digest, "sha256:"), key.Size/image.SizeUnit)
}

func (p *Place) directory(key image.Key) string { return p.opts.Name + "/disks/" + base(key) }

func (p *Place) lockPath(key image.Key) string { return p.opts.Name + "/locks/" + base(key) }

func (p *Place) namePath(n name) string {
	return fmt.Sprintf("%s/names/%s-%d", p.opts.Name, n.text, n.size/image.SizeUnit)
}

// change wakes up all that wait for a lock. The place must be locked.
func (p *Place) change() {
	close(p.changed)
	p.changed = make(chan struct{})
}

// disk returns the disk of key with all its names, or nil. The place must be locked.
func (p *Place) disk(key image.Key) *image.Disk {
	record, ok := p.records[key]
	if !ok {
		return nil
	}
	d := clone(record)
	for n, k := range p.names {
		if k == key {
			d.Names = append(d.Names, n.text)
		}
	}
	slices.Sort(d.Names)
	return d
}

// usersOf returns the VMs whose chains have something that matches, or may have.
// The place must be locked.
func (p *Place) usersOf(match func(v vm) bool) []image.User {
	var users []image.User
	for _, v := range p.vms {
		if v.user.Unproven || match(v) {
			users = append(users, v.user)
		}
	}
	slices.SortFunc(users, func(a, b image.User) int { return strings.Compare(a.VM, b.VM) })
	return users
}

// clone returns a disk that shares nothing with d.
func clone(d image.Disk) *image.Disk {
	d.Names = slices.Clone(d.Names)
	d.Config.Entrypoint = slices.Clone(d.Config.Entrypoint)
	d.Config.Cmd = slices.Clone(d.Config.Cmd)
	d.Config.Env = slices.Clone(d.Config.Env)
	d.Config.Volumes = slices.Clone(d.Config.Volumes)
	return &d
}

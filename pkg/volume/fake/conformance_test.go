// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/volumetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	eachDriver(t, volumetest.Run)
}

func TestConformanceUnderFaults(t *testing.T) {
	t.Parallel()
	eachDriver(t, volumetest.RunFaults)
}

func eachDriver(t *testing.T, run func(*testing.T, func(*testing.T) volumetest.Harness)) {
	t.Helper()
	for _, driver := range []volume.Driver{volume.VMDK, volume.NFS} {
		t.Run(string(driver), func(t *testing.T) {
			t.Parallel()
			run(t, func(t *testing.T) volumetest.Harness {
				t.Helper()
				return &harness{T: t, store: New("vch-1", "default", driver)}
			})
		})
	}
}

// harness is a world in memory.
type harness struct {
	*testing.T
	store *Store
	vms   int
}

func (h *harness) Store() volume.Store { return h.store.Another() }

func (h *harness) Faulty(fault volumetest.Fault) (volume.Store, func() bool) {
	s := h.store.Another()
	var steps atomic.Int64
	s.Intercept(func(_ context.Context, step string, do func() error) error {
		return fault.Around(int(steps.Add(1)), step, do)
	})
	return s, func() bool { return steps.Load() >= int64(fault.Step) }
}

func (h *harness) Advance(d time.Duration) { h.store.Advance(d) }

func (h *harness) Listed() (entries []volumetest.Entry, err error) {
	p := h.store.place
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(p.volumes)) {
		e := p.volumes[name]
		if e.damage != "" || e.metadata == nil {
			err = errors.Join(err, fmt.Errorf("volume %s: %s", name, e.damage))
			continue
		}
		entry := volumetest.Entry{Name: name, Metadata: string(e.metadata)}
		if p.driver == volume.VMDK {
			entry.Label, entry.Capacity = volume.Label(name), e.capacity
		}
		entries = append(entries, entry)
	}
	return entries, err
}

func (h *harness) Files() []string { return h.store.Files() }

func (h *harness) Damages() []string { return []string{"no metadata"} }

func (h *harness) Damage(name, how string) { h.store.Damage(name, how) }

func (h *harness) Write(name, text string) { h.store.Write(name, text) }

func (h *harness) Read(name string) string {
	text, ok := h.store.Read(name)
	if !ok {
		h.Errorf("there is no volume %s to read", name)
	}
	return text
}

func (h *harness) Uses() []string { return []string{"attached"} }

func (h *harness) newUser() volume.User {
	h.vms++
	return volume.User{Name: fmt.Sprintf("worker-%d", h.vms), VM: fmt.Sprintf("vm-%d", h.vms)}
}

func (h *harness) Use(name, _ string) (volume.User, bool) {
	p := h.store.place
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.volumes[name] == nil {
		return volume.User{}, false
	}
	user := h.newUser()
	p.attach(user, []string{name})
	return user, true
}

func (h *harness) UseHidden() (volume.User, bool) {
	if h.store.Driver() == volume.NFS {
		return volume.User{}, false
	}
	user := h.newUser()
	user.Unproven = true
	h.store.Attach(user)
	return user, true
}

func (h *harness) Release(user volume.User) { h.store.Detach(user.VM) }

func (h *harness) Fill(full bool) { h.store.Fill(full) }

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containercache

import (
	"context"
	"slices"
	"sync"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// reads asks for properties, in one call for all who come while another one is under way.
type reads struct {
	client *vcenter.Client

	mu      sync.Mutex
	running bool
	pending []*read
}

type read struct {
	specs []types.PropertyFilterSpec
	// done is closed when content or err are there.
	done    chan struct{}
	content []types.ObjectContent
	err     error
}

// Read asks vCenter, not the view, for properties of named objects, each spec without traversal. Those who ask at the same
// time share a call; so an answer may have properties that others asked for. Objects that are gone are left out.
func (v *View) Read(ctx context.Context, specs ...types.PropertyFilterSpec) ([]types.ObjectContent, error) {
	r := &read{done: make(chan struct{}), specs: slices.Clone(specs)}
	for i := range r.specs {
		r.specs[i].ReportMissingObjectsInResults = types.NewBool(true)
	}
	v.reads.add(ctx, r)
	select {
	case <-r.done:
		return r.content, r.err
	case <-ctx.Done():
		return nil, vcenter.Convert(ctx.Err(), "read container VMs")
	}
}

func (s *reads) add(ctx context.Context, r *read) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, r)
	if !s.running {
		s.running = true
		go s.run(context.WithoutCancel(ctx)) // who came first may give up, the others do not; each call ends by itself
	}
}

func (s *reads) run(ctx context.Context) {
	for {
		s.mu.Lock()
		batch := s.pending
		s.pending = nil
		s.running = len(batch) > 0
		s.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		s.read(ctx, batch)
	}
}

func (s *reads) read(ctx context.Context, batch []*read) {
	vim := s.client.Vim()
	content, err := mo.RetrievePropertiesEx(ctx, vim, types.RetrievePropertiesEx{This: vim.ServiceContent.PropertyCollector, SpecSet: join(batch)})
	found := map[types.ManagedObjectReference]types.ObjectContent{}
	for _, c := range content {
		known := found[c.Obj]
		known.Obj = c.Obj
		known.PropSet = append(known.PropSet, c.PropSet...)
		found[c.Obj] = known
	}
	for _, r := range batch {
		r.err = err
		for _, spec := range r.specs {
			for _, o := range spec.ObjectSet {
				if c, ok := found[o.Obj]; ok {
					r.content = append(r.content, c)
				}
			}
		}
		close(r.done)
	}
}

// join puts the specs of all together. What several ask for in the same words is asked for once: the state of the VCH.
func join(batch []*read) []types.PropertyFilterSpec {
	var all []types.PropertyFilterSpec
	for _, r := range batch {
		for _, spec := range r.specs {
			if !slices.ContainsFunc(all, func(other types.PropertyFilterSpec) bool { return same(spec, other) }) {
				all = append(all, spec)
			}
		}
	}
	return all
}

func same(a, b types.PropertyFilterSpec) bool {
	return slices.EqualFunc(a.ObjectSet, b.ObjectSet, func(a, b types.ObjectSpec) bool { return a.Obj == b.Obj }) &&
		slices.EqualFunc(a.PropSet, b.PropSet, func(a, b types.PropertySpec) bool { return a.Type == b.Type && slices.Equal(a.PathSet, b.PathSet) })
}

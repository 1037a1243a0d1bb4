// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containercache

import (
	"context"
	"sync"

	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// looks reads properties of VMs, in one call for all who come while another one is under way. A filter has the
// same properties for all its objects, and what guests write stands in keys that have another name in each VM: so it
// cannot be watched with the rest.
type looks struct {
	client *vcenter.Client

	mu      sync.Mutex
	running bool
	pending []*look
}

type look struct {
	spec types.PropertyFilterSpec
	ref  types.ManagedObjectReference
	// done is closed when props or err are there.
	done  chan struct{}
	props []types.DynamicProperty
	err   error
}

// Look reads properties of a VM, in one call with others that ask at the same time. A VM that is gone is NotFound.
func (v *View) Look(ctx context.Context, ref types.ManagedObjectReference, paths ...string) ([]types.DynamicProperty, error) {
	l := &look{ref: ref, done: make(chan struct{}), spec: types.PropertyFilterSpec{
		ObjectSet:                     []types.ObjectSpec{{Obj: ref}},
		PropSet:                       []types.PropertySpec{{Type: ref.Type, PathSet: paths}},
		ReportMissingObjectsInResults: types.NewBool(true),
	}}
	v.looks.add(ctx, l)
	select {
	case <-l.done:
		return l.props, l.err
	case <-ctx.Done():
		return nil, vcenter.Convert(ctx.Err(), "read %s", ref.Value)
	}
}

func (s *looks) add(ctx context.Context, l *look) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = append(s.pending, l)
	if !s.running {
		s.running = true
		go s.run(context.WithoutCancel(ctx)) // who came first may give up, the others do not; each call ends by itself
	}
}

func (s *looks) run(ctx context.Context) {
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

func (s *looks) read(ctx context.Context, batch []*look) {
	vim := s.client.Vim()
	req := types.RetrievePropertiesEx{This: vim.ServiceContent.PropertyCollector}
	for _, l := range batch {
		req.SpecSet = append(req.SpecSet, l.spec)
	}
	content, err := mo.RetrievePropertiesEx(ctx, vim, req)
	found := map[types.ManagedObjectReference][]types.DynamicProperty{}
	for _, c := range content {
		found[c.Obj] = append(found[c.Obj], c.PropSet...)
	}
	for _, l := range batch {
		props := found[l.ref]
		switch {
		case err != nil:
			l.err = vcenter.Convert(err, "read %s", l.ref.Value)
		case len(props) == 0:
			l.err = errdefs.New(errdefs.NotFound, "read %s: it is not there", l.ref.Value)
		default:
			l.props = props
		}
		close(l.done)
	}
}

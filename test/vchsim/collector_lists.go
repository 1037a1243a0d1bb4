// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"path"
	"reflect"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
)

// readLists reads the lists of all nodes that may have changed, and of those that come
// by it, until all are read.
func (f *collectorFilter) readLists(ctx *simulator.Context) {
	e := f.engine
	for {
		e.mu.Lock()
		stale := f.stale
		f.stale = nil
		for _, n := range stale {
			n.stale = false
		}
		e.mu.Unlock()
		if len(stale) == 0 {
			return
		}
		for _, n := range stale {
			for i, s := range n.sel.steps {
				if !isKind(n.obj.Type, s.kind) || (branch{n.obj, s.path}).counted() {
					continue
				}
				now := e.list(ctx, n.obj, s.path)
				e.mu.Lock()
				if n.gone {
					now = nil
				}
				if !f.closed && n.refs > 0 {
					f.relist(n, i, now)
				}
				e.mu.Unlock()
			}
		}
	}
}

// list reads a property of an object that refers to others. Nobody is in it twice.
func (e *collectors) list(ctx *simulator.Context, r ref, property string) []ref {
	obj := ctx.Session.Get(r)
	if obj == nil {
		return nil
	}
	var all []ref
	ctx.WithLock(obj, func() {
		switch v := field(obj, property).(type) {
		case ref:
			all = []ref{v}
		case []ref:
			all = v
		}
		// A copy, and the lock's end: vcsim changes lists in place.
		seen := make(map[ref]struct{}, len(all))
		once := make([]ref, 0, len(all))
		for _, r := range all {
			if _, ok := seen[r]; !ok && r.Value != "" {
				seen[r] = struct{}{}
				once = append(once, r)
			}
		}
		all = once
	})
	if view, ok := obj.(*simulator.ContainerView); ok && property == "view" {
		return e.within(view, all)
	}
	return all
}

// within returns those that are in the view's container: vcsim forgets no VM that moves away.
func (e *collectors) within(view *simulator.ContainerView, all []ref) []ref {
	e.mu.Lock()
	defer e.mu.Unlock()
	in := all[:0]
	for _, r := range all {
		if _, known := e.places[r]; !known || e.under(r, view.Container, view.Recursive) {
			in = append(in, r)
		}
	}
	return in
}

// field returns the value of a property by its path, nil if there is none.
func field(obj mo.Reference, name string) any {
	v := reflect.ValueOf(obj).Elem()
	// What vcsim keeps is wrapped around the managed object.
	for path.Base(v.Type().PkgPath()) != "mo" {
		if v.Kind() != reflect.Struct || v.NumField() == 0 {
			return nil
		}
		if v = v.Field(0); v.Kind() == reflect.Pointer {
			v = v.Elem()
		}
		if !v.IsValid() {
			return nil
		}
	}
	for name := range strings.SplitSeq(name, ".") {
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
			v = v.Elem()
		}
		if v.Kind() != reflect.Struct || name == "" {
			return nil
		}
		v = v.FieldByName(strings.ToUpper(name[:1]) + name[1:])
	}
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if !v.IsValid() || !v.CanInterface() {
		return nil
	}
	return v.Interface()
}

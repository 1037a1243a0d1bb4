// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package migration

import (
	"maps"
	"path"
	"slices"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Step is what one plugin did.
type Step struct {
	// Plugin is which one.
	Plugin Plugin
	// Change is what it changed, without what was so already.
	Change Change
}

// Outcome is what a migration made of data.
type Outcome struct {
	// Target is which data it was.
	Target Target
	// Keys is the data as the last good plugin left it, with the stored version of that. Where no
	// plugin ran it is the very map that came in, else a copy.
	Keys map[string]string
	// From is the version that was stored, To the one that was reached: they are equal
	// where no plugin ran to its end.
	From, To int
	// Steps are the plugins that ran to their end, by version.
	Steps []Step
	// Newer says that the data is of a version that the set does not know.
	Newer bool
}

// Migrated reports whether any plugin ran to its end.
func (o Outcome) Migrated() bool { return o.To != o.From }

// Writable returns FailedPrecondition for data that a newer program wrote: what this
// one would write might contradict what it does not know. what names the data.
func (o Outcome) Writable(what string) error {
	if !o.Newer {
		return nil
	}
	return errdefs.New(errdefs.FailedPrecondition, "%s is not changed: its %s data has version %d, and this program knows none so new; use a newer version of it", what, o.Target, o.From)
}

// Migrate brings data of a target to the latest version. keys has plain values and is
// not changed. An empty map, which is no data, stays as it is.
//
// The error of a plugin has the plugin's kind, that of a stored version that is no
// number is InvalidArgument; the Outcome is valid all the same, as far as the
// migration came.
func (s *Set) Migrate(t Target, keys map[string]string) (Outcome, error) {
	if len(keys) == 0 {
		return Outcome{Target: t, Keys: keys}, nil
	}
	stored, err := t.Stored(keys)
	if err != nil {
		return Outcome{Target: t, Keys: keys}, err
	}
	return s.MigrateFrom(t, stored, keys)
}

// MigrateFrom is Migrate for data whose version is stored elsewhere, as that of a
// key/value store. An empty map is data here. A negative version is InvalidArgument.
func (s *Set) MigrateFrom(t Target, stored int, keys map[string]string) (Outcome, error) {
	if stored < 0 {
		return Outcome{Target: t, Keys: keys}, errdefs.New(errdefs.InvalidArgument, "%s data has version %d; it must be 0 or greater", t, stored)
	}
	o := Outcome{Target: t, Keys: keys, From: stored, To: stored, Newer: stored > max(s.Latest(t), t.highest())}
	for _, p := range s.plugins[t] {
		if p.Version <= stored {
			continue
		}
		if err := o.run(p); err != nil {
			return o, errdefs.Wrap(errdefs.KindOf(err), err, "migrate %s data from version %d: plugin %q of version %d", t, stored, p.Name, p.Version)
		}
	}
	return o, nil
}

// run lets a plugin work on the data, on a copy that counts only when all went well.
func (o *Outcome) run(p Plugin) error {
	next := make(map[string]string, len(o.Keys)+1)
	maps.Copy(next, o.Keys)
	change, err := p.Step(maps.Clone(next)) // a copy of its own: it may not do as it promised
	if err != nil {
		return err
	}
	if err := p.allows(change); err != nil {
		return err
	}
	change = apply(next, change)
	stamp, err := o.Target.stamp(next, p.Version)
	if err != nil {
		return err
	}
	apply(next, stamp)
	o.Keys, o.To = next, p.Version
	o.Steps = append(o.Steps, Step{Plugin: p, Change: change})
	return nil
}

// allows returns Internal for a change that the plugin may not make.
func (p Plugin) allows(c Change) error {
	for _, key := range slices.Sorted(maps.Keys(c.Set)) {
		if !p.touches(key) {
			return errdefs.New(errdefs.Internal, "it wants to set key %q, which it does not name", key)
		}
	}
	for _, key := range c.Delete {
		if !p.touches(key) {
			return errdefs.New(errdefs.Internal, "it wants to delete key %q, which it does not name", key)
		}
		if _, both := c.Set[key]; both {
			return errdefs.New(errdefs.Internal, "it wants to set key %q and to delete it", key)
		}
	}
	return nil
}

func (p Plugin) touches(key string) bool {
	return slices.ContainsFunc(p.Touches, func(pattern string) bool { ok, err := path.Match(pattern, key); return ok && err == nil })
}

// apply changes keys and returns the part of the change that was one.
func apply(keys map[string]string, c Change) Change {
	var done Change
	for _, key := range c.Delete {
		if _, there := keys[key]; there {
			delete(keys, key)
			done.Delete = append(done.Delete, key)
		}
	}
	slices.Sort(done.Delete)
	for key, value := range c.Set {
		if old, there := keys[key]; there && old == value {
			continue
		}
		if done.Set == nil {
			done.Set = map[string]string{}
		}
		keys[key], done.Set[key] = value, value
	}
	return done
}

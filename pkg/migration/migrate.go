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
	stored, err := t.versions().read(keys)
	if err != nil {
		return Outcome{Target: t, Keys: keys}, err
	}
	return s.MigrateFrom(t, stored, keys)
}

// MigrateFrom is Migrate for data whose version is stored elsewhere.
func (s *Set) MigrateFrom(t Target, stored int, keys map[string]string) (Outcome, error) {
	o := Outcome{Target: t, Keys: keys, From: stored, To: stored, Newer: stored > max(s.Latest(t), t.versions().known)}
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
	change, err := p.Step(maps.Clone(o.Keys))
	if err != nil {
		return err
	}
	for key := range change.all() {
		if !slices.ContainsFunc(p.Touches, func(pattern string) bool { ok, err := path.Match(pattern, key); return ok && err == nil }) {
			return errdefs.New(errdefs.Internal, "it wants to change key %q, which it does not name", key)
		}
	}
	next := maps.Clone(o.Keys)
	change = apply(next, change)
	stamp, err := o.Target.versions().stamp(next, p.Version)
	if err != nil {
		return err
	}
	apply(next, stamp)
	o.Keys, o.To = next, p.Version
	o.Steps = append(o.Steps, Step{Plugin: p, Change: change})
	return nil
}

// all yields the keys that a change names.
func (c Change) all() map[string]bool {
	out := make(map[string]bool, len(c.Set)+len(c.Delete))
	for key := range c.Set {
		out[key] = true
	}
	for _, key := range c.Delete {
		out[key] = true
	}
	return out
}

// apply changes keys and returns the part of the change that was one.
func apply(keys map[string]string, c Change) Change {
	var real Change
	for _, key := range c.Delete {
		if _, there := keys[key]; there {
			delete(keys, key)
			real.Delete = append(real.Delete, key)
		}
	}
	slices.Sort(real.Delete)
	for key, value := range c.Set {
		if old, there := keys[key]; there && old == value {
			continue
		}
		if real.Set == nil {
			real.Set = map[string]string{}
		}
		keys[key], real.Set[key] = value, value
	}
	return real
}

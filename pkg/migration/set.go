// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package migration

import (
	"path"
	"regexp"
	"slices"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Plugin makes data of its version from data of any lower version.
type Plugin struct {
	// Version is greater than 0 and unique within the target. Once released it never changes.
	Version int
	// Target is the data that the plugin is for.
	Target Target
	// Name is unique within the target: lower case, words joined by hyphens.
	Name string
	// About says in one line, for people, what changes and why.
	About string
	// Touches are the keys that the plugin may set or delete: patterns of path.Match,
	// in which * stands for anything but a slash. Anything else is Internal. The key of the
	// data version is never among them.
	Touches []string
	// Step is pure: it reads keys, never changes them, and returns what is to be
	// changed. Values are plain, "" for what ExtraConfig holds as "<nil>"; those of key/value
	// stores are bytes. It must bear any input. An error ends the migration before
	// this plugin; it names the key, never the value of a secret.
	Step func(keys map[string]string) (Change, error)
}

// Change is what a plugin wants changed. A key is in one of the two at most.
type Change struct {
	// Set are keys with their new values.
	Set map[string]string
	// Delete are keys that are to go. Plugins for data that an older program may have to
	// read again after a failed upgrade delete nothing.
	Delete []string
}

var namePattern = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// Set is a list of plugins that fit together. It is not changed any more and safe
// for concurrent use.
type Set struct {
	plugins map[Target][]Plugin
}

// New checks the plugins and returns them as a set: each is complete, and the
// versions of each target are unique and ascend in the order of the arguments. The
// error is InvalidArgument and names the plugin.
func New(plugins ...Plugin) (*Set, error) {
	s := &Set{plugins: map[Target][]Plugin{}}
	for _, p := range plugins {
		if err := s.check(p); err != nil {
			return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "migration plugin %q (%s, version %d)", p.Name, p.Target, p.Version)
		}
		p.Touches = slices.Clone(p.Touches)
		s.plugins[p.Target] = append(s.plugins[p.Target], p)
	}
	return s, nil
}

// Must is New for lists that are part of a program: a wrong one panics at its start.
func Must(s *Set, err error) *Set {
	if err != nil {
		panic(err)
	}
	return s
}

func (s *Set) check(p Plugin) error {
	bad := func(format string, args ...any) error { return errdefs.New(errdefs.InvalidArgument, format, args...) }
	switch {
	case !slices.Contains(Targets(), p.Target):
		return bad("the target must be one of %v", Targets())
	case p.Version <= 0:
		return bad("the version must be greater than 0")
	case !namePattern.MatchString(p.Name):
		return bad("the name must be lower-case words joined by hyphens")
	case p.About == "":
		return bad("it must say what it is about")
	case p.Step == nil:
		return bad("it has no step")
	case len(p.Touches) == 0:
		return bad("it must name the keys that it touches")
	}
	for _, pattern := range p.Touches {
		version := p.Target.versionKey()
		ofVersion, err := path.Match(pattern, version)
		switch {
		case err != nil || pattern == "":
			return bad("pattern %q of a touched key is malformed", pattern)
		case ofVersion && version != "":
			return bad("pattern %q matches key %q, which holds the data version: that is stored for the plugin when it has run", pattern, version)
		}
	}
	for _, other := range s.plugins[p.Target] {
		switch {
		case other.Version == p.Version:
			return bad("plugin %q has that version already; take the next one", other.Name)
		case other.Version > p.Version:
			return bad("it stands behind plugin %q of version %d; list plugins by version", other.Name, other.Version)
		case other.Name == p.Name:
			return bad("the name is taken by version %d", other.Version)
		}
	}
	return nil
}

// Plugins returns the plugins of a target by version. The slice is the caller's.
func (s *Set) Plugins(t Target) []Plugin {
	out := slices.Clone(s.plugins[t])
	for i := range out {
		out[i].Touches = slices.Clone(out[i].Touches)
	}
	return out
}

// Latest is the version that the plugins of a target lead to; 0 without any.
func (s *Set) Latest(t Target) int {
	all := s.plugins[t]
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].Version
}

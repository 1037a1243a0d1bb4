// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// keyChange is one key that a migration changes. Values are as they may be shown. The JSON
// names are for scripts: they stay.
type keyChange struct {
	Key string `json:"key"`
	// Old is not there for a key that is new, New not for one that goes.
	Old *string `json:"old,omitempty"`
	New *string `json:"new,omitempty"`
	// Waits says that it cannot be written now.
	Waits bool `json:"waits,omitempty"`
}

// keyStep is what one plugin changes.
type keyStep struct {
	Target migration.Target `json:"target"`
	// Version and Plugin are not there for the version of the data itself.
	Version int         `json:"version,omitempty"`
	Plugin  string      `json:"plugin,omitempty"`
	About   string      `json:"about"`
	Changes []keyChange `json:"changes"`
}

// keySteps groups what migrations made of data, one after the other, by plugin. Each
// key stands once, with the plugin that had the last word about it: old is
// what is stored, new what is written. waits are keys that cannot be written now.
func keySteps(stored map[string]string, outcomes []migration.Outcome, waits []migration.Difference) []keyStep {
	steps := []keyStep{}
	for _, o := range outcomes {
		steps = append(steps, stepsOf(stored, o, waits)...)
		if o.Keys != nil {
			stored = o.Keys
		}
	}
	return steps
}

func stepsOf(stored map[string]string, o migration.Outcome, waits []migration.Difference) []keyStep {
	if o.Keys == nil {
		return nil
	}
	steps := make([]keyStep, 0, len(o.Steps)+1)
	owner := map[string]int{}
	for i, s := range o.Steps {
		steps = append(steps, keyStep{Target: o.Target, Version: s.Plugin.Version, Plugin: s.Plugin.Name, About: s.Plugin.About, Changes: []keyChange{}})
		for key := range s.Change.Set {
			owner[key] = i
		}
		for _, key := range s.Change.Delete {
			owner[key] = i
		}
	}
	version := keyStep{Target: o.Target, About: "the version of the data"}
	for _, d := range migration.Diff(stored, o.Keys) {
		later := slices.ContainsFunc(waits, func(w migration.Difference) bool { return w.Key == d.Key })
		change := keyChange{Key: d.Key, Old: visibleValue(d.Key, d.Old), New: visibleValue(d.Key, d.New), Waits: later}
		if i, ok := owner[d.Key]; ok {
			steps[i].Changes = append(steps[i].Changes, change)
		} else {
			version.Changes = append(version.Changes, change)
		}
	}
	if len(version.Changes) > 0 {
		steps = append(steps, version)
	}
	return steps
}

func visibleValue(key string, value *string) *string {
	if value == nil {
		return nil
	}
	text := visible(key, *value)
	return &text
}

// stepLines are the lines of a diff for people.
func stepLines(steps []keyStep) []string {
	var lines []string
	for _, s := range steps {
		title := fmt.Sprintf("%s: %s", s.Target, s.About)
		if s.Plugin != "" {
			title = fmt.Sprintf("%s %d, %s: %s", s.Target, s.Version, s.Plugin, s.About)
		}
		if len(s.Changes) == 0 {
			title += " (nothing to change here)"
		}
		lines = append(lines, title)
		for _, c := range s.Changes {
			lines = append(lines, "  "+c.line())
		}
	}
	return lines
}

// line is a key as a diff shows it.
func (c keyChange) line() string {
	value := func(text *string) string { return cmp.Or(oneLine(*text), `""`) }
	key := oneLine(c.Key)
	switch {
	case c.New == nil:
		return "- " + key
	case c.Old == nil:
		return "+ " + key + ": " + value(c.New)
	default:
		return "~ " + key + ": " + value(c.Old) + " -> " + value(c.New)
	}
}

// indented joins lines, each with an indent.
func indented(indent string, lines []string) string {
	var out strings.Builder
	for _, line := range lines {
		out.WriteString(indent + line + "\n")
	}
	return out.String()
}

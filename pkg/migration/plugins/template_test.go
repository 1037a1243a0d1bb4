// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// What follows is the template of docs/migration-plugins.md, which quotes it word for word. It is
// not shipped: no release ever wrote what it mends.

// syslogNetwork is ours. The first releases stored the network of the syslog target as it
// was typed; the guest knows it in lower case only.
func syslogNetwork() migration.Plugin {
	const key = "guestinfo.vice./diagnostics/syslog/Network"
	type part struct { // the few fields that this plugin has to do with
		Network string `guestinfo:"diagnostics/syslog/Network,read-only"`
	}
	return migration.Plugin{
		Version: 3, Target: migration.Machine, Name: "syslog-network",
		About:   "the network of the syslog target is in lower case",
		Touches: []string{key},
		Step: func(keys map[string]string) (migration.Change, error) {
			var p part
			if err := guestinfo.DecodePart(keys, &p); err != nil {
				return migration.Change{}, err // it names the key
			}
			if p.Network == "" {
				return migration.Change{}, nil // nothing to mend, and nothing to invent
			}
			return migration.Change{Set: map[string]string{key: strings.ToLower(p.Network)}}, nil
		},
	}
}

func TestTheTemplateIsAPluginThatKeepsThePromises(t *testing.T) {
	p := syslogNetwork()
	set, err := migration.New(append(Shipped().Plugins(migration.Machine), p)...)
	if err != nil {
		t.Fatalf("give the template the next number, here and in the document: %v", err)
	}
	const key = "guestinfo.vice./diagnostics/syslog/Network"
	for stored, want := range map[string]string{"TCP": "tcp", "udp6": "udp6", "": "", "ÜDP": "üdp"} {
		in := map[string]string{
			key:                        stored,
			"annotations|mcm-vch-mark": `{"cluster":"shoot","role":"node","machine":"m-0","provider":"v1"}`,
		}
		before := maps.Clone(in)
		o, err := set.Migrate(migration.Machine, in)
		if err != nil || o.To != p.Version || o.Keys[key] != want {
			t.Errorf("%q became %+v, %v", stored, o, err)
		}
		if again, err := set.Migrate(migration.Machine, o.Keys); err != nil || again.Migrated() {
			t.Errorf("%q became %+v in the second migration, %v", stored, again, err)
		}
		if diff := cmp.Diff(before, in); diff != "" {
			t.Errorf("the input was changed (-before +after):\n%s", diff)
		}
	}
	if change, err := p.Step(nil); err != nil || len(change.Set) > 0 {
		t.Errorf("of nothing it makes %v, %v", change, err)
	}
}

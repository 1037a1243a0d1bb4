// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// container returns a container VM as it is read whose stored keys are these and its id and networks.
func container(t *testing.T, name string, keys map[string]string) *VM {
	t.Helper()
	stored := map[string]string{
		guestinfo.CommonIDKey: strings.Repeat("0a", 32), guestinfo.PluginVersionKey: "10", guestinfo.NetworksKey: "bridge|my.net",
	}
	for key, value := range keys {
		stored[key] = value
	}
	data, err := plugins.Shipped().MigrateVM(stored)
	return &VM{Name: name, Ref: types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-1"}, Stored: stored, Keys: data.Keys, Data: data, MigrationError: err}
}

func TestTheAliasesKeyIsWhereVICsEncodingHasThem(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"bridge", "my.net", "a/b", "vm network"} {
		endpoint := &guestinfo.NetworkEndpoint{Network: guestinfo.ContainerNetwork{Aliases: []string{"c:a", ":b"}}}
		keys, err := guestinfo.EncodeExecutor(&guestinfo.ExecutorConfig{Networks: map[string]*guestinfo.NetworkEndpoint{network: endpoint}})
		if err != nil {
			t.Fatal(err)
		}
		if got := keys[guestinfo.AliasesKey(network)]; got != "c:a|:b" {
			t.Errorf("network %q: %q at %q", network, got, guestinfo.AliasesKey(network))
		}
	}
}

func TestLinksAreLookedForWhereTheyCanBe(t *testing.T) {
	t.Parallel()
	vm := container(t, "vm", map[string]string{guestinfo.NetworksKey: `bridge|my.net|a"b`})
	r := renaming{Operator: &Operator{host: &vch.Config{Networks: map[string]vch.Network{"bridge": {}, "vm-network": {}}}}, from: vm}
	want := []string{guestinfo.AliasesKey("bridge"), guestinfo.AliasesKey("my.net"), guestinfo.AliasesKey("vm-network")}
	if diff := cmp.Diff(want, r.aliasKeys()); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

func TestOwnAliasesFollowTheName(t *testing.T) {
	t.Parallel()
	for list, want := range map[string]string{
		"":                          "",
		":old":                      ":new",
		"old":                       "new",
		":old|:old":                 ":new|:new",
		":other|db:old|:old":        ":other|db:old|:new",
		"old:old|old:x":             "new:new|new:x",
		":old2|:ol|x:old|oldx:old":  ":old2|:ol|x:old|oldx:old",
		":old:old|::|:|a||b":        ":old:old|::|:|a||b",
		"|:old":                     "|:new",
		"Old:Old|:OLD":              "Old:Old|:OLD",
		"bridge:old|bridge:old:old": "bridge:old|bridge:old:old",
	} {
		if got := renameAliases(list, "old", "new"); got != want {
			t.Errorf("%q becomes %q, want %q", list, got, want)
		}
	}
	if got := renameAliases(":|x:", "", "new"); got != ":|x:" {
		t.Errorf("without a name: %q", got)
	}
}

func TestARenameIsPlannedFromWhatIsStored(t *testing.T) {
	t.Parallel()
	const id = "0a0a0a0a0a0a"
	bridge, mine := guestinfo.AliasesKey("bridge"), guestinfo.AliasesKey("my.net")
	long := strings.Repeat("0123456789", 9)
	for name, tc := range map[string]struct {
		vm, convention, give string
		keys                 map[string]string
		display              string // "" is none
		want                 map[string]string
	}{
		"a name":                 {vm: "old-" + id, keys: map[string]string{guestinfo.NameKey: "old"}, display: "new-" + id, want: map[string]string{guestinfo.NameKey: "new"}},
		"the same":               {vm: "new-" + id, keys: map[string]string{guestinfo.NameKey: "new", bridge: ":new"}},
		"a display name by hand": {vm: "by-hand", keys: map[string]string{guestinfo.NameKey: "new"}, display: "new-" + id},
		"a hidden name by hand":  {vm: "new-" + id, keys: map[string]string{guestinfo.NameKey: "old"}, want: map[string]string{guestinfo.NameKey: "new"}},
		"no name yet":            {vm: "vm", display: "new-" + id, want: map[string]string{guestinfo.NameKey: "new"}},
		"an empty name":          {vm: "vm", keys: map[string]string{guestinfo.NameKey: "", bridge: ":"}, display: "new-" + id, want: map[string]string{guestinfo.NameKey: "new"}},
		"the name of old":        {vm: "new-" + id, keys: map[string]string{guestinfo.OldNameKey: "new"}, want: map[string]string{guestinfo.NameKey: "new"}},
		"another name of old":    {vm: "new-" + id, keys: map[string]string{guestinfo.OldNameKey: "old", bridge: ":old"}, want: map[string]string{guestinfo.NameKey: "new", bridge: ":new"}},
		"aliases": {
			vm: "old-" + id, keys: map[string]string{guestinfo.NameKey: "old", bridge: ":old|db:old", mine: ":x|:old", guestinfo.AliasesKey("other"): ":old"},
			display: "new-" + id, want: map[string]string{guestinfo.NameKey: "new", bridge: ":new|db:old", mine: ":x|:new"},
		},
		"a convention":             {vm: "old", convention: "{id}/{name}", keys: map[string]string{guestinfo.NameKey: "old"}, display: id + "/new", want: map[string]string{guestinfo.NameKey: "new"}},
		"one without a token":      {vm: "vm", convention: "vm", keys: map[string]string{guestinfo.NameKey: "old"}, want: map[string]string{guestinfo.NameKey: "new"}},
		"a name longer than shown": {vm: "old", give: long, keys: map[string]string{guestinfo.NameKey: "old"}, display: long[:67] + "-" + id, want: map[string]string{guestinfo.NameKey: long}},
		"one longer by what is not shown": {
			vm: long[:67] + "-" + id, give: long + "x", keys: map[string]string{guestinfo.NameKey: long}, want: map[string]string{guestinfo.NameKey: long + "x"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if tc.give == "" {
				tc.give = "new"
			}
			vm := container(t, tc.vm, tc.keys)
			spec, err := planRename(vm, &vch.Config{NameConvention: tc.convention}, tc.give)
			if err != nil {
				t.Fatal(err)
			}
			if spec == nil {
				if tc.display != "" || tc.want != nil {
					t.Fatalf("nothing is to be done, want %q and %v", tc.display, tc.want)
				}
				return
			}
			if diff := cmp.Diff(tc.want, plain(spec)); diff != "" || spec.Name != tc.display || len(spec.Name) > 80 {
				t.Errorf("display name %q, want %q; keys (-want +got):\n%s", spec.Name, tc.display, diff)
			}
			// Only what may be written while the VM is on, and nothing of its files.
			if on := guestinfo.PoweredOnKeys(vch.Keys(spec.ExtraConfig)); len(on) != len(spec.ExtraConfig) || spec.Files != nil {
				t.Errorf("the guest sees some of %v; files %v", vch.Keys(spec.ExtraConfig), spec.Files)
			}
			// What was done has nothing left to do, and can be taken back.
			after := *vm
			if spec.Name != "" {
				after.Name = spec.Name
			}
			renamed := container(t, after.Name, merged(vm.Stored, plain(spec)))
			if again, err := planRename(renamed, &vch.Config{NameConvention: tc.convention}, tc.give); again != nil || err != nil {
				t.Errorf("again: %+v, %v", again, err)
			}
			back := undo(renamed, vm, spec)
			if diff := cmp.Diff(vm.Stored, merged(renamed.Stored, vch.Keys(back.ExtraConfig))); diff != "" || spec.Name != "" && back.Name != vm.Name {
				t.Errorf("taken back, the VM is called %q; its keys (-before +after):\n%s", back.Name, diff)
			}
			if left := undo(vm, vm, spec); left != nil && len(left.ExtraConfig) > 0 {
				t.Errorf("what is not there any more is taken back: %+v", left)
			}
		})
	}
}

// plain are the keys of a specification as they are read.
func plain(spec *types.VirtualMachineConfigSpec) map[string]string {
	if len(spec.ExtraConfig) == 0 {
		return nil
	}
	return guestinfo.FromOptionValues(vch.Keys(spec.ExtraConfig))
}

// merged are keys after options were written, as vSphere takes them: the empty text deletes.
func merged(keys, options map[string]string) map[string]string {
	out := map[string]string{}
	for key, value := range keys {
		out[key] = value
	}
	for key, value := range options {
		out[key] = guestinfo.FromOptionValue(value)
		if value == "" {
			delete(out, key)
		}
	}
	return out
}

func TestARenameOfOldOrNewDataIsNotPlanned(t *testing.T) {
	t.Parallel()
	for version, text := range map[string]string{
		"":   "container old does not support rename: VM \"vm\" (vm-1) has data of version 0 stored, and version 4 is needed; power it off and bring its data up to date with vchctl migrate apply",
		"3":  "container old does not support rename: VM \"vm\" (vm-1) has data of version 3 stored",
		"x":  "container old does not support rename: VM \"vm\" (vm-1) needs data of version 4, and its data cannot be brought there",
		"11": "VM \"vm\" (vm-1) is not changed",
	} {
		vm := container(t, "vm", map[string]string{guestinfo.OldNameKey: "old", guestinfo.PluginVersionKey: version})
		spec, err := planRename(vm, &vch.Config{}, "new")
		if spec != nil || !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.HasPrefix(err.Error(), text) {
			t.Errorf("version %q: %+v, %v; want FailedPrecondition that begins %q", version, spec, err, text)
		}
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// shelf is some volumes of a VCH, of which VMs have some.
func shelf() []volumeInfo {
	vmdk := func(name string, labels map[string]string, users ...volume.User) volumeInfo {
		v := newVolumeInfo(volume.Volume{
			Name: name, Store: "default", Driver: volume.VMDK, Location: "[ds] " + name + ".vmdk", Capacity: 1 << 30,
			Created: time.Date(2026, 3, 1, 10, 0, 0, 0, time.UTC), Metadata: volume.Metadata{Labels: labels},
		}, "vch-1")
		v.Users = append(v.Users, users...)
		return v
	}
	a, hidden := volume.User{Name: "a", VM: "vm-1"}, volume.User{Name: "b", VM: "vm-2", Unproven: true}
	anonymous := map[string]string{volume.LabelAnonymous: "true", volume.LabelMachine: "worker-a"}
	nfs := vmdk("shared", map[string]string{"team": "b", "tier": "1"})
	nfs.Driver, nfs.Store, nfs.Capacity = volume.NFS, "nfs", 0
	damaged := vmdk("damaged", anonymous)
	damaged.Damage = "it has no metadata"
	young := vmdk("young", anonymous)
	young.Created = time.Date(2026, 3, 1, 11, 50, 1, 0, time.UTC)
	future := vmdk("future", nil)
	future.Created = time.Date(2026, 3, 1, 13, 0, 0, 0, time.UTC)
	ageless := vmdk("ageless", anonymous)
	ageless.Created = time.Time{}
	unknown := vmdk("unknown", anonymous)
	unknown.UsersError = "vCenter does not answer"
	return []volumeInfo{
		vmdk("data", map[string]string{"team": "a", "tier": "1"}, a), vmdk("data-old", map[string]string{"team": "a"}), nfs,
		vmdk("anonymous", anonymous), vmdk("anonymous-used", anonymous, hidden, a), vmdk("anonymous-hidden", anonymous, hidden),
		damaged, young, future, ageless, unknown,
	}
}

func shown(volumes []volumeInfo, filter *volumeFilter) []string {
	var names []string
	for _, v := range volumes {
		if filter.matches(&v.Volume) && filter.matchesUsers(&v) {
			names = append(names, v.Name)
		}
	}
	return names
}

func TestFiltersAreDockers(t *testing.T) {
	known := []string{filterDangling, filterDriver, filterLabel, filterName, filterStore}
	tests := []struct {
		name    string
		filters []string
		want    []string
		err     string
	}{
		{"a part of a name", []string{"name=data"}, []string{"data", "data-old"}, ""},
		{"one of two names", []string{"name=ata-o", "name=shar"}, []string{"data-old", "shared"}, ""},
		{"a driver", []string{"driver=vsphere-nfs"}, []string{"shared"}, ""},
		{"one of two stores, and a name", []string{"store=nfs", "store=x", "name=s"}, []string{"shared"}, ""},
		{"a store that there is not", []string{"store=x"}, nil, ""},
		{"a label", []string{"label=team"}, []string{"data", "data-old", "shared"}, ""},
		{"a label and its value", []string{"label=team=a"}, []string{"data", "data-old"}, ""},
		{"a label and no value", []string{"label=team="}, nil, ""},
		{"all labels", []string{"label=team=a", "label=tier"}, []string{"data"}, ""},
		{"labels that exclude each other", []string{"label=team=a", "label=team=b"}, nil, ""},
		{"what no VM has", []string{"dangling=true", "name=a"}, []string{"data-old", "shared", "anonymous", "damaged", "ageless"}, ""},
		{"what a VM has, or may have", []string{"dangling=0"}, []string{"data", "anonymous-used", "anonymous-hidden", "unknown"}, ""},
		{"twice the same", []string{"dangling=true", "dangling=1", "driver=vsphere-nfs"}, []string{"shared"}, ""},
		{"a contradiction", []string{"dangling=true", "dangling=false"}, nil, `--filter "dangling=false": the other filter dangling says the opposite`},
		{"neither true nor false", []string{"dangling=yes"}, nil, `--filter "dangling=yes": want dangling=true or dangling=false`},
		{"another driver", []string{"driver=local"}, nil, `--filter "driver=local": the drivers are vsphere-vmdk and vsphere-nfs`},
		{"no value", []string{"name="}, nil, `--filter "name=": want name=VALUE`},
		{"no value at all", []string{"label"}, nil, `--filter "label": want label=VALUE`},
		{"another filter", []string{"until=1h"}, nil, `--filter "until=1h": there is no such filter; there are dangling=, driver=, label=, name=, store=`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			filter, err := parseVolumeFilter(test.filters, known...)
			if test.err != "" || err != nil {
				if err == nil || err.Error() != test.err || !errdefs.Is(err, errdefs.InvalidArgument) {
					t.Errorf("got  %v\nwant %s", err, test.err)
				}
				return
			}
			if diff := cmp.Diff(test.want, shown(shelf(), &filter)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestPruneSparesWhatMayBeNeeded(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name string
		all  bool
		want []string
		kept map[string]string
	}{
		{"anonymous ones", false, []string{"anonymous", "ageless"}, map[string]string{
			"anonymous-hidden": "vCenter cannot tell which disks b (vm-2) has; make it accessible, or unregister it",
			"damaged":          "it is damaged: see it with vchctl volume inspect, and remove it by name with vchctl volume rm",
			"young":            "it is less than 10 minutes old, and may be for a machine that has no VM yet",
			"unknown":          "vCenter does not answer",
		}},
		{"all", true, []string{"data-old", "shared", "anonymous", "ageless"}, map[string]string{
			"anonymous-hidden": "vCenter cannot tell which disks b (vm-2) has; make it accessible, or unregister it",
			"damaged":          "it is damaged: see it with vchctl volume inspect, and remove it by name with vchctl volume rm",
			"young":            "it is less than 10 minutes old, and may be for a machine that has no VM yet",
			"future":           "it is less than 10 minutes old, and may be for a machine that has no VM yet",
			"unknown":          "vCenter does not answer",
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			plan := planVolumePrune(shelf(), test.all, now)
			var going []string
			capacity := int64(0)
			for _, r := range plan.Volumes {
				going, capacity = append(going, r.Name), capacity+r.Capacity
			}
			kept := map[string]string{}
			for _, k := range plan.Kept {
				kept[k.Name] = k.Reason
			}
			if diff := cmp.Diff(test.want, going); diff != "" {
				t.Errorf("what goes (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.kept, kept); diff != "" {
				t.Errorf("what stays (-want +got):\n%s", diff)
			}
			if plan.Capacity != capacity {
				t.Errorf("the capacity is %d, want %d", plan.Capacity, capacity)
			}
		})
	}
}

func TestAPlanIsToldInAFewWords(t *testing.T) {
	plan := planVolumePrune(shelf(), true, time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	plan.Leftovers = []volume.Leftover{{Store: "default", Path: "[ds] x"}}
	if got, want := question(&plan), "Remove 4 volumes (up to 3 GiB) and 1 leftover for good? 2 volumes have a name of their own, and may wait for a machine."; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	plan.Volumes, plan.Capacity = plan.Volumes[:1], 1<<30
	if got, want := question(&plan), "Remove 1 volume (up to 1 GiB) and 1 leftover for good? 1 volume has a name of its own, and may wait for a machine."; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	want := []string{
		"Kept anonymous-hidden: vCenter cannot tell which disks b (vm-2) has; make it accessible, or unregister it.",
		"Kept damaged: it is damaged: see it with vchctl volume inspect, and remove it by name with vchctl volume rm.",
		"Kept unknown: vCenter does not answer.",
		"Kept young, future: it is less than 10 minutes old, and may be for a machine that has no VM yet.",
	}
	if diff := cmp.Diff(want, plan.keptTexts()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

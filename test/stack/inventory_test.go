// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package stack_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func world(t *testing.T) (*vchsim.Sim, *stack.VCenter) {
	t.Helper()
	sim, err := vchsim.Start(t.Context(), vchsim.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	secret := map[string]string{}
	for key, value := range sim.Secret() {
		secret[key] = string(value)
	}
	return sim, &stack.VCenter{Datacenter: sim.Datacenter, Secret: secret}
}

func read(t *testing.T, vcenter *stack.VCenter) *stack.Inventory {
	t.Helper()
	inventory, err := vcenter.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return inventory
}

func TestAnInventoryHoldsEverything(t *testing.T) {
	t.Parallel()
	sim, vcenter := world(t)
	inventory := read(t, vcenter)
	if len(inventory.VMs) == 0 || len(inventory.VMs) != len(sim.VMs()) {
		t.Errorf("%d VMs, want %d", len(inventory.VMs), len(sim.VMs()))
	}
	for _, file := range sim.Files() {
		if _, found := inventory.Files[file]; !found {
			t.Errorf("%s is missing", file)
		}
	}
}

func TestWhatChangesIsSeen(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*testing.T, *vchsim.Sim)
		want   string
	}{
		"a new VM": {
			change: func(t *testing.T, sim *vchsim.Sim) {
				t.Helper()
				if _, err := sim.CreateForeignVM("late-comer", "", nil); err != nil {
					t.Fatal(err)
				}
			},
			want: "late-comer",
		},
		"a file that is left over": {
			change: func(t *testing.T, sim *vchsim.Sim) {
				t.Helper()
				leave(t, sim, "left-over.vmdk")
			},
			want: "left-over.vmdk",
		},
		"a reconfiguration": {
			change: func(_ *testing.T, sim *vchsim.Sim) { sim.ApplianceSetUpdateInProgress(true) },
			want:   "ChangeVersion",
		},
	} {
		t.Run(name+" makes an inventory unequal", func(t *testing.T) {
			t.Parallel()
			sim, vcenter := world(t)
			before := read(t, vcenter)
			if err := before.Equal(read(t, vcenter)); err != nil {
				t.Fatalf("nothing has happened, but: %v", err)
			}
			test.change(t, sim)
			if err := before.Equal(read(t, vcenter)); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v does not name %s", err, test.want)
			}
		})
	}
}

func TestImageDisksCanBeLeftOut(t *testing.T) {
	t.Parallel()
	before := &stack.Inventory{Files: map[string]int64{"[ds] vch-1/a": 1}}
	after := &stack.Inventory{Files: map[string]int64{"[ds] vch-1/a": 1, "[ds] vch-1/mcm-images/": 0, "[ds] vch-1/mcm-images/disks/": 0, "[ds] vch-1/mcm-images-not": 2}}
	if got := after.ImageDisks(); len(got) != 2 || got[0] != "[ds] vch-1/mcm-images/" {
		t.Errorf("image disks: %v", got)
	}
	if err := before.Equal(after.WithoutImageDisks()); err == nil || !strings.Contains(err.Error(), "mcm-images-not") || strings.Contains(err.Error(), "disks") {
		t.Error(err)
	}
	if len(after.Files) != 4 {
		t.Errorf("the inventory itself has %v", after.Files)
	}
}

// leave puts a file beside the image disk.
func leave(t *testing.T, sim *vchsim.Sim, name string) {
	t.Helper()
	var images string
	err := filepath.WalkDir(sim.Dir(), func(path string, entry os.DirEntry, err error) error {
		if err == nil && entry.IsDir() && entry.Name() == "images" {
			images = path
		}
		return err
	})
	if err != nil || images == "" {
		t.Fatalf("no directory of images: %v", err)
	}
	if err := os.WriteFile(filepath.Join(images, name), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestAVMIsFoundByItsProviderID(t *testing.T) {
	t.Parallel()
	_, vcenter := world(t)
	inventory := read(t, vcenter)
	for path, vm := range inventory.VMs {
		id := vm.Guestinfo["guestinfo.vice./common/id"]
		if id == "" {
			continue
		}
		found, ok := inventory.VM("vch://x/" + id)
		if !ok || found.Ref != vm.Ref {
			t.Errorf("%s is not found by its id %s", path, id)
		}
	}
	if _, ok := inventory.VM(""); ok {
		t.Error("a VM without an id is found")
	}
}

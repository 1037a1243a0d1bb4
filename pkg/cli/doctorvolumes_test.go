// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// examine returns the doctor's lines about volumes and the machine, in one-space form.
func (c *cellar) examine(t *testing.T, volumes ...v1alpha1.Volume) (lines []string, code int) {
	t.Helper()
	spec := c.spec()
	spec.Volumes = volumes
	got := c.command(t.Context(), "doctor", "--secret-file", c.secretFile(t), "--provider-spec", c.file(t, "spec.yaml", spec))
	for line := range strings.Lines(c.stable(got.stdout)) {
		line = strings.Join(strings.Fields(line), " ")
		if strings.Contains(line, " volume") || strings.Contains(line, " machine ") {
			lines = append(lines, line)
		}
	}
	return lines, got.code
}

func TestTheDoctorLooksAtVolumeStores(t *testing.T) {
	const machine = "OK machine one called machine-0 would be VM machine-0-37dab1ed80bd"
	first := newCellar(t)
	tests := []struct {
		name    string
		prepare func(t *testing.T, c *cellar)
		code    int
		want    []string
	}{
		{"healthy", func(t *testing.T, c *cellar) {
			t.Helper()
			c.put(t, "default", "data", nil)
		}, 0, []string{"OK volume store default [LocalDS_0] vch-1-volumes: vsphere-vmdk, 1 volume, N GiB free", "OK volume store nfs nfs of VCH vch-1 (nfs://nfs.example/nfs): vsphere-nfs, 0 volumes", machine}},
		{"none", func(_ *testing.T, c *cellar) { clear(c.bays) }, 0, []string{
			"NOTE volume stores VCH vch-1 has none: machines with volumes are refused until there is one (vic-machine configure --volume-store)", machine,
		}},
		{"none that is default", func(_ *testing.T, c *cellar) { delete(c.bays, "default") }, 0, []string{
			"OK volume store nfs nfs of VCH vch-1 (nfs://nfs.example/nfs): vsphere-nfs, 0 volumes",
			"NOTE volume stores none is labelled default: anonymous volumes, and volumes for which no store is named, are refused", machine,
		}},
		{"one that does not answer", func(_ *testing.T, c *cellar) {
			c.bays["nfs"].errs["List"] = errdefs.New(errdefs.Unavailable, "nfs.example.com does not answer")
		}, 1, []string{"OK volume store default [LocalDS_0] vch-1-volumes: vsphere-vmdk, 0 volumes, N GiB free", "FAIL volume store nfs nfs.example.com does not answer", machine}},
		{"damage", func(t *testing.T, c *cellar) {
			t.Helper()
			c.put(t, "default", "data", nil)
			c.bays["default"].Damage("stray", "it has no metadata")
			for _, name := range []string{"s1", "s2", "s3", "s4", "s5"} {
				c.bays["nfs"].Damage(name, "bad")
			}
			c.bays["nfs"].Damage("s6", "bad")
		}, 1, []string{
			"FAIL volume store default [LocalDS_0] vch-1-volumes: 1 of 2 volumes are damaged: stray (it has no metadata); docs/volumes.md says what to do",
			"FAIL volume store nfs nfs of VCH vch-1 (nfs://nfs.example/nfs): 6 of 6 volumes are damaged: s1 (bad), s2 (bad), s3 (bad), s4 (bad), s5 (bad) and 1 other; docs/volumes.md says what to do",
			machine,
		}},
		{"two of one name", func(t *testing.T, c *cellar) {
			t.Helper()
			c.put(t, "default", "data", nil)
			c.put(t, "nfs", "data", nil)
		}, 1, []string{
			"OK volume store default [LocalDS_0] vch-1-volumes: vsphere-vmdk, 1 volume, N GiB free", "OK volume store nfs nfs of VCH vch-1 (nfs://nfs.example/nfs): vsphere-nfs, 1 volume",
			"FAIL volume names 1 name is there twice, and the VCH sees one of them by chance: data in default ([default] VIC/volumes/data/data.vmdk) and nfs (nfs://nfs.example/nfs/volumes/data); " +
				"look with vchctl volume inspect which one is wanted, and remove the other with vchctl volume rm --store", machine,
		}},
		{"leftovers", func(t *testing.T, c *cellar) {
			t.Helper()
			c.bays["default"].leave(t, "half")
			c.step(time.Hour)
			c.bays["nfs"].errs["Leftovers"] = errdefs.New(errdefs.PermissionDenied, "nobody may look")
		}, 1, []string{
			"OK volume store default [LocalDS_0] vch-1-volumes: vsphere-vmdk, 0 volumes, N GiB free",
			"NOTE volume store default 1 leftover of operations that were cut off: [default] VIC/mcm-volumes/new/half.00000000000000000000000000000001; they do no harm, and vchctl volume prune removes them",
			"OK volume store nfs nfs of VCH vch-1 (nfs://nfs.example/nfs): vsphere-nfs, 0 volumes", "FAIL volume store nfs nobody may look", machine,
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := first.another()
			test.prepare(t, c)
			c.forget()
			lines, code := c.examine(t)
			if diff := cmp.Diff(test.want, lines); diff != "" || code != test.code {
				t.Errorf("exit code %d (-want +got):\n%s", code, diff)
			}
			for label, b := range c.bays {
				if len(b.calls) > 2 || len(c.changes()) > 0 {
					t.Errorf("store %s: calls %q", label, b.calls)
				}
			}
		})
	}
}

func TestTheDoctorLooksAtTheVolumesOfAClass(t *testing.T) {
	first := newCellar(t)
	many := make([]v1alpha1.Volume, volume.MaxDisks+1)
	for i := range many {
		many[i] = v1alpha1.Volume{MountPath: "/data/" + string(rune('a'+i))}
	}
	tests := []struct {
		name    string
		volumes []v1alpha1.Volume
		// want are the beginnings of the last lines.
		want []string
	}{
		{"anonymous, and one each", []v1alpha1.Volume{{MountPath: "/a"}, {Name: "state-{machine}", MountPath: "/b", Store: "nfs"}}, []string{
			"OK volume at /a an anonymous volume of store default, vsphere-vmdk", "OK volume at /b state-{machine} of store nfs, vsphere-nfs", "OK machine one called machine-0 would be VM",
		}},
		{"one that is there", []v1alpha1.Volume{{Name: "data", MountPath: "/a", Mode: v1alpha1.VolumeReadOnly}}, []string{
			"OK volume at /a data of store ssd, vsphere-vmdk", "OK machine one called machine-0 would be VM",
		}},
		{"one that is elsewhere", []v1alpha1.Volume{{Name: "data", MountPath: "/a", Store: "nfs"}}, []string{
			"FAIL volume at /a volumes[0].store: volume data is in store ssd ([ssd] VIC/volumes/data/data.vmdk), not in nfs", "SKIP machine its volumes must be found first",
		}},
		{"one that is there twice", []v1alpha1.Volume{{Name: "twice", MountPath: "/a", Store: "nfs"}}, []string{
			"FAIL volume at /a the name twice is there 2 times in VCH vch-1", "SKIP machine its volumes must be found first",
		}},
		{"no such store", []v1alpha1.Volume{{MountPath: "/a"}, {Name: "new", MountPath: "/b", Store: "tape"}}, []string{
			"OK volume at /a", `FAIL volume at /b volumes[1].store: no volume store named "tape" exists in VCH vch-1, which has default, nfs, ssd`, "SKIP machine its volumes must be found first",
		}},
		{"read-only on NFS", []v1alpha1.Volume{{Name: "shared", MountPath: "/a", Store: "nfs", Mode: v1alpha1.VolumeReadOnly}}, []string{
			"FAIL volume at /a volumes[0].mode: store nfs is NFS, whose volumes cannot be ro", "SKIP machine its volumes must be found first",
		}},
		{"too many disks", many, []string{"FAIL machine volumes: 15 of them are virtual disks, a container VM can have 14"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := first.another()
			c.bay("ssd", volume.VMDK)
			c.put(t, "ssd", "data", nil)
			c.put(t, "ssd", "twice", nil)
			c.put(t, "nfs", "twice", nil)
			lines, _ := c.examine(t, test.volumes...)
			lines = lines[max(0, len(lines)-len(test.want)):]
			for i, want := range test.want {
				if !strings.HasPrefix(lines[i], want) {
					t.Errorf("got  %q\nwant %q", lines, test.want)
				}
			}
		})
	}
}

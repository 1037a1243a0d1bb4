// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vmdk"
)

func TestADescriptorSaysWhatAFlatDiskIs(t *testing.T) {
	t.Parallel()
	got, err := vmdk.Descriptor(vmdk.Flat{Capacity: 8 << 30, Extent: "disk-flat.vmdk", Identity: identity, Thin: true})
	if err != nil {
		t.Fatal(err)
	}
	want := `# Disk DescriptorFile
version=1
encoding="UTF-8"
CID=abcdef01
parentCID=ffffffff
createType="vmfs"

# Extent description
RW 16777216 VMFS "disk-flat.vmdk"

# The Disk Data Base
#DDB

ddb.adapterType = "lsilogic"
ddb.geometry.cylinders = "1045"
ddb.geometry.heads = "255"
ddb.geometry.sectors = "63"
ddb.longContentID = "0102030405060708090a0b0cabcdef01"
ddb.thinProvisioned = "1"
ddb.virtualHWVersion = "8"
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("the descriptor differs (- what it should be, + what it is):\n%s", diff)
	}
	for want, flat := range map[string]vmdk.Flat{
		"the capacity":                  {Capacity: 5, Extent: "x", Identity: identity},
		"the identity":                  {Capacity: 512, Extent: "x"},
		`the file "": it must`:          {Capacity: 512, Identity: identity},
		`the file "../x": it must be`:   {Capacity: 512, Identity: identity, Extent: "../x"},
		`the file "x\"\nRW": it must`:   {Capacity: 512, Identity: identity, Extent: "x\"\nRW"},
		`the file "\xff": it must be a`: {Capacity: 512, Identity: identity, Extent: "\xff"},
	} {
		if _, err := vmdk.Descriptor(flat); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, it should say %s", err, want)
		}
	}
}

// CIDs with a meaning of their own are not used.
func TestNoIdentityMeansNoParent(t *testing.T) {
	t.Parallel()
	for _, last := range []byte{0xfe, 0xff} {
		id := vmdk.Identity{12: 0xff, 13: 0xff, 14: 0xff, 15: last}
		got, err := vmdk.Descriptor(vmdk.Flat{Capacity: 512, Extent: "x", Identity: id})
		if err != nil || !strings.Contains(string(got), "\nCID=7fffff") {
			t.Errorf("the descriptor is %s, or %v", got, err)
		}
	}
}

func TestQemuReadsAFlatDisk(t *testing.T) {
	t.Parallel()
	place := t.TempDir()
	raw := filepath.Join(place, "disk-flat.vmdk")
	if err := os.WriteFile(raw, halfRandom(3*mib), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(raw, 8<<30); err != nil {
		t.Fatal(err)
	}
	text, err := vmdk.Descriptor(vmdk.Flat{Capacity: 8 << 30, Extent: "disk-flat.vmdk", Identity: identity})
	if err != nil {
		t.Fatal(err)
	}
	descriptor := filepath.Join(place, "disk.vmdk")
	if err := os.WriteFile(descriptor, text, 0o600); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, "compare", "-f", "vmdk", "-F", "raw", descriptor, raw)
}

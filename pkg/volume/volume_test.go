// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

func TestALabelIsTheBeginningOfTheMD5SumOfTheName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{ // by md5sum
		"data": "8d777f385d3dfec8", "vol-1": "90cfa36daba1a707", "A.b_c-D.9": "3b076a488bf93b5f",
	} {
		if got := volume.Label(name); got != want {
			t.Errorf("label of %s is %s, want %s", name, got, want)
		}
	}
}

func TestNamesAreThoseOfVIC(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"a", "0", "Z9", "a.b_c-d", "a..", strings.Repeat("x", volume.MaxName), volume.AnonymousName("x", "/")} {
		if err := volume.ValidateName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".", "-a", "_a", "a/b", "a b", "a\n", "\na", "a\x00", "ä", "a:b", "..", strings.Repeat("x", volume.MaxName+1)} {
		wantInvalid(t, name, volume.ValidateName(name), "volume name")
	}
	wantInvalid(t, "long", volume.ValidateName(strings.Repeat("x", 201)), "201 characters", "at most 200")
}

func TestAnAnonymousNameIsAUUIDOfMachineAndPath(t *testing.T) {
	t.Parallel()
	const want = "8630431b-6fc1-5608-af9c-88c7ec6edac3"
	got := volume.AnonymousName("4213", "/data")
	if got != want || got != volume.AnonymousName("4213", "/data") {
		t.Errorf("the name is %s, want %s every time", got, want)
	}
	if uuid.Validate(got) != nil || volume.ValidateName(got) != nil {
		t.Errorf("%s is no UUID, or no name", got)
	}
	if got == volume.AnonymousName("4213", "/data2") || got == volume.AnonymousName("4214", "/data") {
		t.Error("others have the same name")
	}
}

func TestCapacitiesAreOfWholeMiB(t *testing.T) {
	t.Parallel()
	for _, c := range []int64{volume.MinCapacity, volume.DefaultCapacity, volume.MaxCapacity, volume.MinCapacity + volume.CapacityUnit} {
		if err := volume.ValidateCapacity(c); err != nil {
			t.Errorf("%d: %v", c, err)
		}
	}
	for _, c := range []int64{-1, 0, 1, volume.MinCapacity - volume.CapacityUnit, volume.MinCapacity + 1, volume.MaxCapacity + volume.CapacityUnit, -volume.MinCapacity} {
		wantInvalid(t, "capacity", volume.ValidateCapacity(c), "8Mi", "2Ti")
	}
}

func TestMetadataHasTheNamesThatVICReads(t *testing.T) {
	t.Parallel()
	m := volume.Metadata{
		Driver: volume.PersonaDriver, DriverOpts: map[string]string{"Capacity": "8"}, Name: "data",
		Labels: map[string]string{"a": "<ü>\n"}, AttachHistory: []string{"worker-1"}, Image: "node",
	}
	content, err := volume.EncodeMetadata(m)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"Driver":"vsphere","DriverOpts":{"Capacity":"8"},"Name":"data","Labels":{"a":"\u003cü\u003e\n"},"AttachHistory":["worker-1"],"Image":"node"}`
	if string(content) != want {
		t.Errorf("the file is %s, want %s", content, want)
	}
	got, err := volume.DecodeMetadata(content)
	if diff := cmp.Diff(m, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	got, err = volume.DecodeMetadata([]byte(`{"Driver":"vsphere","DriverOpts":null,"Name":"x","New":{"a":1},"Labels":{}}`))
	if err != nil || got.Name != "x" {
		t.Errorf("what VIC could read: %+v, %v", got, err)
	}
	for _, bad := range []string{"", "null x", "{", `{"Name":1}`, `{"Labels":["a"]}`, "[]", "\x00", `{"Name":"x"}{}`} {
		_, err := volume.DecodeMetadata([]byte(bad))
		wantInvalid(t, bad, err)
	}
}

func TestAVolumeIsAnonymousIfItsLabelSaysSo(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{"true": true, "false": false, "": false, "True": false} {
		v := volume.Volume{Metadata: volume.Metadata{Labels: map[string]string{volume.LabelAnonymous: value}}}
		if v.Anonymous() != want {
			t.Errorf("with %q: %v", value, !want)
		}
	}
	if (&volume.Volume{}).Anonymous() {
		t.Error("without labels it is")
	}
}

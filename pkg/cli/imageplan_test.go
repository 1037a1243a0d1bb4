// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

const (
	k3s   = "docker.io/rancher/k3s:v1"
	other = "registry.example.com/node:v2"
)

// disk returns an image disk whose digest is digits, filled up with zeroes.
func disk(digits string, gib int64, names ...string) image.Disk {
	return image.Disk{
		Key:         image.Key{Digest: digestAlgorithm + digits + strings.Repeat("0", 64-len(digits)), Size: gib << 30},
		Description: image.Description{UsedBytes: 200 << 20},
		Path:        "[ds] " + digits + ".vmdk", Names: names,
	}
}

func TestAnArgumentSelectsDisksByNameOrDigest(t *testing.T) {
	disks := []image.Disk{
		disk("abcdef01", 8, k3s),
		disk("abcdef01", 16, k3s),
		disk("abcdef02", 8, other),
		disk("777777", 8),
		disk("cafe42", 8),
		disk("888888", 8, "docker.io/library/cafe42:latest"),
		disk("777777", 4, other),
	}
	full := disks[2].Digest
	tests := []struct {
		name, arg string
		size      int64
		want      []int
		err       string
	}{
		{"a name in full", k3s, 0, []int{0, 1}, ""},
		{"a name as people write it", "rancher/k3s:v1", 0, []int{0, 1}, ""},
		{"a name and a size", k3s, 16 << 30, []int{1}, ""},
		{"a size that is not there", k3s, 4 << 30, nil, "no image disk docker.io/rancher/k3s:v1 of 4Gi; there is 8Gi, 16Gi"},
		{"a digest", full, 0, []int{2}, ""},
		{"the beginning of a digest", "abcdef02", 0, []int{2}, ""},
		{"one of several sizes", "sha256:abcdef01", 0, []int{0, 1}, ""},
		{"several sizes, of which one has a name", "777777", 0, []int{3, 6}, ""},
		{
			"a beginning that several have", "abcdef", 0, nil,
			`2 images begin with "abcdef": ` + disks[0].Digest + " (docker.io/rancher/k3s:v1), " + full + " (registry.example.com/node:v2); give more digits",
		},
		{"a name that looks like a digest", "cafe42", 0, []int{5}, ""},
		{"a digest that looks like a name", "sha256:cafe42", 0, []int{4}, ""},
		{"another name", "rancher/k3s:v2", 0, nil, "no image disk docker.io/rancher/k3s:v2; see vchctl image ls"},
		{"another digest", "999999", 0, nil, "no image disk 999999; see vchctl image ls"},
		{"too few digits", "sha256:abcde", 0, nil, `digest "sha256:abcde": after sha256:, want 6 to 64 digits of 0-9 and a-f`},
		{"too many digits", full + "0", 0, nil, `digest "` + full + `0": after sha256:, want 6 to 64 digits of 0-9 and a-f`},
		{"no digits", "sha256:zzzzzz", 0, nil, `digest "sha256:zzzzzz": after sha256:, want 6 to 64 digits of 0-9 and a-f`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []image.Disk
			selector, err := parseDiskSelector(test.arg)
			if err == nil {
				got, err = selector.pick(disks, test.size)
			}
			if test.err != "" || err != nil {
				if err == nil || err.Error() != test.err || errdefs.KindOf(err) == errdefs.Unknown {
					t.Errorf("got  %v\nwant %s", err, test.err)
				}
				return
			}
			var want []image.Disk
			for _, i := range test.want {
				want = append(want, disks[i])
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	for _, arg := range []string{"", "UPPER", "a b", "-x", "https://registry.example.com/x"} {
		if _, err := parseDiskSelector(arg); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("%q: got %v", arg, err)
		}
	}
}

func TestSeveralSizesMustBeChosenFrom(t *testing.T) {
	disks := []image.Disk{disk("abcdef01", 16, k3s), disk("abcdef01", 8, k3s), disk("777777", 8)}
	which := []diskSelector{{arg: "777777", digits: "777777"}, {arg: k3s, name: k3s}, {arg: "abcdef", digits: "abcdef"}}
	want := "image disk docker.io/rancher/k3s:v1 is there in 2 sizes, 8Gi, 16Gi; choose with --size, or take --all-sizes"
	if _, err := pickAll(which, disks, 0, false); err == nil || err.Error() != want || !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	got, err := pickAll(which, disks, 8<<30, false)
	if diff := cmp.Diff([]image.Disk{disks[2], disks[1]}, got); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
	got, err = pickAll(which, disks, 0, true)
	if diff := cmp.Diff([]image.Disk{disks[2], disks[0], disks[1]}, got); diff != "" || err != nil {
		t.Errorf("%v, (-want +got):\n%s", err, diff)
	}
}

func TestPruneTakesWhatNobodyNeeds(t *testing.T) {
	named, nameless, used, usedNameless, unproven := disk("111111", 8, k3s, other), disk("222222", 8), disk("333333", 8, k3s), disk("444444", 8), disk("555555", 8)
	unprovenNamed := disk("666666", 8, other)
	lost := image.User{Name: "lost", VM: "vm-2", Unproven: true}
	disks := []image.Disk{named, nameless, used, usedNameless, unproven, unprovenNamed}
	users := map[image.Key][]image.User{
		used.Key:          {{Name: "vm", VM: "vm-1"}},
		usedNameless.Key:  {{Name: "vm", VM: "vm-1"}, lost},
		unprovenNamed.Key: {lost},
		unproven.Key:      {lost},
		nameless.Key:      {},
	}
	leftovers := []image.Leftover{{Path: "[ds] upload", Reason: "upload that was cut off", ID: "1"}}
	tests := []struct {
		name      string
		disks     []image.Disk
		leftovers []image.Leftover
		all       bool
		want      prunePlan
	}{
		{"nothing", nil, nil, true, prunePlan{Leftovers: []image.Leftover{}}},
		{"what no name leads to", disks, leftovers, false, prunePlan{
			Disks: []removal{newRemoval(nameless, "no name leads to it, and no VM uses it")}, Leftovers: leftovers, Unproven: []image.User{lost},
		}},
		{"all that no VM has", disks, leftovers, true, prunePlan{
			Disks: []removal{newRemoval(named, "no VM uses it"), newRemoval(nameless, "no name leads to it, and no VM uses it")}, Leftovers: leftovers, Unproven: []image.User{lost},
		}},
		{"leftovers alone", disks[2:4], leftovers, true, prunePlan{Leftovers: leftovers}},
		{"nothing with names", disks[5:], nil, false, prunePlan{Leftovers: []image.Leftover{}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := planPrune(test.disks, users, test.leftovers, test.all)
			if got.Disks == nil || got.Leftovers == nil || got.Unproven == nil {
				t.Error("a list is null in JSON")
			}
			if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if got.empty() != (len(got.keys())+len(got.Leftovers) == 0) {
				t.Errorf("%d disks, %d leftovers, empty: %v", len(got.Disks), len(got.Leftovers), got.empty())
			}
		})
	}
}

func TestADiskThatSomebodyUsesIsNotRemoved(t *testing.T) {
	free, used, unproven := disk("111111", 8, k3s), disk("222222", 8, other), disk("333333", 16)
	plan, refused := planRemove([]image.Disk{used, free, unproven}, map[image.Key][]image.User{
		used.Key:     {{Name: "worker-a", VM: "vm-1"}, {Name: "worker-b", VM: "vm-2"}},
		unproven.Key: {{Name: "lost", VM: "vm-3", Unproven: true}},
	})
	if diff := cmp.Diff([]removal{newRemoval(free, "it was named, and no VM uses it")}, plan); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want := []string{
		"image disk 222222000000 of 8Gi (registry.example.com/node:v2) stays: it has children in worker-a (vm-1), worker-b (vm-2); delete their machines first",
		"image disk 333333000000 of 16Gi stays: vCenter cannot tell which disks lost (vm-3) has; make it accessible, or unregister it",
	}
	var got []string
	for _, err := range refused {
		if !errdefs.Is(err, errdefs.FailedPrecondition) {
			t.Errorf("%v has kind %s", err, errdefs.KindOf(err))
		}
		got = append(got, err.Error())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestSizesAreWholeMiB(t *testing.T) {
	for text, want := range map[string]int64{"": 0, "8Gi": 8 << 30, "64Mi": 64 << 20, "2Ti": 2 << 40, "8589934592": 8 << 30, "100Mi": 100 << 20} {
		if got, err := parseSize(text); got != want || err != nil {
			t.Errorf("%q: got %d, %v", text, got, err)
		}
	}
	for _, text := range []string{"8", "8G", "63Mi", "3Ti", "-8Gi", "8GB", "0", "1e30", "100.5Mi"} {
		want := `--size "` + text + `": want whole MiB between 64Mi and 2Ti, such as 8Gi`
		if _, err := parseSize(text); err == nil || err.Error() != want || !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
	for size, want := range map[int64]string{8 << 30: "8Gi", 100 << 20: "100Mi", 1 << 40: "1Ti", 8000 << 20: "8000Mi"} {
		if got := sizeText(size); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func FuzzDiskSelectorsNeverPickTwoImages(f *testing.F) {
	for _, seed := range []string{"sha256:abcdef", "abcdef01", k3s, "", "@", "a@sha256:b"} {
		f.Add(seed)
	}
	disks := []image.Disk{disk("abcdef01", 8, k3s), disk("abcdef02", 8, other), disk("abcdef02", 16)}
	f.Fuzz(func(t *testing.T, arg string) {
		selector, err := parseDiskSelector(arg)
		if err != nil {
			return
		}
		found, err := selector.pick(disks, 0)
		if err == nil && len(digestsOf(found)) != 1 {
			t.Errorf("%q: got %v, %v", arg, found, err)
		}
	})
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

const vch = "42301f0e-aaaa-bbbb-cccc-0123456789ab"

func TestTheSameInputsAlwaysGiveTheSameMachine(t *testing.T) {
	t.Parallel()
	// Written down, not computed: an identity that changed would orphan every VM there is.
	want := identity.Identity{
		VCH:         vch,
		ContainerID: "785ec6926653076abf60f2be014dddf6fb27aa2e5b6587918a3ca17cd3727b4d",
		BIOSUUID:    "51d4cc7b-150c-532d-8fde-be36aa46a03d",
	}
	for _, spelling := range []string{vch, strings.ToUpper(vch), "{" + vch + "}"} {
		got, err := identity.New(spelling, "shoot--demo", "machine-0")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("New(%q) (-want +got):\n%s", spelling, diff)
		}
	}
	if got := want.ProviderID(); got != "vch://"+vch+"/"+want.ContainerID {
		t.Errorf("provider id = %s", got)
	}
}

func TestDifferentMachinesDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for _, in := range [][3]string{
		{vch, "a", "bc"}, {vch, "ab", "c"}, {vch, "bc", "a"}, {"52301f0e-aaaa-bbbb-cccc-0123456789ab", "a", "bc"}, {vch, "a", "bd"},
	} {
		id, err := identity.New(in[0], in[1], in[2])
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{id.ContainerID, id.BIOSUUID, id.ProviderID()} {
			if other, ok := seen[part]; ok {
				t.Errorf("%v and %s share %s", in, other, part)
			}
			seen[part] = fmt.Sprint(in)
		}
	}
}

func TestAShortIDNeverLooksLikeANumber(t *testing.T) {
	t.Parallel()
	hashedAgain := 0
	for i := range 3000 {
		machine := fmt.Sprintf("machine-%d", i)
		id, err := identity.New(vch, "shoot", machine)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Trim(id.ShortID(), "0123456789") == "" {
			t.Errorf("%s has short id %s", machine, id.ShortID())
		}
		first := sha256.Sum256([]byte(vch + "\x00shoot\x00" + machine))
		if hex.EncodeToString(first[:]) != id.ContainerID {
			hashedAgain++
			second := sha256.Sum256([]byte(hex.EncodeToString(first[:])))
			if hex.EncodeToString(second[:]) != id.ContainerID {
				t.Errorf("%s is neither the first nor the second hash", machine)
			}
		}
	}
	if hashedAgain == 0 {
		t.Error("no machine needed a second hash: the test shows nothing")
	}
}

func TestTheBIOSUUIDIsVICs(t *testing.T) {
	t.Parallel()
	id, err := identity.New(vch, "shoot", "machine-0")
	if err != nil {
		t.Fatal(err)
	}
	if want := uuid.NewSHA1(uuid.MustParse(vch), []byte(id.ContainerID)).String(); id.BIOSUUID != want {
		t.Errorf("BIOS UUID = %s, want UUIDv5 %s", id.BIOSUUID, want)
	}
}

func TestAnIncompleteIdentityIsRefused(t *testing.T) {
	t.Parallel()
	for _, in := range [][3]string{{"", "c", "m"}, {"not-a-uuid", "c", "m"}, {vch, "", "m"}, {vch, "c", ""}, {vch, "a\x00b", "m"}, {vch, "a", "b\x00c"}} {
		if _, err := identity.New(in[0], in[1], in[2]); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("New(%q) = %v, want InvalidArgument", in, err)
		}
	}
}

func TestProviderIDsAreParsedStrictly(t *testing.T) {
	t.Parallel()
	id, err := identity.New(vch, "shoot", "machine-0")
	if err != nil {
		t.Fatal(err)
	}
	got, err := identity.ParseProviderID(id.ProviderID())
	if err != nil || got != id {
		t.Errorf("ParseProviderID(ProviderID()) = %+v, %v", got, err)
	}
	good := id.ProviderID()
	for _, bad := range []string{
		"", "vch://", good + "/", " " + good, good + "\n", strings.ToUpper(good), strings.Replace(good, "vch:", "vsphere:", 1),
		good[:len(good)-1], good + "0", strings.Replace(good, "-", "", 1), strings.Replace(good, "//", "///", 1), id.ContainerID,
	} {
		if got, err := identity.ParseProviderID(bad); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("ParseProviderID(%q) = %+v, %v; want InvalidArgument", bad, got, err)
		}
	}
}

func FuzzParseProviderID(f *testing.F) {
	f.Add("vch://" + vch + "/" + strings.Repeat("a", 64))
	f.Add("vch:///")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := identity.ParseProviderID(s)
		if err == nil && id.ProviderID() != s {
			t.Errorf("%q was read as %q", s, id.ProviderID())
		}
	})
}

func TestTags(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		tags          map[string]string
		cluster, role string
		bad           bool
	}{
		"both":         {tags: map[string]string{"kubernetes.io/cluster/a": "1", "kubernetes.io/role/b": "", "x": "y"}, cluster: "a", role: "b"},
		"none":         {bad: true},
		"no role":      {tags: map[string]string{"kubernetes.io/cluster/a": "1"}, bad: true},
		"no cluster":   {tags: map[string]string{"kubernetes.io/role/a": "1"}, bad: true},
		"empty name":   {tags: map[string]string{"kubernetes.io/cluster/": "1", "kubernetes.io/role/b": ""}, bad: true},
		"two clusters": {tags: map[string]string{"kubernetes.io/cluster/a": "1", "kubernetes.io/cluster/c": "1", "kubernetes.io/role/b": ""}, bad: true},
		"two roles":    {tags: map[string]string{"kubernetes.io/cluster/a": "1", "kubernetes.io/role/c": "1", "kubernetes.io/role/b": ""}, bad: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster, role, err := identity.Tags(tc.tags)
			if tc.bad != errdefs.Is(err, errdefs.InvalidArgument) || (!tc.bad && (err != nil || cluster != tc.cluster || role != tc.role)) {
				t.Errorf("Tags = %q, %q, %v", cluster, role, err)
			}
		})
	}
}

func TestOnlyACompleteMarkIsAMark(t *testing.T) {
	t.Parallel()
	m := identity.Mark{Cluster: "shoot|1", Role: "node", Machine: "machine-0", Provider: "v1", Spec: "abcd"}
	s, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := identity.DecodeMark(s)
	if err != nil || got != m {
		t.Errorf("DecodeMark(Encode()) = %+v, %v", got, err)
	}
	for _, bad := range []string{"", "<nil>", "{}", "null", s[:len(s)-1], s + s, `{"cluster":"a","role":"b"}`, `{"cluster":"a","machine":"b"}`, `{"role":"a","machine":"b"}`, `[]`} {
		if got, err := identity.DecodeMark(bad); err == nil {
			t.Errorf("DecodeMark(%q) = %+v, want an error", bad, got)
		}
	}
	other := m
	other.Provider, other.Spec = "v2", ""
	if !m.Owns(other) {
		t.Error("another version of the provider makes another machine")
	}
	for _, change := range []func(*identity.Mark){
		func(m *identity.Mark) { m.Cluster = "x" }, func(m *identity.Mark) { m.Role = "x" }, func(m *identity.Mark) { m.Machine = "x" },
	} {
		other := m
		change(&other)
		if m.Owns(other) {
			t.Errorf("%+v owns %+v", m, other)
		}
	}
}

func ExampleNew() {
	id, err := identity.New("42301f0e-aaaa-bbbb-cccc-0123456789ab", "shoot--demo", "machine-0")
	if err != nil {
		panic(errors.Unwrap(err))
	}
	fmt.Println(id.ShortID())
	// Output: 785ec6926653
}

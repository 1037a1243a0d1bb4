// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package locations_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/locations"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// open returns the stores of the simulated VCH, at the locations given.
func open(t *testing.T, stores map[string]url.URL) *volume.Set {
	t.Helper()
	sim, err := vchsim.Start(t.Context(), vchsim.Options{NoForeign: true, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	cfg, err := vcenter.ConfigFromSecret(sim.Secret())
	if err != nil {
		t.Fatal(err)
	}
	client, err := vcenter.NewPool(vcenter.Options{}).Client(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	host, err := vch.Find(t.Context(), client, sim.ProviderSpec().VCH)
	if err != nil {
		t.Fatal(err)
	}
	changed := *host
	for label, location := range host.VolumeStores {
		if _, given := stores[label]; !given {
			stores[label] = location
		}
	}
	changed.VolumeStores = stores
	return locations.Open(locations.Options{Client: client, Host: &changed})
}

func TestTheSchemeOfALocationSaysWhatStoreItIs(t *testing.T) {
	t.Parallel()
	set := open(t, map[string]url.URL{
		"share": {Scheme: "nfs", Host: "nfs.example.com", Path: "/exports/a"},
		"odd":   {Scheme: "ftp", Host: "ftp.example.com", Path: "/a"},
	})
	got := map[string]volume.Driver{}
	for _, label := range set.Labels() {
		store, err := set.Store(label)
		if err != nil {
			t.Fatal(err)
		}
		got[label] = store.Driver()
	}
	want := map[string]volume.Driver{volume.DefaultStore: volume.VMDK, vchsim.FastStore: volume.VMDK, "share": volume.NFS, "odd": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("drivers (-want +got):\n%s", diff)
	}
}

func TestAStoreThatCannotBeMadeSaysWhyAndLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	set := open(t, map[string]url.URL{"odd": {Scheme: "ftp", Host: "ftp.example.com", Path: "/a"}})
	ctx := t.Context()
	if v, err := set.Get(ctx, "vol-1"); err != nil || v.Store != volume.DefaultStore {
		t.Errorf("a volume of another store: %+v, %v", v, err)
	}
	odd, err := set.Store("odd")
	if err != nil {
		t.Fatal(err)
	}
	_, create := odd.Create(ctx, volume.Request{Name: "data"})
	_, get := odd.Get(ctx, "data")
	_, list := odd.List(ctx)
	_, users := odd.Users(ctx, "data")
	_, join := odd.Join(&volume.Volume{Name: "data"}, volume.Mount{Path: "/data"})
	for what, err := range map[string]error{"create": create, "get": get, "list": list, "users": users, "join": join, "remove": odd.Remove(ctx, "data")} {
		if !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), `"ftp"`) || !strings.Contains(err.Error(), "volume store odd") {
			t.Errorf("%s = %v, want FailedPrecondition with the store and its scheme", what, err)
		}
	}
}

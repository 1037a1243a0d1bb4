// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/vmware/govmomi/object"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
)

// registries are insecure ones in all shapes that have been.
func registries() RegistryOptions {
	return RegistryOptions{Insecure: []string{"registry.example.com:5000", "10.0.0.0/8", "mirror.example.com/project", "plain"}}
}

// applianceKeys are the keys of the VCH of a world, empty values as "".
func applianceKeys(t *testing.T, version *int) map[string]string {
	t.Helper()
	sim := start(t, Options{NoForeign: true, VCHDataVersion: version, Registries: registries()})
	return clientKeys(t, object.NewVirtualMachine(login(t, sim).Client, sim.ApplianceRef()))
}

func TestTheVCHIsStoredAsAnOlderVersionDid(t *testing.T) {
	t.Parallel()
	const registry = "guestinfo.vice./registry/insecure_registries"
	today := applianceKeys(t, nil)
	for version, want := range map[int]map[string]string{
		0: {
			"guestinfo.vice./init/common/name": "vch-1",
			adminEnv:                           "PATH=/sbin:/bin|HTTP_PROXY=" + proxy + "|HTTPS_PROXY=" + proxy,
			registry + "|0/Host":               "", registry + "|0/Path": "registry.example.com:5000",
			registry + "|1/Host": "", registry + "|1/Path": "10.0.0.0/8",
		},
		4: {"init/common/name": "vch-1", registry + "|2/Scheme": "", registry + "|2/Host": "", registry + "|2/Path": "mirror.example.com/project"},
		6: {adminEnv: "PATH=/sbin:/bin|HTTP_PROXY=" + proxy + "|HTTPS_PROXY=" + proxy, registry + "|2/Scheme": "https", registry + "|2/Host": "mirror.example.com", registry + "|2/Path": "/project"},
		7: {adminEnv: today[adminEnv], registry + "|3/Host": "plain", registry: "3"},
		8: {registry + "~": today[registry+"~"]},
	} {
		keys := applianceKeys(t, &version)
		for key, value := range want {
			if got, there := keys[key]; !there || got != value {
				t.Errorf("version %d: key %s is %q, there: %v; want %q", version, key, got, there, value)
			}
		}
		_, hidden := keys["init/common/name"]
		_, texts := keys[registry+"~"]
		_, stored := keys[guestinfo.VCHPluginVersionKey]
		if hidden != (version >= 1) || texts != (version >= 8) || stored != (version > 0) {
			t.Errorf("version %d: hidden name %v, texts %v, data version %v", version, hidden, texts, stored)
		}
	}
}

func TestAnOldVCHMigratedReadsAsTheOneOfToday(t *testing.T) {
	t.Parallel()
	today := applianceKeys(t, nil)
	want, err := guestinfo.DecodeVCH(today)
	must(t, err)
	for version := range 11 {
		old := guestinfo.FromOptionValues(OldVCHKeys(guestinfo.OptionValues(today), version))
		migrated, err := plugins.Shipped().Migrate(migration.Appliance, old)
		must(t, err)
		got, err := guestinfo.DecodeVCH(migrated.Keys)
		must(t, err)
		if stored := got.ExecutorConfig.Version.PluginVersion; stored != max(version, 8) {
			t.Errorf("version %d became %d", version, stored)
		}
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(guestinfo.Version{}, "PluginVersion"), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("version %d (-want +got):\n%s", version, diff)
		}
	}
	if diff := cmp.Diff(today, OldVCHKeys(today, 10)); diff != "" {
		t.Errorf("of today (-want +got):\n%s", diff)
	}
	newer := maps.Clone(today)
	newer[guestinfo.VCHPluginVersionKey] = "11"
	if diff := cmp.Diff(newer, OldVCHKeys(today, 11)); diff != "" {
		t.Errorf("of a newer version (-want +got):\n%s", diff)
	}
}

func TestAVCHWithoutInsecureRegistriesHasNoneInAnyVersion(t *testing.T) {
	t.Parallel()
	keys := map[string]string{hiddenVCHName: "v", guestinfo.VCHPluginVersionKey: "10"}
	got := slices.Sorted(maps.Keys(OldVCHKeys(keys, 0)))
	if diff := cmp.Diff([]string{visibleVCHName}, got); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
}

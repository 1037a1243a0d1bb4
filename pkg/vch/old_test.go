// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vch_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// oldWorld is a world whose VCH has rules for registries, and is of a data version.
func oldWorld(t *testing.T, version *int) *world {
	t.Helper()
	return newWorldOf(t, vchsim.Options{NoForeign: true, VCHDataVersion: version, Registries: vchsim.RegistryOptions{
		Whitelist: []string{"registry.example.com"},
		Insecure:  []string{"registry.example.com:5000", "10.0.0.0/8", "mirror.example.com/project", "plain"},
	}})
}

// find finds the world's VCH and counts the calls.
func (w *world) find() (cfg *vch.Config, calls int64) {
	w.Helper()
	before := w.calls.Load()
	cfg, err := vch.Find(w.Context(), w.client, v1alpha1.VirtualContainerHost{Datacenter: w.sim.Datacenter, Name: w.sim.VCHName})
	if err != nil {
		w.Fatal(err)
	}
	return cfg, w.calls.Load() - before
}

// whatVersion ignores what says of which version the data is, and what is different in each world.
func whatVersion() cmp.Options {
	return cmp.Options{
		cmpopts.IgnoreFields(vch.Config{}, "Data"),
		cmpopts.IgnoreFields(guestinfo.Version{}, "PluginVersion"),
		cmpopts.IgnoreFields(vch.Datastore{}, "FreeBytes"),
		cmpopts.EquateEmpty(),
	}
}

func TestAVCHOfAnyDataVersionReadsAsOneOfToday(t *testing.T) {
	t.Parallel()
	want, wantCalls := oldWorld(t, nil).find()
	if want.Data.Migrated() || want.MigrationError != nil || len(want.Registries.Insecure) != 4 {
		t.Fatalf("today: migrated %v, %v, registries %q", want.Data.Migrated(), want.MigrationError, want.Registries.Insecure)
	}
	for _, version := range []int{0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11} {
		t.Run(fmt.Sprint(version), func(t *testing.T) {
			t.Parallel()
			got, calls := oldWorld(t, &version).find()
			if got.MigrationError != nil {
				t.Fatal(got.MigrationError)
			}
			if diff := cmp.Diff(want, got, whatVersion()); diff != "" {
				t.Errorf("(-today +old):\n%s", diff)
			}
			if got.Data.From != version || got.Data.To != max(version, 8) || got.Data.Newer != (version == 11) {
				t.Errorf("from %d to %d, newer %v", got.Data.From, got.Data.To, got.Data.Newer)
			}
			if err := got.Data.Writable("VCH"); (err != nil) != (version == 11) {
				t.Errorf("to be written: %v", err)
			}
			if calls != wantCalls {
				t.Errorf("it took %d calls, %d for one of today", calls, wantCalls)
			}
		})
	}
}

// What cannot be migrated is read as far as it is known: the networks, stores and the
// ISO were never stored otherwise.
func TestAVCHThatCannotBeMigratedIsUsedAllTheSame(t *testing.T) {
	t.Parallel()
	want, _ := oldWorld(t, nil).find()
	for name, tc := range map[string]struct {
		version int
		value   string
		// registries are not known from before version 8 if the version is not known
		registries bool
	}{
		"no number":    {10, "ten", true},
		"negative":     {10, "-1", true},
		"too large":    {10, "99999999999999999999", true},
		"old and text": {4, "four", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := oldWorld(t, &tc.version)
			w.set(w.sim.ApplianceRef(), guestinfo.VCHPluginVersionKey, tc.value)
			got, _ := w.find()
			if !errdefs.Is(got.MigrationError, errdefs.InvalidArgument) || !strings.Contains(got.MigrationError.Error(), tc.value) {
				t.Errorf("the migration ended with %v, want InvalidArgument with %q", got.MigrationError, tc.value)
			}
			ignored := whatVersion()
			ignored = append(ignored, cmpopts.IgnoreFields(vch.Config{}, "MigrationError"))
			if !tc.registries {
				ignored = append(ignored, cmpopts.IgnoreFields(vch.Registries{}, "Insecure"))
			}
			if diff := cmp.Diff(want, got, ignored); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestKeyValueStoresAreInTheDirectoryOfTheAppliance(t *testing.T) {
	t.Parallel()
	cfg, _ := oldWorld(t, nil).find()
	if want := (vch.StorePath{Datastore: vchsim.Datastore, Path: vchsim.DefaultVCH + "/kvStores"}); cfg.KVStores != want {
		t.Errorf("they are in %s, want %s", cfg.KVStores, want)
	}
}

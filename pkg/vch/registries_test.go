// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vch_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func TestWhatVICsOwnMigrationMadeOfRegistriesIsUnderstood(t *testing.T) {
	t.Parallel()
	w := newWorldOf(t, vchsim.Options{NoForeign: true, Registries: vchsim.RegistryOptions{
		Insecure: []string{"//one.example.com:5000", "", "two.example.com/path"},
	}})
	cfg, _ := w.find()
	if diff := cmp.Diff([]string{"one.example.com:5000", "two.example.com/path"}, cfg.Registries.Insecure); diff != "" {
		t.Errorf("insecure registries (-want +got):\n%s", diff)
	}
}

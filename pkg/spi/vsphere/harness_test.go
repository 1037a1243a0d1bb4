// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

// site is a world with words for what the tests of this package do in it.
type site struct{ *world.World }

func newSite(t *testing.T, o vchsim.Options) site {
	t.Helper()
	return site{world.New(t, o)}
}

// start makes a machine and starts it.
func (w site) start(name string) (providerID string) {
	w.Helper()
	if _, err := w.SPI().CreateMachine(w.Context(), name, w.Spec(), w.Secret()); err != nil {
		w.Fatal(err)
	}
	id, addresses, err := w.SPI().InitializeMachine(w.Context(), name, "", w.Spec(), w.Secret())
	if err != nil {
		w.Fatal(err)
	}
	if len(addresses) == 0 {
		w.Errorf("machine %s has no address", name)
	}
	return id
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

func TestAPlaceOfKeyValueStoresThatCannotBeReadIsNamed(t *testing.T) {
	at := vch.StorePath{Datastore: "ds1", Path: "vch-1/kvStores"}
	tests := []struct {
		name string
		host vch.Config
		kind errdefs.Kind
		want string
	}{
		{"no directory", vch.Config{Name: "vch-1"}, errdefs.FailedPrecondition, "the directory of its appliance VM, and vCenter does not tell that"},
		{"no datastore", vch.Config{Name: "vch-1", KVStores: at}, errdefs.FailedPrecondition, "[ds1] vch-1/kvStores, and its datacenter has no such datastore"},
		{
			"no way",
			vch.Config{Name: "vch-1", KVStores: at, Datastores: map[string]vch.Datastore{"ds1": {Name: "ds1"}}},
			errdefs.Unavailable, "[ds1] vch-1/kvStores, and no host reaches that datastore",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := kvFiles(nil, &test.host)
			if !errdefs.Is(err, test.kind) || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "VCH vch-1") {
				t.Errorf("got %v (%s)", err, errdefs.KindOf(err))
			}
		})
	}
}

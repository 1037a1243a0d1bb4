// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package datastore

import "testing"

func TestKindsOfDatastoresAreTold(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]struct{ objects, namespaced bool }{
		"VMFS": {}, "NFS": {}, "NFS41": {}, "CIFS": {}, "OTHER": {}, "": {}, "of a later vSphere": {},
		"vsan": {true, true}, "VVOL": {true, true}, "vsanD": {true, false}, "PMEM": {true, false},
	} {
		if Objects(kind) != want.objects || Namespaced(kind) != want.namespaced {
			t.Errorf("%q: objects %t, namespaced %t", kind, Objects(kind), Namespaced(kind))
		}
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
)

func TestDisplayNameIsVICs(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/display-name.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct {
		Convention, ID, Name, Display string
		Bytes                         int
	}
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) < 40 {
		t.Fatalf("only %d vectors", len(vectors))
	}
	for _, v := range vectors {
		got := containervm.DisplayName(v.Convention, v.Name, v.ID)
		// JSON replaces the bytes of a split character, so compare what JSON makes of ours.
		b, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		var shown string
		if err := json.Unmarshal(b, &shown); err != nil {
			t.Fatal(err)
		}
		if shown != v.Display || (len(shown) == len(got) && len(got) != v.Bytes) {
			t.Errorf("DisplayName(%q, %q, %q) = %q (%d bytes), VIC has %q (%d bytes)", v.Convention, v.Name, v.ID, got, len(got), v.Display, v.Bytes)
		}
	}
}

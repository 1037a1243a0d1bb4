// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"fmt"
	"strings"
	"testing"
)

func TestVMsAreNamedForPeopleButNotWithoutEnd(t *testing.T) {
	t.Parallel()
	of := func(n int) string {
		return People(n, func(i int) (name, vm string, unproven bool) {
			return fmt.Sprintf("web-%d", i), fmt.Sprintf("vm-%d", i), i == 1
		})
	}
	if got, want := of(2), "web-0 (vm-0); web-1 (vm-1), of which vCenter cannot tell the disks"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := of(0); got != "" {
		t.Errorf("nobody is %q", got)
	}
	if got := of(10); strings.Contains(got, "more") || strings.Count(got, "; ") != 9 {
		t.Errorf("ten are %q", got)
	}
	if got := of(11); !strings.HasSuffix(got, "web-9 (vm-9); and more") {
		t.Errorf("eleven are %q", got)
	}
}

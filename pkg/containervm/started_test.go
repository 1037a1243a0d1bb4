// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"testing"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
)

func TestTheWaitForAStartEndsWithTheGuestOrWithTheVM(t *testing.T) {
	const on, off = types.VirtualMachinePowerStatePoweredOn, types.VirtualMachinePowerStatePoweredOff
	type look struct {
		power types.VirtualMachinePowerState
		said  string
	}
	for name, tc := range map[string]struct {
		// wasOn says that the VM was on before.
		wasOn bool
		looks []look
		// started and kind are the judgement of the last look; those before go on waiting.
		started bool
		kind    errdefs.Kind
	}{
		"the process runs":                        {false, []look{{on, ""}, {on, "true"}}, true, ""},
		"the word comes before the power state":   {false, []look{{off, "true"}, {on, "true"}}, true, ""},
		"the process does not start":              {false, []look{{on, "no such file"}}, false, errdefs.Internal},
		"it went off after it was seen on":        {false, []look{{on, ""}, {off, ""}}, false, errdefs.Internal},
		"it went off before anybody looked":       {false, []look{{off, ""}, {off, ""}}, false, errdefs.Internal},
		"it is seen on a moment too late":         {false, []look{{off, ""}, {on, ""}, {on, "true"}}, true, ""},
		"another's start, and it is off at first": {true, []look{{off, ""}}, false, errdefs.Internal},
	} {
		p := progress{wasOn: tc.wasOn}
		for i, l := range tc.looks {
			vm := &VM{PowerState: l.power, Keys: map[string]string{guestinfo.CommonIDKey: "c", guestinfo.StartedKey("c"): l.said}}
			started, err := p.judge(vm)
			last := i == len(tc.looks)-1
			switch {
			case !last && (started || err != nil):
				t.Errorf("%s: look %d ended the wait: %t, %v", name, i, started, err)
			case last && (started != tc.started || errdefs.KindOf(err) != tc.kind):
				t.Errorf("%s: %t, %v, want %t, %q", name, started, err, tc.started, tc.kind)
			}
		}
	}
}

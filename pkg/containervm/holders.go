// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// Holder is a container VM that has a volume.
type Holder struct {
	Ref types.ManagedObjectReference
	// VM is its name, Machine that of its machine; empty if it is none of ours.
	VM, Machine string
}

// String names the holder for people.
func (h Holder) String() string {
	if h.Machine == "" {
		return fmt.Sprintf("VM %q (%s)", h.VM, h.Ref.Value)
	}
	return fmt.Sprintf("VM %q (%s, machine %s)", h.VM, h.Ref.Value, h.Machine)
}

// Holders returns the container VMs of the VCH, of docker too, whose configuration has one of the volumes, by the
// volume's name and sorted by their references, in one call (more only when vCenter pages its answer). It
// reads three keys of each VM of the VCH and none outside: VMs that somebody gave a disk by hand are not in it.
func (o *Operator) Holders(ctx context.Context, volumes ...string) (map[string][]Holder, error) {
	mark, mounts := vch.KeyProperty(guestinfo.AnnotationKey(identity.MarkAnnotation)), vch.KeyProperty(guestinfo.MountsKey)
	content, err := o.members(ctx, "name", mark, mounts)
	if err != nil {
		return nil, o.convert(err, "look which container VMs of VCH %s have volumes", o.host.Name)
	}
	out := map[string][]Holder{}
	for _, c := range content {
		h := Holder{Ref: c.Obj}
		var has []string
		for _, p := range c.PropSet {
			switch p.Name {
			case "name":
				h.VM, _ = p.Val.(string)
			case mark:
				if m, err := identity.DecodeMark(vch.KeyValue(p.Val)); err == nil {
					h.Machine = m.Machine
				}
			case mounts:
				has = guestinfo.Names(vch.KeyValue(p.Val))
			}
		}
		for _, name := range volumes {
			if slices.Contains(has, name) {
				out[name] = append(out[name], h)
			}
		}
	}
	for _, holders := range out {
		slices.SortFunc(holders, func(a, b Holder) int { return strings.Compare(a.Ref.Value, b.Ref.Value) })
	}
	return out, nil
}

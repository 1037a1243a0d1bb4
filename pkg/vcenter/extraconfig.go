// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import "github.com/vmware/govmomi/vim25/types"

// ExtraConfigProperty returns the property path of one ExtraConfig key, so that a
// read need not fetch all of them. vSphere takes the key of an element as the index
// of a keyed array; VM Operator's guestinfo prober relies on the same. A key with a
// quotation mark cannot be named so.
func ExtraConfigProperty(key string) string { return "config.extraConfig[\"" + key + "\"]" }

// ExtraConfigText returns the text of an ExtraConfig key that was read by
// ExtraConfigProperty, as it is stored; "" when the VM does not have it.
func ExtraConfigText(val types.AnyType) string {
	var s string
	switch o := val.(type) {
	case types.OptionValue:
		s, _ = o.Value.(string)
	case types.BaseOptionValue:
		s, _ = o.GetOptionValue().Value.(string)
	}
	return s
}

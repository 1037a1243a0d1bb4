// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
)

// leases are the DHCP servers of the world. A VM keeps its address on a network
// until it is removed. Guarded by guests.mu.
type leases struct {
	last  uint32
	given map[string]net.IP
}

// Networks with a DHCP server are /12; two addresses of each are router and resolver.
const dhcpPrefix = 12

// lease gives each endpoint without static address one from the DHCP server of
// the port group that its card really is connected to. The tether gives up if
// there is none.
func (s *Sim) lease(inside *guest, nics []nic) error {
	s.guests.mu.Lock()
	defer s.guests.mu.Unlock()
	l := &s.guests.leases
	for i := range nics {
		n := &nics[i]
		if n.static {
			continue
		}
		at := slices.IndexFunc(s.places.networks, func(r ref) bool { return r.Value == n.portgroup })
		if at != externalPortgroup && at != unrelatedPortgroup {
			return fmt.Errorf("network %s: no DHCP server answers", n.network)
		}
		base := uint32(10)<<24 | uint32(64+16*at)<<16
		key := inside.vm.Value + "/" + n.portgroup
		if l.given[key] == nil {
			l.last++
			l.given[key] = ipv4(base + 16 + l.last)
		}
		mask := net.CIDRMask(dhcpPrefix, 32)
		n.address = net.IPNet{IP: l.given[key], Mask: mask}
		n.gateway = net.IPNet{IP: ipv4(base + 1), Mask: mask}
		n.dns = []net.IP{ipv4(base + 2)}
	}
	if len(nics) == 0 {
		return errors.New("no network")
	}
	return nil
}

func (l *leases) release(vm ref) {
	for key := range l.given {
		if len(key) > len(vm.Value) && key[:len(vm.Value)+1] == vm.Value+"/" {
			delete(l.given, key)
		}
	}
}

func ipv4(n uint32) net.IP { return binary.BigEndian.AppendUint32(nil, n) }

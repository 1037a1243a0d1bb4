// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo_test

import (
	"fmt"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
)

func typical() *guestinfo.ExecutorConfig {
	const id = "6b9a5f2c0d1e4f3a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a"
	config := &guestinfo.ExecutorConfig{
		ExecutorConfigCommon: guestinfo.ExecutorConfigCommon{ID: id, Name: "web-0"},
		Annotations:          map[string]string{"owner": "team-a"},
		Sessions: map[string]*guestinfo.SessionConfig{id: {
			Common: guestinfo.Common{ID: id},
			Active: true,
			Cmd:    guestinfo.Cmd{Path: "/sbin/init", Args: []string{"/sbin/init"}, Env: []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}},
		}},
		Networks: map[string]*guestinfo.NetworkEndpoint{"vm-network": {
			Common:  guestinfo.Common{ID: "1184"},
			Network: guestinfo.ContainerNetwork{Type: "external", Default: true, TrustLevel: guestinfo.TrustOpen},
		}},
	}
	return config
}

func Example() {
	config := typical()
	keys, err := guestinfo.EncodeExecutor(config)
	if err != nil {
		fmt.Println(err)
		return
	}
	options := guestinfo.OptionValues(keys) // what vSphere gets
	fmt.Println(options[guestinfo.CommonIDKey] == config.ID, options[guestinfo.StartedKey(config.ID)])

	// The guest reports; later the options are read again.
	options[guestinfo.StartedKey(config.ID)] = guestinfo.StartedTrue
	options[guestinfo.AssignedIPKey("vm-network")] = "ChQeKA=="
	options[guestinfo.AssignedMaskKey("vm-network")] = "////AA=="
	back, err := guestinfo.DecodeExecutor(guestinfo.FromOptionValues(options))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(back.Sessions[config.ID].Started, &back.Networks["vm-network"].Assigned)

	config.Sessions[config.ID].Cmd.Args = []string{"/bin/sh", "-c", "dmesg | tail"}
	_, err = guestinfo.EncodeExecutor(config)
	fmt.Println(err)
	// Output:
	// true <nil>
	// true 10.20.30.40/24
	// Sessions["6b9a5f2c0d1e4f3a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2f1a0b9c8d7e6f5a"].Cmd.Args[2]: it contains a '|', which separates list elements and cannot be escaped
}

func BenchmarkEncodeExecutor(b *testing.B) {
	config := typical()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := guestinfo.EncodeExecutor(config); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeExecutor(b *testing.B) {
	keys, err := guestinfo.EncodeExecutor(typical())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := guestinfo.DecodeExecutor(keys); err != nil {
			b.Fatal(err)
		}
	}
}

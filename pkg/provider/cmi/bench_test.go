// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"fmt"
	"sync/atomic"
	"testing"

	mcmdriver "github.com/gardener/machine-controller-manager/pkg/util/provider/driver"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/fake"
)

// benchmarked returns a driver in this process with n machines, and one that
// reaches it through a socket.
func benchmarked(b *testing.B, n int) (inProcess, overSocket provider.Driver) {
	b.Helper()
	plugin := provider.NewMachinePlugin(fake.New(), provider.Options{})
	for i := range n {
		machine, class, secret := rigInput(fmt.Sprint("machine-", i))
		if _, err := plugin.CreateMachine(b.Context(), &mcmdriver.CreateMachineRequest{Machine: machine, MachineClass: class, Secret: secret}); err != nil {
			b.Fatal(err)
		}
		if _, err := plugin.InitializeMachine(b.Context(), &mcmdriver.InitializeMachineRequest{Machine: machine, MachineClass: class, Secret: secret}); err != nil {
			b.Fatal(err)
		}
	}
	return plugin, newRig(b, plugin, ServerOptions{}).driver()
}

// BenchmarkGetMachineStatus is what the socket costs: the backend is in memory
// and answers at once.
func BenchmarkGetMachineStatus(b *testing.B) {
	const machines = 64
	inProcess, overSocket := benchmarked(b, machines)
	for _, way := range []struct {
		name   string
		driver provider.Driver
	}{{"in-process", inProcess}, {"socket", overSocket}} {
		status := func(b *testing.B, machine string) {
			m, class, secret := rigInput(machine)
			if _, err := way.driver.GetMachineStatus(b.Context(), &mcmdriver.GetMachineStatusRequest{Machine: m, MachineClass: class, Secret: secret}); err != nil {
				b.Error(err)
			}
		}
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				status(b, "machine-0")
			}
		})
		b.Run(way.name+"/parallel", func(b *testing.B) {
			b.ReportAllocs()
			var next atomic.Int32
			b.SetParallelism(machines / 8)
			b.RunParallel(func(pb *testing.PB) {
				machine := fmt.Sprint("machine-", int(next.Add(1))%machines) // each has its own
				for pb.Next() {
					status(b, machine)
				}
			})
		})
	}
}

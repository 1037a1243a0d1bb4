// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
)

// guests are the insides of all container VMs that are powered on.
type guests struct {
	mu         sync.Mutex
	options    GuestOptions
	perMachine map[string]GuestOptions
	running    map[ref]*guest
	adopted    map[ref]*guest
	reports    map[string]string
	leases     leases
	// disk is held while a volume's content is read or changed.
	disk   sync.Mutex
	closed bool
	wg     sync.WaitGroup
}

// guest is the inside of one VM between a power-on and the next power-off.
type guest struct {
	vm      ref
	id      string
	machine string // name of the machine, or of the container
	options GuestOptions
	off     chan struct{} // closed at power-off
	// up says that the toolbox answers; guarded by guests.mu.
	up       bool
	stopping bool
	// mounts are the volumes by mount point; guarded by guests.mu.
	mounts map[string]Mount
}

func (g *guests) start(options GuestOptions) {
	g.options = options
	g.perMachine, g.running, g.adopted = map[string]GuestOptions{}, map[ref]*guest{}, map[ref]*guest{}
	g.reports = map[string]string{}
	g.leases.given = map[string]net.IP{}
}

// SetGuest changes how guests behave from their next power-on or stop on, except
// those that SetMachineGuest speaks of.
func (s *Sim) SetGuest(options GuestOptions) {
	s.guests.mu.Lock()
	defer s.guests.mu.Unlock()
	s.guests.options = options
}

// SetMachineGuest changes how the guest of one machine behaves, by the machine's name.
func (s *Sim) SetMachineGuest(machine string, options GuestOptions) {
	s.guests.mu.Lock()
	defer s.guests.mu.Unlock()
	s.guests.perMachine[machine] = options
}

// GuestReports says, by VM name, why the last boot of a guest did not end with a
// running process because of the VM's own configuration. The same text stands in
// the VM's tether.debug.
func (s *Sim) GuestReports() map[string]string {
	s.guests.mu.Lock()
	defer s.guests.mu.Unlock()
	return maps.Clone(s.guests.reports)
}

func (g *guests) optionsOf(machine string) GuestOptions {
	if o, ok := g.perMachine[machine]; ok {
		return o
	}
	return g.options
}

// adopt makes the VM's next power-on that of a guest that is up already.
func (g *guests) adopt(vm ref, id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.adopted[vm] = &guest{vm: vm, id: id, off: make(chan struct{}), up: true}
}

// powered is called when a VM was switched on, under its lock.
func (g *guests) powered(s *Sim, vm *mo.VirtualMachine) {
	keys := extraConfig(vm)
	id, ok := keys[commonID]
	if !ok {
		return // no container: an appliance, or somebody's VM
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return
	}
	if a := g.adopted[vm.Self]; a != nil {
		delete(g.adopted, vm.Self)
		g.running[vm.Self] = a
		return
	}
	inside := &guest{vm: vm.Self, id: id, machine: keys["common/name"], off: make(chan struct{})}
	if mark := markOf(keys); mark != nil {
		inside.machine = mark.Machine
	}
	inside.options = g.optionsOf(inside.machine)
	g.running[vm.Self] = inside
	g.wg.Go(func() { s.boot(inside) })
}

// gone is called when a VM was switched off or removed, under its lock.
func (g *guests) gone(s *Sim, vm ref, removed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if removed {
		g.leases.release(vm)
	}
	inside := g.running[vm]
	if inside == nil {
		return
	}
	delete(g.running, vm)
	close(inside.off)
	s.forget(vm)
	if g.closed || removed {
		return
	}
	g.wg.Go(func() { s.silence(vm) })
}

func (g *guests) close() {
	g.mu.Lock()
	g.closed = true
	for vm, inside := range g.running {
		close(inside.off)
		delete(g.running, vm)
	}
	g.mu.Unlock()
	g.wg.Wait()
}

// sleep waits and reports whether the VM is still on afterwards.
func (inside *guest) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-inside.off:
		return false
	}
}

func (inside *guest) isOff() bool {
	select {
	case <-inside.off:
		return true
	default:
		return false
	}
}

// locked runs f under the VM's lock, unless the guest's VM is off by then.
func (s *Sim) locked(inside *guest, f func(*simulator.Context, *simulator.VirtualMachine)) bool {
	vm, ok := s.registry.Get(inside.vm).(*simulator.VirtualMachine)
	if !ok {
		return false
	}
	ran := false
	ctx := s.newContext()
	ctx.WithLock(vm, func() {
		if !inside.isOff() {
			f(ctx, vm)
			ran = true
		}
	})
	return ran
}

// boot is the life of a guest from power-on to the launch of its process.
func (s *Sim) boot(inside *guest) {
	if !inside.sleep(inside.options.Delay) || inside.options.Hang {
		return
	}
	disk, volumes := "", map[string]*rootFS{}
	s.locked(inside, func(_ *simulator.Context, vm *simulator.VirtualMachine) {
		disk = rootParent(vm.Config.Hardware.Device)
		for _, file := range ownDisks(vm.Config.Hardware.Device) {
			volumes[file] = nil
		}
	})
	root := s.rootOf(disk) // not under the VM's lock: there may be much on it
	for file := range volumes {
		volumes[file] = s.volumeOf(file)
	}
	var v verdict
	joins := map[string]string{}
	alive := s.locked(inside, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		keys := extraConfig(&vm.VirtualMachine)
		v = machine{keys: keys, devices: vm.Config.Hardware.Device, exists: s.exists, root: root, volumes: volumes}.boot()
		s.openLogs(vm)
		if v.fate == runs || v.fate == fails {
			if err := s.lease(inside, v.nics); err != nil {
				v.fate, v.why = dies, err.Error()
			}
		}
		switch {
		case v.why != "":
			s.report(vm, v.why)
		case inside.options.Crash:
			v.fate = dies
		case inside.options.Fail != "":
			v.fate, v.why = fails, inside.options.Fail
		}
		if v.fate == dies {
			setPower(ctx, vm, types.VirtualMachinePowerStatePoweredOff)
		}
		if v.fate == runs || v.fate == fails {
			s.reportAddresses(ctx, vm, keys, v.nics)
		}
		joins = keys
	})
	if !alive || (v.fate != runs && v.fate != fails) {
		return
	}
	if err := s.mountAll(inside, v.mounts, disk); err != nil {
		s.locked(inside, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
			s.report(vm, err.Error())
			setPower(ctx, vm, types.VirtualMachinePowerStatePoweredOff)
		})
		return
	}
	s.launch(inside, v, joins)
}

// launch ends the boot. The tether writes starttime and started in two calls, so
// a reader can see the one without the other (lib/tether/tether.go:810-932).
func (s *Sim) launch(inside *guest, v verdict, keys map[string]string) {
	s.locked(inside, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		if v.fate == runs {
			setExtraConfig(ctx, vm, map[string]string{"guestinfo.vice..sessions|" + inside.id + ".detail.starttime": fmt.Sprint(now())})
		}
	})
	if v.fate == runs {
		// Before the world learns that it runs: who acts on started meets a guest that obeys.
		s.guests.mu.Lock()
		inside.up = true
		s.guests.mu.Unlock()
	}
	alive := s.locked(inside, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
		if v.fate == runs {
			setTools(ctx, vm, true)
			setExtraConfig(ctx, vm, map[string]string{startedKey(inside.id): "true"})
			return
		}
		setExtraConfig(ctx, vm, map[string]string{startedKey(inside.id): v.why})
		setPower(ctx, vm, types.VirtualMachinePowerStatePoweredOff)
	})
	if alive && v.fate == runs {
		s.joiners.join(inside, keys)
	}
}

// silence clears what the toolbox had reported of a VM that is off now.
func (s *Sim) silence(r ref) {
	vm, ok := s.registry.Get(r).(*simulator.VirtualMachine)
	if !ok {
		return
	}
	ctx := s.newContext()
	ctx.WithLock(vm, func() {
		if vm.Runtime.PowerState == types.VirtualMachinePowerStatePoweredOn {
			return // on again
		}
		setTools(ctx, vm, false)
		ctx.Update(vm, []types.PropertyChange{
			{Name: "guest.ipAddress", Val: ""},
			{Name: "summary.guest.ipAddress", Val: ""},
			{Name: "guest.net", Val: []types.GuestNicInfo{}},
		})
	})
}

// openLogs makes the files of the serial ports, as ESXi does at power-on.
func (s *Sim) openLogs(vm *simulator.VirtualMachine) {
	for _, d := range vm.Config.Hardware.Device {
		file, ok := d.GetVirtualDevice().Backing.(*types.VirtualSerialPortFileBackingInfo)
		if !ok {
			continue
		}
		if err := s.appendTo(file.FileName, ""); err != nil {
			s.report(vm, err.Error())
		}
	}
}

// report keeps a guest's last words, and writes them where VIC's tether writes its own.
func (s *Sim) report(vm *simulator.VirtualMachine, why string) {
	text := why
	if err := s.appendTo(path.Dir(vm.Config.Files.VmPathName)+"/tether.debug", why+"\n"); err != nil {
		text += "; " + err.Error()
	}
	s.guests.mu.Lock()
	defer s.guests.mu.Unlock()
	s.guests.reports[vm.Name] = text
}

func (s *Sim) appendTo(file, text string) error {
	f, err := os.OpenFile(s.localPath(file), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open %s: %w", file, err)
	}
	_, err = io.WriteString(f, text)
	return errors.Join(err, f.Close())
}

// reportAddresses publishes what the tether writes after the networks are up
// (lib/tether/tether.go:583-592) and what the toolbox tells vSphere.
func (s *Sim) reportAddresses(ctx *simulator.Context, vm *simulator.VirtualMachine, keys map[string]string, nics []nic) {
	set := map[string]string{}
	infos := []types.GuestNicInfo{}
	main := ""
	for _, n := range nics {
		base := "guestinfo.vice..networks|" + n.network
		set[base+".assigned.IP"], set[base+".assigned.Mask"] = encoded(n.address.IP), encoded(n.address.Mask)
		if n.gateway.IP != nil {
			set[base+".network.assigned.gateway.IP"], set[base+".network.assigned.gateway.Mask"] = encoded(n.gateway.IP), encoded(n.gateway.Mask)
		}
		if len(n.dns) > 0 {
			set[base+".network.assigned.dns"] = fmt.Sprint(len(n.dns) - 1)
			for i, server := range n.dns {
				set[fmt.Sprintf("%s.network.assigned.dns|%d", base, i)] = encoded(server)
			}
		}
		text := n.address.IP.String()
		prefix, _ := n.address.Mask.Size()
		infos = append(infos, types.GuestNicInfo{
			Network: n.network, IpAddress: []string{text}, Connected: true, DeviceConfigId: n.device,
			IpConfig: &types.NetIpConfigInfo{IpAddress: []types.NetIpConfigInfoIpAddress{{IpAddress: text, PrefixLength: int32(prefix), State: "preferred"}}},
		})
		if main == "" || n.main {
			main = text
		}
	}
	setExtraConfig(ctx, vm, set)
	host := strings.TrimSuffix(keys["guestinfo.vice./hostname"]+"."+keys["guestinfo.vice./domainname"], ".")
	ctx.Update(vm, []types.PropertyChange{
		{Name: "guest.net", Val: infos},
		{Name: "guest.ipAddress", Val: main},
		{Name: "summary.guest.ipAddress", Val: main},
		{Name: "guest.hostName", Val: host},
	})
}

func encoded[T ~[]byte](b T) string { return base64.StdEncoding.EncodeToString(b) }

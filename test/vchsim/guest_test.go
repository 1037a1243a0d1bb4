// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
)

func isOff(vm VM) bool     { return !vm.On }
func isStarted(vm VM) bool { return vm.Started != "" }

// guestProgram runs a program in the guest as the user.
func guestProgram(t *testing.T, client *govmomi.Client, vm types.ManagedObjectReference, user, program, args string) error {
	t.Helper()
	var manager mo.GuestOperationsManager
	must(t, client.RetrieveOne(t.Context(), *client.ServiceContent.GuestOperationsManager, []string{"processManager"}, &manager))
	_, err := methods.StartProgramInGuest(t.Context(), client, &types.StartProgramInGuest{
		This: *manager.ProcessManager, Vm: vm,
		Auth: &types.NamePasswordAuthentication{Username: user},
		Spec: &types.GuestProgramSpec{ProgramPath: program, Arguments: args},
	})
	return err
}

func started(t *testing.T, sim *Sim, client *govmomi.Client, name string) (*object.VirtualMachine, VM) {
	t.Helper()
	vm := mustCreate(t, sim, client, name)
	must(t, run(t.Context(), vm.PowerOn))
	return vm, until(t, vm, isStarted, sim)
}

func TestAGuestReportsThatItRunsAndWhereItIs(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	_, first := started(t, sim, client, "a")
	vm, second := started(t, sim, client, "b")
	if first.Started != "true" || second.Started != "true" {
		t.Errorf("started %q and %q; %v", first.Started, second.Started, sim.GuestReports())
	}
	if net.ParseIP(first.Address) == nil || first.Address == second.Address {
		t.Errorf("addresses %q and %q", first.Address, second.Address)
	}
	config, err := guestinfo.DecodeExecutor(guestinfo.FromOptionValues(second.ExtraCfg))
	must(t, err)
	endpoint := config.Networks[ExternalNetwork]
	if endpoint.Assigned.IP.String() != second.Address || endpoint.Network.Assigned.Gateway.IP == nil || len(endpoint.Network.Assigned.Nameservers) != 1 {
		t.Errorf("assigned %v, network %v", endpoint.Assigned, endpoint.Network.Assigned)
	}
	if s := config.Sessions[second.ID]; s.StartTime == 0 {
		t.Errorf("session %+v", s)
	}
	var properties mo.VirtualMachine
	must(t, vm.Properties(t.Context(), vm.Reference(), []string{"guest"}, &properties))
	if g := properties.Guest; g.IpAddress != second.Address || g.HostName != "b" || len(g.Net) != 1 || g.Net[0].Network != ExternalNetwork || g.ToolsRunningStatus != "guestToolsRunning" {
		t.Errorf("guest %+v", g)
	}
	must(t, run(t.Context(), vm.PowerOff))
	until(t, vm, func(vm VM) bool { return isOff(vm) && vm.Address == "" }, sim)
	must(t, run(t.Context(), vm.PowerOn))
	if again := until(t, vm, func(vm VM) bool { return vm.Address != "" }, sim); again.Address != second.Address {
		t.Errorf("address %q became %q", second.Address, again.Address)
	}
}

func TestAGuestCanFailCrashHangAndBeSlow(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true, Guest: GuestOptions{Fail: "exec: no such file"}})
	client := login(t, sim)
	sim.SetMachineGuest("crash", GuestOptions{Crash: true})
	sim.SetMachineGuest("hang", GuestOptions{Hang: true})
	sim.SetMachineGuest("slow", GuestOptions{Delay: time.Hour})
	failed, hung, slow, crashed := mustCreate(t, sim, client, "fail"), mustCreate(t, sim, client, "hang"), mustCreate(t, sim, client, "slow"), mustCreate(t, sim, client, "crash")
	for _, vm := range []*object.VirtualMachine{failed, hung, slow, crashed} {
		must(t, run(t.Context(), vm.PowerOn))
	}
	if got := until(t, failed, isOff, sim); got.Started != "exec: no such file" {
		t.Errorf("failed guest: started %q", got.Started)
	}
	if got := until(t, crashed, isOff, sim); got.Started != "" {
		t.Errorf("crashed guest: started %q", got.Started)
	}
	for _, vm := range []*object.VirtualMachine{hung, slow} {
		if got := until(t, vm, func(vm VM) bool { return vm.On }, sim); got.Started != "" {
			t.Errorf("%s: started %q", got.Name, got.Started)
		}
		if err := guestProgram(t, client, vm.Reference(), "x", "kill", "TERM"); !fault.Is(err, &types.GuestOperationsUnavailable{}) {
			t.Errorf("guest operation before the guest is up: %v", err)
		}
	}
	sim.SetGuest(GuestOptions{})
	must(t, run(t.Context(), failed.PowerOn))
	until(t, failed, func(vm VM) bool { return vm.Started == "true" }, sim)
}

func TestAGuestObeysWhoKnowsItsID(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	vm, is := started(t, sim, client, "a")
	if err := guestProgram(t, client, vm.Reference(), "root", "kill", "TERM"); !fault.Is(err, &types.InvalidGuestLogin{}) {
		t.Errorf("wrong user: %v", err)
	}
	if err := guestProgram(t, client, vm.Reference(), is.ID, "kill", "PWR"); !fault.Is(err, &types.InvalidArgument{}) {
		t.Errorf("unknown signal: %v", err)
	}
	if err := guestProgram(t, client, vm.Reference(), is.ID, "rm", "-rf"); !fault.Is(err, &types.FileNotFound{}) {
		t.Errorf("unknown program: %v", err)
	}
	must(t, guestProgram(t, client, vm.Reference(), is.ID, "reload", ""))
	must(t, guestProgram(t, client, vm.Reference(), is.ID, "kill", "SIGUSR1"))
	must(t, guestProgram(t, client, vm.Reference(), is.ID, "kill", ""))
	off := until(t, vm, isOff, sim)
	config, err := guestinfo.DecodeExecutor(guestinfo.FromOptionValues(off.ExtraCfg))
	must(t, err)
	if s := config.Sessions[is.ID]; s.StopTime == 0 || s.ExitStatus != 0 {
		t.Errorf("session %+v", s)
	}
	if err := guestProgram(t, client, vm.Reference(), is.ID, "kill", ""); !fault.Is(err, &types.InvalidPowerState{}) {
		t.Errorf("a guest that is off: %v", err)
	}
}

func TestAStubbornGuestNeedsHarderMeans(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true, Guest: GuestOptions{IgnoreTerm: true}})
	client := login(t, sim)
	sim.SetMachineGuest("deaf", GuestOptions{IgnoreStop: true})
	vm, is := started(t, sim, client, "a")
	deaf, deafIs := started(t, sim, client, "deaf")
	must(t, guestProgram(t, client, vm.Reference(), is.ID, "kill", "TERM"))
	must(t, guestProgram(t, client, vm.Reference(), is.ID, "group-kill", "KILL"))
	off := until(t, vm, isOff, sim)
	if status := off.ExtraCfg[guestinfo.StatusKey(is.ID)]; status != "-1" {
		t.Errorf("status %q after KILL", status)
	}
	must(t, guestProgram(t, client, deaf.Reference(), deafIs.ID, "group-kill", "KILL"))
	must(t, deaf.ShutdownGuest(t.Context()))
	must(t, run(t.Context(), deaf.PowerOff)) // InvalidPowerState if it had obeyed
}

func TestShutdownGuestNeedsAGuest(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true, Guest: GuestOptions{Hang: true}})
	client := login(t, sim)
	vm := mustCreate(t, sim, client, "a")
	if err := vm.ShutdownGuest(t.Context()); !fault.Is(err, &types.InvalidPowerState{}) {
		t.Errorf("a VM that is off: %v", err)
	}
	must(t, run(t.Context(), vm.PowerOn))
	if err := vm.ShutdownGuest(t.Context()); !fault.Is(err, &types.ToolsUnavailable{}) {
		t.Errorf("no guest: %v", err)
	}
	sim.SetGuest(GuestOptions{})
	other, _ := started(t, sim, client, "b")
	must(t, other.ShutdownGuest(t.Context()))
	until(t, other, isOff, sim)
}

func TestAGuestThatCannotBootSaysWhyInItsLog(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	spec := machineSpec(t, sim, "a")
	for _, o := range spec.ExtraConfig {
		if v := o.GetOptionValue(); v.Key == "guestinfo.vice./key" {
			v.Value = "<nil>"
		}
	}
	vm, err := create(t.Context(), sim, client, spec)
	must(t, err)
	must(t, run(t.Context(), vm.PowerOn))
	is := until(t, vm, isOff, sim)
	if is.Started != "" || sim.GuestReports()[is.Name] != "no key found" {
		t.Errorf("started %q, reports %v", is.Started, sim.GuestReports())
	}
	log, err := os.ReadFile(sim.localPath(vmDir(is.VMX) + "/tether.debug"))
	must(t, err)
	if string(log) != "no key found\n" {
		t.Errorf("log %q", log)
	}
}

// typical is what a guest sees of a machine that VIC's rules allow.
func typical(t *testing.T, sim *Sim) machine {
	t.Helper()
	spec := machineSpec(t, sim, "a")
	m := machine{keys: map[string]string{}, exists: func(string) bool { return true }}
	for _, o := range spec.ExtraConfig {
		v := o.GetOptionValue()
		m.keys[v.Key] = strings.ReplaceAll(v.Value.(string), "<nil>", "")
	}
	for _, d := range spec.DeviceChange {
		m.devices = append(m.devices, d.GetVirtualDeviceConfigSpec().Device)
	}
	return m
}

func TestTheGuestChecksWhatVICsTetherNeeds(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	if v := typical(t, sim).boot(); v.fate != runs || len(v.nics) != 1 {
		t.Fatalf("a good machine: %+v", v)
	}
	set := func(key, value string) func(*machine) {
		return func(m *machine) { m.keys[strings.ReplaceAll(key, "ID", m.keys[commonID])] = value }
	}
	without := func(kind string) func(*machine) {
		return func(m *machine) {
			for i, d := range m.devices {
				if m.devices.Type(d) == kind {
					m.devices = append(m.devices[:i:i], m.devices[i+1:]...)
					return
				}
			}
		}
	}
	const network = "guestinfo.vice./networks|vm-network/"
	for name, c := range map[string]struct {
		change func(*machine)
		fate   fate
		why    string
	}{
		"no CD-ROM":             {without("cdrom"), hangs, "no bootable device"},
		"no ISO":                {func(m *machine) { m.exists = func(f string) bool { return !strings.HasSuffix(f, ".iso") } }, hangs, "no bootable device"},
		"no disk":               {without("disk"), hangs, "0 disks"},
		"no disk file":          {func(m *machine) { m.exists = func(f string) bool { return strings.HasSuffix(f, ".iso") } }, hangs, "without file"},
		"disk on no controller": {without("pvscsi"), hangs, "paravirtual"},
		"blank disk":            {func(m *machine) { disk(*m).Parent = nil }, hangs, "label"},
		"floppy":                {func(m *machine) { m.devices = append(m.devices, &types.VirtualFloppy{}) }, hangs, "floppy"},
		"two serial ports":      {without("serialport"), dies, "2 serial ports"},
		"serial ports in disorder": {func(m *machine) {
			ports := m.devices.SelectByType((*types.VirtualSerialPort)(nil))
			a, b := ports[1].GetVirtualDevice(), ports[2].GetVirtualDevice()
			a.Backing, b.Backing = b.Backing, a.Backing
		}, dies, "ttyS"},
		"unconnected log": {func(m *machine) {
			m.devices.SelectByType((*types.VirtualSerialPort)(nil))[2].GetVirtualDevice().Connectable.StartConnected = false
		}, dies, "ttyS2"},
		"no key":              {set("guestinfo.vice./key", ""), dies, "no key found"},
		"key that is no key":  {set("guestinfo.vice./key", "LS0tLS1CRUdJTiBYLS0tLS0KCi0tLS0tRU5EIFgtLS0tLQo="), dies, "unencrypted"},
		"key that is no text": {set("guestinfo.vice./key", "%"), dies, "base64"},
		"mount without volume": {func(m *machine) {
			m.keys["guestinfo.vice./mounts"] = "v"
			m.keys["guestinfo.vice./mounts|v/source/Scheme"] = "label"
		}, hangs, "waits"},
		"odd mount":              {set("guestinfo.vice./mounts", "v"), dies, "scheme"},
		"no PCI slot":            {set(network+"Common/id", ""), dies, "not a number"},
		"impossible PCI slot":    {set(network+"Common/id", "7"), dies, "does not exist"},
		"empty PCI slot":         {set(network+"Common/id", "1216"), dies, "0 interfaces"},
		"network misnamed":       {set(network+"network/Common/name", "x"), dies, "inner name"},
		"network without type":   {set("guestinfo.vice..networks|vm-network.network.type", ""), dies, "firewall"},
		"static without address": {set(network+"static", "true"), dies, "nil dereference"},
		"no id":                  {set(commonID, "x"), dies, "not valid"},
		"no session":             {set("guestinfo.vice./sessions", ""), hangs, "nothing is launched"},
		"session of another":     {set("guestinfo.vice./sessions|ID/common/id", "x"), hangs, "nothing is launched"},
		"idle session":           {set("guestinfo.vice./sessions|ID/active", "false"), hangs, "not active"},
		"blocked session":        {set("guestinfo.vice..sessions|ID.runblock", "true"), hangs, "attach"},
		"pipe in an argument":    {set("guestinfo.vice./sessions|ID/cmd/Args~", "sh|-c|a|b"), dies, "4 values, count says 1"},
		"missing argument":       {set("guestinfo.vice./sessions|ID/cmd/Args", "3"), dies, "1 values"},
		"odd count":              {set("guestinfo.vice./sessions|ID/cmd/Env", "x"), dies, "not a number"},
		"no command":             {set("guestinfo.vice./sessions|ID/cmd/Path", ""), fails, "no such executable"},
		"command without PATH": {func(m *machine) {
			id := m.keys[commonID]
			m.keys[sessionKey(id, "cmd/Path")], m.keys[sessionKey(id, "cmd/Env~")] = "sh", "A=b"
		}, fails, "no such executable"},
	} {
		m := typical(t, sim)
		c.change(&m)
		if v := m.boot(); v.fate != c.fate || !strings.Contains(v.why, c.why) || (c.fate != runs && v.why == "") {
			t.Errorf("%s: fate %d, %q; want %d, %q", name, v.fate, v.why, c.fate, c.why)
		}
	}
}

func disk(m machine) *types.VirtualDiskFlatVer2BackingInfo {
	return m.devices.SelectByType((*types.VirtualDisk)(nil))[0].GetVirtualDevice().Backing.(*types.VirtualDiskFlatVer2BackingInfo)
}

func TestAStaticEndpointKeepsItsAddress(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	m := typical(t, sim)
	keys, err := guestinfo.EncodeExecutor(&guestinfo.ExecutorConfig{Networks: map[string]*guestinfo.NetworkEndpoint{ExternalNetwork: {
		Common: guestinfo.Common{ID: "1184"}, Static: true,
		IP: &net.IPNet{IP: net.IPv4(10, 20, 30, 7), Mask: net.CIDRMask(24, 32)},
		Network: guestinfo.ContainerNetwork{
			Common: guestinfo.Common{Name: ExternalNetwork}, Type: "external", Default: true,
			Gateway: net.IPNet{IP: net.IPv4(10, 20, 30, 1), Mask: net.CIDRMask(24, 32)}, Nameservers: []net.IP{net.IPv4(10, 20, 30, 2)},
		},
	}}})
	must(t, err)
	for k, v := range keys {
		if strings.Contains(k, "networks") {
			m.keys[k] = v
		}
	}
	v := m.boot()
	if v.fate != runs || v.nics[0].address.String() != "10.20.30.7/24" || !v.nics[0].gateway.IP.Equal(net.IPv4(10, 20, 30, 1)) || len(v.nics[0].dns) != 1 {
		t.Errorf("%+v", v)
	}
}

func TestWhereThereIsNoDHCPServerAGuestDies(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	spec := machineSpec(t, sim, "a")
	for _, d := range spec.DeviceChange {
		if card, ok := d.GetVirtualDeviceConfigSpec().Device.(*types.VirtualVmxnet3); ok {
			card.Backing.(*types.VirtualEthernetCardDistributedVirtualPortBackingInfo).Port.PortgroupKey = sim.places.networks[bridgePortgroup].Value
		}
	}
	vm, err := create(t.Context(), sim, client, spec)
	must(t, err)
	must(t, run(t.Context(), vm.PowerOn))
	is := until(t, vm, isOff, sim)
	if !strings.Contains(sim.GuestReports()[is.Name], "no DHCP server") {
		t.Errorf("reports %v", sim.GuestReports())
	}
}

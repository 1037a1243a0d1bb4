// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"slices"
	"strconv"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// StartProgramInGuest is answered by the toolbox in the tether: it knows the
// programs kill, group-kill and reload, and lets in whoever knows the container
// id, without a password (vic: lib/tether/toolbox.go:127-145,234-275).
func (o *overrides) StartProgramInGuest(ctx *simulator.Context, req *types.StartProgramInGuest) soap.HasFault {
	body := new(methods.StartProgramInGuestBody)
	vm, missing := o.vm(req.Vm)
	if missing != nil {
		body.Fault_ = missing
		return body
	}
	ctx.WithLock(vm, func() {
		inside, f := o.toolbox(vm)
		if f == nil {
			f = o.run(inside, req)
		}
		if f != nil {
			body.Fault_ = simulator.Fault("", f)
			return
		}
		body.Res = &types.StartProgramInGuestResponse{Returnval: 1}
	})
	return body
}

// toolbox returns the guest if it answers. The caller holds the VM's lock.
func (o *overrides) toolbox(vm *simulator.VirtualMachine) (*guest, types.BaseMethodFault) {
	if vm.Runtime.PowerState != types.VirtualMachinePowerStatePoweredOn {
		return nil, &types.InvalidPowerState{
			RequestedState: types.VirtualMachinePowerStatePoweredOn, ExistingState: vm.Runtime.PowerState,
		}
	}
	g := &o.sim.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	inside := g.running[vm.Self]
	if inside == nil || !inside.up {
		return nil, new(types.GuestOperationsUnavailable)
	}
	return inside, nil
}

func (o *overrides) run(inside *guest, req *types.StartProgramInGuest) types.BaseMethodFault {
	auth, ok := req.Auth.(*types.NamePasswordAuthentication)
	if !ok || auth.Username != inside.id {
		return new(types.InvalidGuestLogin)
	}
	spec, ok := req.Spec.(*types.GuestProgramSpec)
	if !ok {
		return &types.InvalidArgument{InvalidProperty: "spec"}
	}
	switch spec.ProgramPath {
	case "kill", "group-kill":
		sig, ok := signal(spec.Arguments)
		if !ok {
			return &types.InvalidArgument{InvalidProperty: "spec.arguments"}
		}
		o.sim.stop(inside, sig)
	case "reload":
	default:
		return &types.FileNotFound{FileFault: types.FileFault{File: spec.ProgramPath}}
	}
	return nil
}

// signal returns the name of a signal that the tether knows
// (vic: lib/tether/msgs/messages.go:61-76,128-148), TERM for none.
func signal(arg string) (string, bool) {
	names := map[int]string{6: "ABRT", 14: "ALRM", 8: "FPE", 1: "HUP", 4: "ILL", 2: "INT", 9: "KILL", 13: "PIPE", 3: "QUIT", 11: "SEGV", 15: "TERM", 10: "USR1", 12: "USR2"}
	name := strings.TrimPrefix(strings.ToUpper(strings.TrimSpace(arg)), "SIG")
	if name == "" {
		return "TERM", true
	}
	if n, err := strconv.Atoi(name); err == nil {
		name, ok := names[n]
		return name, ok
	}
	for _, known := range names {
		if name == known {
			return name, true
		}
	}
	return "", false
}

// stop ends the guest's process unless the guest is told to ignore that.
func (s *Sim) stop(inside *guest, sig string) {
	g := &s.guests
	g.mu.Lock()
	defer g.mu.Unlock()
	options := g.optionsOf(inside.machine)
	harmless := slices.Contains([]string{"USR1", "USR2", "HUP", "PIPE", "ALRM"}, sig)
	if options.IgnoreStop || (options.IgnoreTerm && sig != "KILL") || harmless || inside.stopping || g.closed {
		return
	}
	inside.stopping = true
	status := "0"
	if sig == "KILL" {
		status = "-1"
	}
	g.wg.Go(func() {
		if !inside.sleep(options.StopDelay) {
			return
		}
		s.locked(inside, func(ctx *simulator.Context, vm *simulator.VirtualMachine) {
			base := "guestinfo.vice..sessions|" + inside.id
			setExtraConfig(ctx, vm, map[string]string{base + ".status": status, base + ".detail.stoptime": strconv.FormatInt(now(), 10)})
			setPower(ctx, vm, types.VirtualMachinePowerStatePoweredOff)
		})
	})
}

// ShutdownGuest sends the stop signal, as the toolbox does.
func (o *overrides) ShutdownGuest(ctx *simulator.Context, req *types.ShutdownGuest) soap.HasFault {
	body := new(methods.ShutdownGuestBody)
	vm, missing := o.vm(req.This)
	if missing != nil {
		body.Fault_ = missing
		return body
	}
	ctx.WithLock(vm, func() {
		inside, f := o.toolbox(vm)
		switch f.(type) {
		case nil:
			o.sim.stop(inside, "TERM")
			body.Res = new(types.ShutdownGuestResponse)
		case *types.GuestOperationsUnavailable:
			body.Fault_ = simulator.Fault("", new(types.ToolsUnavailable))
		default:
			body.Fault_ = simulator.Fault("", f)
		}
	})
	return body
}

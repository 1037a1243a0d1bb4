// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package child

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/bench/contender"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// World is what the simulator serves.
type World struct {
	URL  string
	Site contender.Site
}

// State is what is in the world.
type State struct {
	// Calls are counted since the last state that was taken.
	Calls map[string]int
	// Sessions is how many are open, vcsim's own not counted.
	Sessions int
	// Machines says of each by name whether it runs.
	Machines map[string]bool
	// Files is how many files and directories the datastores have.
	Files int
	// CPUBefore is the time that the simulator had worked when it was asked, CPUAfter when
	// it answered: to count and to look costs time, too.
	CPUBefore, CPUAfter time.Duration
}

// Simulator is the served object; SimulatorProcess calls it.
type Simulator struct {
	ctx context.Context //nolint:containedctx // net/rpc has none
	sim *vchsim.Sim
	own int // sessions that were there before anybody came
}

// Inventory is what a world begins with.
type Inventory struct {
	// Others are VMs outside of the VCH, Running machines in it that can only be looked at.
	Others, Running int
}

// Start makes the world.
func (s *Simulator) Start(with Inventory, reply *World) (err error) {
	if s.sim, err = vchsim.Start(s.ctx, vchsim.Options{OtherVMs: with.Others, RunningMachines: with.Running}); err != nil {
		return fmt.Errorf("start the simulator: %w", err)
	}
	s.own = s.sim.Sessions()
	spec, err := json.Marshal(s.sim.ProviderSpec())
	if err != nil {
		return fmt.Errorf("encode spec: %w", err)
	}
	*reply = World{URL: s.sim.URL(), Site: contender.Site{
		Username: s.sim.Username, Password: s.sim.Password, CABundle: s.sim.CACert(), Spec: spec,
		UserData: []byte("#cloud-config\n"),
	}}
	return nil
}

// Take returns the state and sets the counts to zero.
func (s *Simulator) Take(_ struct{}, reply *State) error {
	if s.sim == nil {
		return errors.New("there is no world yet")
	}
	used, err := cpu()
	if err != nil {
		return err
	}
	*reply = State{Calls: s.sim.Calls(), Sessions: s.sim.Sessions() - s.own, Machines: map[string]bool{}, Files: len(s.sim.Files()), CPUBefore: used}
	s.sim.ResetCounters()
	for _, vm := range s.sim.Machines() {
		reply.Machines[vm.Mark.Machine] = vm.On && vm.Started == guestinfo.StartedTrue
	}
	reply.CPUAfter, err = cpu()
	return err
}

func (s *Simulator) close() error {
	if s.sim != nil {
		s.sim.Close()
	}
	return nil
}

// SimulatorProcess is a simulator in a process of its own.
type SimulatorProcess struct{ *process }

// StartSimulator starts one; what it has to say goes to log.
func StartSimulator(ctx context.Context, log io.Writer, with Inventory) (SimulatorProcess, World, error) {
	p, err := start(ctx, simulatorRole, log)
	if err != nil {
		return SimulatorProcess{}, World{}, err
	}
	var world World
	if err := p.call("Start", with, &world); err != nil {
		_ = p.Close() // the first error says more
		return SimulatorProcess{}, World{}, err
	}
	return SimulatorProcess{p}, world, nil
}

// Take returns the state and sets the counts to zero.
func (p SimulatorProcess) Take() (state State, err error) {
	err = p.call("Take", struct{}{}, &state)
	return state, err
}

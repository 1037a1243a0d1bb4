// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"fmt"
	"strings"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// RunningMachine returns the name of one of Options.RunningMachines, from 0 on.
func RunningMachine(i int) string { return fmt.Sprintf("running-%05d", i) }

// makeRunning makes machines of Cluster that run, by copying the first one: as with makeOthers they
// share their hardware and cannot be operated, only found, listed, read and watched.
func (s *Sim) makeRunning(count int) error {
	if count == 0 {
		return nil
	}
	who := func(i int) (identity.Identity, error) { return identity.New(s.vch.uuid, Cluster, RunningMachine(i)) }
	first, err := who(0)
	if err != nil {
		return fmt.Errorf("make running machines: %w", err)
	}
	mark := identity.Mark{Cluster: Cluster, Role: Role, Machine: RunningMachine(0), Provider: "v0.0.0", Format: identity.MarkFormat}
	template, err := s.makeContainer(container{vch: s.vch, name: RunningMachine(0), id: first.ContainerID, bios: first.BIOSUUID, mark: &mark, parent: ImageDisk})
	if err != nil {
		return err
	}
	s.pretendStarted(template)
	folder, okFolder := s.registry.Get(s.vch.folder).(*simulator.Folder)
	pool, okPool := s.registry.Get(s.vch.pool).(*simulator.ResourcePool)
	if !okFolder || !okPool {
		return fmt.Errorf("make running machines: VCH %s has no folder or pool", s.vch.name)
	}
	for i := 1; i < count; i++ {
		id, err := who(i)
		if err != nil {
			return fmt.Errorf("make running machines: %w", err)
		}
		mine := strings.NewReplacer(first.ContainerID, id.ContainerID, RunningMachine(0), RunningMachine(i))
		vm := &simulator.VirtualMachine{VirtualMachine: template.VirtualMachine}
		vm.Self, vm.Name = ref{}, mine.Replace(template.Name)
		config := *template.Config
		config.Name, config.Uuid, config.ExtraConfig = vm.Name, id.BIOSUUID, nil
		config.Files.VmPathName = mine.Replace(template.Config.Files.VmPathName)
		for _, o := range template.Config.ExtraConfig {
			value, _ := o.GetOptionValue().Value.(string)
			config.ExtraConfig = append(config.ExtraConfig, &types.OptionValue{Key: mine.Replace(o.GetOptionValue().Key), Value: mine.Replace(value)})
		}
		vm.Config = &config
		vm.Summary.Config.Name, vm.Summary.Config.Uuid, vm.Summary.Config.VmPathName = vm.Name, id.BIOSUUID, config.Files.VmPathName
		s.registry.Put(vm)
		vm.Summary.Vm = &vm.Self
		folder.ChildEntity = append(folder.ChildEntity, vm.Self)
		pool.Vm = append(pool.Vm, vm.Self)
	}
	return nil
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"slices"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// The kinds of VMs that have data.
const (
	kindAppliance = "appliance"
	kindMachine   = "machine"
	kindContainer = "container"
)

// The states of data.
const (
	dataUpToDate = "up to date"
	dataOld      = "needs migration"
	dataNewer    = "newer"
	dataError    = "error"
)

// dataStatus is what migrate shows of a VM. The JSON names are for scripts: they stay.
type dataStatus struct {
	VM string `json:"vm"`
	// Kind is appliance, machine, or container for those that this provider did not make.
	Kind        string `json:"kind"`
	Machine     string `json:"machine,omitempty"`
	Cluster     string `json:"cluster,omitempty"`
	Name        string `json:"name"`
	ContainerID string `json:"containerID,omitempty"`
	MoRef       string `json:"moref"`
	VCH         string `json:"vch"`
	// Power is vSphere's word: poweredOn, poweredOff or suspended.
	Power string `json:"power"`
	// DataVersion is what is stored, null if that cannot be read; LatestDataVersion is what a
	// migration leads to.
	DataVersion       *int `json:"dataVersion"`
	LatestDataVersion int  `json:"latestDataVersion"`
	// MarkFormat is that of the mark of machines.
	MarkFormat       *int `json:"markFormat,omitempty"`
	LatestMarkFormat int  `json:"latestMarkFormat,omitempty"`
	// State is "up to date", "needs migration", "newer" or "error".
	State string `json:"state"`
	Error string `json:"error,omitempty"`
	// Rename says whether the data version allows a rename.
	Rename bool `json:"rename"`
}

// subject is a VM with data that can be old.
type subject struct {
	dataStatus
	site *site
	// vm is nil for an appliance.
	vm *containervm.VM
	// stored is the data as it is stored, outcomes what became of it, and failed why that
	// did not come to its end.
	stored   map[string]string
	outcomes []migration.Outcome
	failed   error
}

// newContainer returns a container VM with what was made of its data when it was read.
func newContainer(s *site, vm *containervm.VM, set *migration.Set) *subject {
	sub := &subject{
		site: s, vm: vm, stored: vm.Stored, outcomes: outcomesOf(vm.Data), failed: vm.MigrationError,
		dataStatus: dataStatus{
			VM: vm.Name, Kind: kindContainer, Name: vm.Keys[guestinfo.NameKey], ContainerID: vm.Keys[guestinfo.CommonIDKey], MoRef: vm.Ref.Value,
			VCH: s.host.Name, Power: string(vm.PowerState), LatestDataVersion: set.Latest(migration.Container),
			DataVersion: storedVersion(migration.Container, vm.Stored),
		},
	}
	if s.operator.Proven(vm, containervm.Machines) == nil {
		mark, format := vm.Mark(), vm.Data.Machine.From
		sub.Kind, sub.Machine, sub.Cluster = kindMachine, mark.Machine, mark.Cluster
		sub.MarkFormat, sub.LatestMarkFormat = &format, set.Latest(migration.Machine)
	}
	sub.judge()
	sub.Rename = !vm.Data.Container.Newer && sub.DataVersion != nil && migration.Rename().In(*sub.DataVersion)
	return sub
}

// judge says what state the data is in.
func (s *subject) judge() {
	s.State = dataUpToDate
	for _, o := range s.outcomes {
		switch {
		case o.Newer:
			s.State = dataNewer
		case o.Migrated() && s.State == dataUpToDate:
			s.State = dataOld
		}
	}
	if s.failed != nil {
		s.State, s.Error = dataError, s.failed.Error()
	}
}

// storedVersion returns the data version of a target; nil if what stands there is none.
func storedVersion(t migration.Target, keys map[string]string) *int {
	version, err := t.Stored(keys)
	if err != nil {
		return nil
	}
	return &version
}

// subjects returns the container VMs that names mean, or all without names, and the
// appliances likewise: of each VCH first the appliance, then the VMs by name. A name
// that means nothing is in the error.
func (f *containerFlags) subjects(ctx context.Context, opts Options, sites []*site, names []string) ([]*subject, error) {
	var out []*subject
	var errs []error
	found := map[string]bool{}
	for _, s := range sites {
		refs := s.wanted(names, found)
		if f.cluster == "" && (len(names) == 0 || s.isAppliance(names, found)) {
			appliance, err := readAppliance(ctx, s, opts.migrations())
			if err != nil {
				errs = append(errs, err)
			} else {
				out = append(out, appliance)
			}
		}
		if len(refs) == 0 {
			continue
		}
		vms, err := s.operator.ReadWhole(ctx, refs...)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, ref := range refs {
			if vm, ok := vms[ref]; ok { // else it was deleted meanwhile
				out = append(out, newContainer(s, vm, opts.migrations()))
			}
		}
	}
	for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
		if !found[name] {
			errs = append(errs, f.notFound(sites, name))
		}
	}
	return out, errors.Join(errs...)
}

// wanted returns the container VMs of a site that names mean, all without names.
func (s *site) wanted(names []string, found map[string]bool) []types.ManagedObjectReference {
	var refs []types.ManagedObjectReference
	for _, m := range s.members {
		wanted := len(names) == 0
		for _, name := range names {
			if means(name, m) {
				wanted, found[name] = true, true
			}
		}
		if wanted {
			refs = append(refs, m.Ref)
		}
	}
	return refs
}

// isAppliance reports whether one of the names means the appliance of a site.
func (s *site) isAppliance(names []string, found map[string]bool) bool {
	is := false
	for _, name := range names {
		if name == s.host.Name || name == s.host.Appliance.Value || name == s.host.Appliance.String() {
			is, found[name] = true, true
		}
	}
	return is
}

// readAppliance reads the data of a VCH's appliance.
func readAppliance(ctx context.Context, s *site, set *migration.Set) (*subject, error) {
	var vm mo.VirtualMachine
	if err := property.DefaultCollector(s.client.Vim()).RetrieveOne(ctx, s.host.Appliance, []string{"name", "runtime.powerState", "config.extraConfig"}, &vm); err != nil {
		return nil, vcenter.Convert(err, "read the appliance of VCH %s (%s)", s.host.Name, s.host.Appliance.Value)
	}
	if vm.Config == nil {
		return nil, errdefs.New(errdefs.FailedPrecondition, "the appliance of VCH %s (%s) has no configuration that could be read", s.host.Name, s.host.Appliance.Value)
	}
	stored := guestinfo.FromOptionValues(vch.Keys(vm.Config.ExtraConfig))
	outcome, err := set.Migrate(migration.Appliance, stored)
	sub := &subject{
		site: s, stored: stored, outcomes: []migration.Outcome{outcome}, failed: err,
		dataStatus: dataStatus{
			VM: vm.Name, Kind: kindAppliance, Name: s.host.Name, MoRef: s.host.Appliance.Value, VCH: s.host.Name, Power: string(vm.Runtime.PowerState),
			LatestDataVersion: set.Latest(migration.Appliance), DataVersion: storedVersion(migration.Appliance, stored),
		},
	}
	sub.judge()
	return sub, nil
}

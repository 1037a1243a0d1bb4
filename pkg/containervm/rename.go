// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"context"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// Renamed is what Rename did.
type Renamed struct {
	// VM is the VM as it was read last before the change; Display the display name that it has now.
	VM      *VM
	Display string
	// Links are container VMs of the VCH that know the VM by its old name (docker run --link), by
	// their display names: their own configuration is not changed.
	Links []string
}

// namePattern is VIC's of container names (lib/apiservers/engine/backends/container.go:1792).
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]+$`)

// Rename gives a container VM a new name, in one reconfigure: the display name by the
// VCH's name convention, the hidden name, and the VM's own aliases in its networks. It
// works on running VMs, too. The directory on the datastore, the host name and the
// identity of a machine stay. A VM that has the name already is done; a display
// name that somebody changed by hand is mended.
//
// Nothing in vCenter keeps two VMs from one hidden name, so it is looked for before the
// change, and again after it: whoever then sees another VM with the name takes his own
// change back. If two renames to one name meet, one succeeds, or none.
//
// InvalidArgument: the name is none (VIC: [a-zA-Z0-9][a-zA-Z0-9_.-]+). FailedPrecondition: the
// VM is outside of the scope, or its stored data version is below that of
// migration.Rename or newer than ours. Unavailable: an update of the VCH is under way.
// AlreadyExists: a container VM of the VCH has the name, or any VM there the display
// name. Aborted: the VM vanished, or others kept changing it. After any other error, or
// none of these, the VM is wholly as it was or wholly renamed; repeat it to know.
func (o *Operator) Rename(ctx context.Context, vm *VM, name string, scope Scope) (Renamed, error) {
	if !namePattern.MatchString(name) {
		return Renamed{}, errdefs.New(errdefs.InvalidArgument, "name %q is none for a container: it must have two characters or more, letters, digits, '_', '.' and '-', and begin with a letter or digit", name)
	}
	vm, err := o.proveAgain(scope)(ctx, vm)
	if err != nil {
		return Renamed{}, err
	}
	if err := mayRename(vm); err != nil {
		return Renamed{}, err
	}
	r := renaming{Operator: o, scope: scope, name: name, display: DisplayName(o.host.NameConvention, name, vm.containerID()), from: vm}
	keys := r.aliasKeys()
	around, err := o.survey(ctx, keys...)
	if err != nil {
		return Renamed{}, err
	}
	if err := r.clash(around); err != nil {
		return Renamed{}, err
	}
	if err := r.run(ctx, vm); err != nil {
		return Renamed{}, err
	}
	return Renamed{VM: r.from, Display: r.display, Links: r.links(around, keys)}, nil
}

// proveAgain returns a function that reads a VM anew, with the state of the VCH, and proves
// that it is the one that was given and within the scope.
func (o *Operator) proveAgain(scope Scope) func(context.Context, *VM) (*VM, error) {
	return func(ctx context.Context, vm *VM) (*VM, error) {
		if err := o.Proven(vm, scope); err != nil {
			return nil, err
		}
		fresh, err := o.readAgain(ctx, vm, true)
		if err != nil {
			return nil, err
		}
		if err := o.Proven(fresh, scope); err != nil {
			return nil, err
		}
		if fresh.UUID != vm.UUID {
			return nil, errdefs.New(errdefs.FailedPrecondition, "VM %q (%s) is not touched any more: its BIOS UUID was changed meanwhile", vm.Name, vm.Ref.Value)
		}
		return fresh, nil
	}
}

// mayRename refuses VMs whose stored data has no name that can be changed, or that a
// newer program wrote.
func mayRename(vm *VM) error {
	if err := vm.writable(); err != nil {
		return err
	}
	stored, feature := vm.Data.Container.From, migration.Rename()
	if feature.In(stored) {
		return nil
	}
	name := vm.containerName()
	if vm.MigrationError != nil {
		return errdefs.Wrap(errdefs.FailedPrecondition, vm.MigrationError, "container %s does not support rename: VM %q (%s) needs data of version %d, and its data cannot be brought there", name, vm.Name, vm.Ref.Value, feature.Since)
	}
	return errdefs.New(errdefs.FailedPrecondition, "container %s does not support rename: VM %q (%s) has data of version %d stored, and version %d is needed; power it off and bring its data up to date with vchctl migrate apply", name, vm.Name, vm.Ref.Value, stored, feature.Since)
}

// planRename returns what gives a VM a name; nil if it has it. Hidden keys and the display
// name are all that it changes, so that it can be done while the VM is on.
func planRename(vm *VM, host *vch.Config, name string) (*types.VirtualMachineConfigSpec, error) {
	if err := mayRename(vm); err != nil {
		return nil, err
	}
	keys := map[string]string{}
	if vm.Stored[guestinfo.NameKey] != name {
		keys[guestinfo.NameKey] = name
	}
	for _, network := range guestinfo.Names(vm.Keys[guestinfo.NetworksKey]) {
		key := guestinfo.AliasesKey(network)
		if aliases := renameAliases(vm.Keys[key], vm.containerName(), name); aliases != vm.Keys[key] {
			keys[key] = aliases
		}
	}
	spec := &types.VirtualMachineConfigSpec{}
	if display := DisplayName(host.NameConvention, name, vm.containerID()); display != vm.Name {
		spec.Name = display
	}
	if len(keys) == 0 && spec.Name == "" {
		return nil, nil //nolint:nilnil // nothing is to be done
	}
	if len(keys) > 0 {
		spec.ExtraConfig = Options(guestinfo.OptionValues(keys))
	}
	return spec, nil
}

// renameAliases returns a list of [container]:alias entries with another name for their
// own container. What belongs to another container is a link and stays.
func renameAliases(list, old, name string) string {
	if list == "" || old == "" {
		return list
	}
	entries := guestinfo.Names(list)
	for i, entry := range entries {
		at := strings.Index(entry, ":") + 1 // where the alias begins
		container, alias := strings.TrimSuffix(entry[:at], ":"), entry[at:]
		if container != "" && container != old {
			continue
		}
		if alias == old {
			alias = name
		}
		if container == old {
			container = name
		}
		entries[i] = container + entry[max(0, at-1):at] + alias
	}
	return strings.Join(entries, "|")
}

// renaming is one rename that is under way.
type renaming struct {
	*Operator
	scope         Scope
	name, display string
	// from is the VM as the last change was planned from, spec that change; nil if there was nothing to do.
	from *VM
	spec *types.VirtualMachineConfigSpec
}

// run changes the VM, and takes the change back if another VM has the name afterwards.
func (r *renaming) run(ctx context.Context, vm *VM) error {
	_, err := r.change(ctx, vm, change{what: "rename", again: r.proveAgain(r.scope), build: func(vm *VM) (*types.VirtualMachineConfigSpec, error) {
		spec, err := planRename(vm, r.host, r.name)
		if spec != nil { // else an earlier attempt did it whose answer was lost, or somebody else
			r.from, r.spec = vm, spec
		}
		return spec, err
	}})
	if err != nil || r.spec == nil {
		return err
	}
	around, err := r.survey(ctx)
	if err != nil {
		return errdefs.Wrap(errdefs.KindOf(err), err, "VM %q (%s) was renamed, but not whether another one was given the name meanwhile is known; repeat it", r.display, r.from.Ref.Value)
	}
	taken := r.clash(around)
	if taken == nil {
		return nil
	}
	if err := r.takeBack(ctx); err != nil {
		return errdefs.Wrap(errdefs.AlreadyExists, err, "%v, and the change could not be taken back; give one of them another name", taken)
	}
	return taken
}

// takeBack gives the VM back what the change took, unless somebody changed it again.
func (r *renaming) takeBack(ctx context.Context) error {
	again := r.proveAgain(r.scope)
	vm, err := again(ctx, r.from)
	if err != nil {
		return err
	}
	_, err = r.change(ctx, vm, change{what: "take back the name of", again: again, build: func(vm *VM) (*types.VirtualMachineConfigSpec, error) {
		return undo(vm, r.from, r.spec), nil
	}})
	return err
}

// undo returns what takes a change of display name and keys back to what they were; nil if
// nothing of it is left.
func undo(vm, before *VM, done *types.VirtualMachineConfigSpec) *types.VirtualMachineConfigSpec {
	spec := &types.VirtualMachineConfigSpec{}
	if done.Name != "" && vm.Name == done.Name {
		spec.Name = before.Name
	}
	keys := map[string]string{}
	for key, value := range vch.Keys(done.ExtraConfig) {
		if vm.Stored[key] != guestinfo.FromOptionValue(value) {
			continue
		}
		keys[key] = "" // deletes it
		if old, there := before.Stored[key]; there {
			keys[key] = guestinfo.OptionValues(map[string]string{key: old})[key]
		}
	}
	if len(keys) == 0 && spec.Name == "" {
		return nil
	}
	spec.ExtraConfig = Options(keys)
	return spec
}

// clash returns AlreadyExists if another VM has the name or the display name.
func (r *renaming) clash(around []neighbor) error {
	for _, n := range around {
		switch {
		case n.Ref == r.from.Ref:
		case n.VM == r.display:
			return errdefs.New(errdefs.AlreadyExists, "VM %q (%s) cannot be called %s: VM %s of VCH %s has the display name %q", r.from.Name, r.from.Ref.Value, r.name, n.Ref.Value, r.host.Name, n.VM)
		case n.ContainerID != "" && n.Name == r.name:
			return errdefs.New(errdefs.AlreadyExists, "VM %q (%s) cannot be called %s: that is the name of VM %q (%s) of VCH %s", r.from.Name, r.from.Ref.Value, r.name, n.VM, n.Ref.Value, r.host.Name)
		}
	}
	return nil
}

// aliasKeys are the keys where other VMs may have the VM's name: of the VCH's networks and its own.
func (r *renaming) aliasKeys() []string {
	networks := append(slices.Collect(maps.Keys(r.host.Networks)), guestinfo.Names(r.from.Keys[guestinfo.NetworksKey])...)
	slices.Sort(networks)
	var keys []string
	for _, name := range slices.Compact(networks) {
		if !strings.Contains(name, `"`) { // else it cannot be asked for
			keys = append(keys, guestinfo.AliasesKey(name))
		}
	}
	return keys
}

// links returns the display names of the VMs that know the VM by its old name.
func (r *renaming) links(around []neighbor, keys []string) []string {
	old := r.from.containerName()
	if old == "" || old == r.name {
		return nil
	}
	var out []string
	for _, n := range around {
		if n.Ref == r.from.Ref {
			continue
		}
		if slices.ContainsFunc(keys, func(key string) bool {
			return slices.ContainsFunc(guestinfo.Names(n.keys[key]), func(entry string) bool { return strings.HasPrefix(entry, old+":") })
		}) {
			out = append(out, n.VM)
		}
	}
	return out
}

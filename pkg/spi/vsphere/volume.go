// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// volumesAtOnce is how many volumes of one machine are made or removed at the same time.
const volumesAtOnce = 4

// wanted is one volume of the spec as the machine has it.
type wanted struct {
	*v1alpha1.Volume
	// field is where it stands in the spec, name the volume's name in the VCH.
	field, name string
	// found is the volume itself, once it is there.
	found *volume.Volume
}

// wants returns the volumes of the spec.
func (c *call) wants() []*wanted {
	all := make([]*wanted, 0, len(c.spec.Volumes))
	for i := range c.spec.Volumes {
		v := &c.spec.Volumes[i]
		all = append(all, &wanted{Volume: v, field: fmt.Sprintf("volumes[%d]", i), name: containervm.VolumeName(v, c.mark.Machine, c.id)})
	}
	return all
}

// goWith returns the names of those that go with the machine.
func goWith(wants []*wanted) []string {
	var names []string
	for _, w := range wants {
		if w.Policy() == v1alpha1.DeleteVolume {
			names = append(names, w.name)
		}
	}
	return names
}

// refuse gives an error of a volume the field that it is about and a kind that tells
// the truth of the machine: NotFound and AlreadyExists would be about that.
func (w *wanted) refuse(err error) error {
	kind := errdefs.KindOf(err)
	if kind == errdefs.NotFound || kind == errdefs.AlreadyExists {
		kind = errdefs.Aborted
	}
	return errdefs.Wrap(kind, err, "%s", w.field)
}

// ensureVolumes makes the volumes that the machine is to have, unless they are there.
// What it made when it fails is met by the next call: names are computed.
func (b *Backend) ensureVolumes(ctx context.Context, c *call, set *volume.Set, wants []*wanted) error {
	if err := b.checkVolumes(c, set, wants); err != nil {
		return err
	}
	return each(wants, func(w *wanted) error { return w.refuse(b.ensureVolume(ctx, c, set, w)) })
}

// checkVolumes finds what can be known to be wrong before anything is made.
func (b *Backend) checkVolumes(c *call, set *volume.Set, wants []*wanted) error {
	seen := map[string]string{}
	for _, w := range wants {
		if err := volume.ValidateName(w.name); err != nil {
			return w.refuse(err)
		}
		lower := strings.ToLower(w.name) // as vSphere takes the keys of mounts, and some datastores file names
		if other, ok := seen[lower]; ok {
			return errdefs.New(errdefs.InvalidArgument, "%s: volume %s of machine %s is that of %s already", w.field, w.name, c.mark.Machine, other)
		}
		seen[lower] = w.field
		if w.Store == "" && !w.Anonymous() {
			continue // wherever it is, if it is there
		}
		if _, err := set.Store(w.Store); err != nil {
			// Perhaps it was added to the VCH a moment ago.
			b.vchs.Forget(c.client, c.spec.VCH)
			return w.refuse(err)
		}
	}
	return nil
}

func (b *Backend) ensureVolume(ctx context.Context, c *call, set *volume.Set, w *wanted) error {
	v, created, err := set.Ensure(ctx, w.Store, volume.Request{Name: w.name, Capacity: w.CapacityBytes(), Metadata: b.metadata(c, w)})
	switch {
	case err != nil:
		return err
	case v.Damage != "":
		return errdefs.New(errdefs.FailedPrecondition, "volume %s (%s) is damaged: %s; repair or remove it", v.Name, v.Location, v.Damage)
	case w.Anonymous() && !c.made(v):
		return errdefs.New(errdefs.FailedPrecondition, "volume %s (%s) has the name of the anonymous volume of machine %s at %s, but its labels say that it was not made for it; rename or remove it", v.Name, v.Location, c.mark.Machine, w.MountPath)
	}
	if created {
		klog.FromContext(ctx).Info("made volume", "machine", c.mark.Machine, "volume", v.Name, "location", v.Location)
	}
	w.found = v
	return nil
}

// metadata is what docker shows of a volume that is made for the machine, and what proves whose it is.
func (b *Backend) metadata(c *call, w *wanted) volume.Metadata {
	m := volume.Metadata{
		DriverOpts: map[string]string{},
		Labels: map[string]string{
			volume.LabelCluster: c.mark.Cluster,
			volume.LabelMachine: c.mark.Machine,
			volume.LabelCreated: b.clock.Now().UTC().Format(time.RFC3339),
		},
		AttachHistory: []string{c.mark.Machine},
		Image:         c.spec.Image,
	}
	if w.Anonymous() && w.Policy() == v1alpha1.DeleteVolume {
		m.Labels[volume.LabelAnonymous] = "true" // one that is to stay must not look as if nobody would miss it
	}
	if w.Store != "" {
		m.DriverOpts["VolumeStore"] = w.Store
	}
	if bytes := w.CapacityBytes(); bytes > 0 {
		m.DriverOpts["Capacity"] = strconv.FormatInt(bytes/volume.CapacityUnit, 10)
	}
	return m
}

// made reports whether a volume was made for the machine.
func (c *call) made(v *volume.Volume) bool {
	return v.Metadata.Labels[volume.LabelCluster] == c.mark.Cluster && v.Metadata.Labels[volume.LabelMachine] == c.mark.Machine
}

// held is an error if another container VM has one of the machine's disks. own is the
// machine's own VM if that is who has it, since somebody else made it meanwhile. One call, and
// of VMs of this VCH alone: of whom else may have a disk the lock has the last word, when the machine starts.
func (b *Backend) held(ctx context.Context, c *call, wants []*wanted) (own *containervm.VM, err error) {
	var disks []string
	for _, w := range wants {
		if w.found.Driver == volume.VMDK {
			disks = append(disks, w.name)
		}
	}
	if len(disks) == 0 {
		return nil, nil //nolint:nilnil // nobody can have what does not exist
	}
	holders, err := c.Holders(ctx, disks...)
	if err != nil {
		return nil, err
	}
	for _, w := range wants {
		if len(holders[w.name]) == 0 {
			continue
		}
		if vm, err := c.Find(ctx, c.id, c.mark, true); vm != nil || err != nil {
			return vm, err
		}
		return nil, errdefs.New(errdefs.FailedPrecondition, "%s: volume %s is held by %s; a VMDK volume can be had by one machine at a time: delete that one, or write %s into the name so that each machine has its own",
			w.field, w.name, joined(holders[w.name]), v1alpha1.PlaceholderMachine)
	}
	return nil, nil //nolint:nilnil // nobody has them
}

// volumeKind is the kind of an error of all volumes together, see refuse.
func volumeKind(err error) errdefs.Kind { return errdefs.KindOf((&wanted{}).refuse(err)) }

// people names VMs, with their machines where they are machines of ours.
func (c *call) people(ctx context.Context, users []volume.User) string {
	machines := map[string]string{}
	if all, err := c.List(ctx); err == nil { // else the VM's name must do
		for _, m := range all {
			machines[m.Ref.Value] = m.Mark.Machine
		}
	}
	holders := make([]containervm.Holder, 0, len(users))
	for _, u := range users {
		holders = append(holders, containervm.Holder{Ref: types.ManagedObjectReference{Type: "VirtualMachine", Value: u.VM}, VM: u.Name, Machine: machines[u.VM]})
	}
	return joined(holders)
}

func joined(holders []containervm.Holder) string {
	names := make([]string, 0, len(holders))
	for _, h := range holders {
		names = append(names, h.String())
	}
	return strings.Join(names, ", ")
}

// joints returns what joins the machine to its volumes.
func joints(set *volume.Set, wants []*wanted) ([]volume.Joint, error) {
	all := make([]volume.Joint, 0, len(wants))
	for _, w := range wants {
		joint, err := set.Join(w.found, w.Mount())
		if err != nil {
			return nil, w.refuse(err)
		}
		all = append(all, *joint)
	}
	return all, nil
}

// volumeVanished is called when vCenter did not find a file of a new VM: somebody
// may have removed a volume after it was found. It returns nil if all are there.
func volumeVanished(ctx context.Context, set *volume.Set, wants []*wanted, cause error) error {
	return each(wants, func(w *wanted) error {
		switch _, err := set.Get(ctx, w.name); {
		case errdefs.Is(err, errdefs.NotFound):
			return errdefs.Wrap(errdefs.Aborted, cause, "%s: volume %s (%s) was removed while machine and volume were joined", w.field, w.name, w.found.Location)
		case err != nil:
			return errors.Join(cause, w.refuse(err))
		}
		return nil
	})
}

// locked is called when a file of the machine was locked at its start. If it is that
// of a volume, the error names who has it.
func (b *Backend) locked(ctx context.Context, c *call, vm *containervm.VM, cause error) error {
	var names []string
	for name, mount := range vm.Mounts() {
		if mount.Source.Scheme == "label" {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return cause
	}
	slices.Sort(names)
	users, err := b.volumes(c.client, c.host).Users(ctx, names...)
	if err != nil {
		return errors.Join(cause, err)
	}
	for _, name := range names {
		others := slices.DeleteFunc(users[name], func(u volume.User) bool { return u.VM == vm.Ref.Value })
		if len(others) > 0 {
			return errdefs.Wrap(errdefs.FailedPrecondition, cause, "volume %s of machine %s is held by %s; a VMDK volume can be had by one machine at a time", name, c.mark.Machine, c.people(ctx, others))
		}
	}
	return cause
}

// removeVolumes removes those of the volumes that were made for the machine and that
// nobody but the VMs of except has. All others stay, and the log says why.
func (b *Backend) removeVolumes(ctx context.Context, c *call, names []string, except ...string) error {
	if len(names) == 0 {
		return nil
	}
	set := b.volumes(c.client, c.host)
	return each(names, func(name string) error {
		if err := c.removeVolume(ctx, set, name, except); err != nil {
			return errdefs.Wrap(volumeKind(err), err, "remove volume %s, which goes with machine %s", name, c.mark.Machine)
		}
		return nil
	})
}

func (c *call) removeVolume(ctx context.Context, set *volume.Set, name string, except []string) error {
	log := klog.FromContext(ctx).WithValues("machine", c.mark.Machine, "volume", name)
	v, err := set.Get(ctx, name)
	switch {
	case errdefs.Is(err, errdefs.NotFound):
		return nil
	case err != nil:
		return err
	case !c.made(v):
		log.Info("the volume stays: its labels do not say that it was made for this machine", "location", v.Location, "labels", v.Metadata.Labels)
		return nil
	}
	store, err := set.Store(v.Store)
	if err != nil {
		return err
	}
	err = store.Remove(ctx, name, except...)
	switch {
	case err == nil:
		log.Info("removed volume", "location", v.Location)
		return nil
	case errdefs.Is(err, errdefs.NotFound):
		return nil
	case !errdefs.Is(err, errdefs.FailedPrecondition):
		return err
	}
	users, lookErr := store.Users(ctx, name)
	if lookErr != nil {
		return errors.Join(err, lookErr)
	}
	others := slices.DeleteFunc(users[name], func(u volume.User) bool { return slices.Contains(except, u.VM) })
	if len(others) == 0 {
		return err
	}
	// Its machine must not wait for whoever that is.
	log.Error(err, "a volume that goes with the machine stays: somebody else has it; remove it when it is free (vchctl volume)", "location", v.Location, "holders", others)
	return nil
}

// each does something with all items, some at the same time, and to the end: what
// one does is no reason to cut off the others. The first error in the order of
// items is the kind of all.
func each[T any](items []T, do func(T) error) error {
	errs := make([]error, len(items))
	var group errgroup.Group
	group.SetLimit(volumesAtOnce)
	for i, item := range items {
		group.Go(func() error {
			errs[i] = do(item)
			return nil
		})
	}
	return cmp.Or(group.Wait(), errors.Join(errs...))
}

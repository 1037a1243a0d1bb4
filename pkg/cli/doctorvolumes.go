// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

const checkVolumeStores = "volume stores"

// checkVolumes looks at all volume stores, each once for its volumes and once for
// its leftovers, and at whether the ProviderSpec's volumes have one.
func (d *doctor) checkVolumes(ctx context.Context, host *vch.Config, set *volume.Set) {
	labels := set.Labels()
	if len(labels) == 0 {
		d.note(checkVolumeStores, "VCH %s has none: machines with volumes are refused until there is one (vic-machine configure --volume-store)", host.Name)
	}
	at := map[string][]volume.Volume{} // by name
	for _, label := range labels {
		for _, v := range d.checkVolumeStore(ctx, host, set, label) {
			at[v.Name] = append(at[v.Name], v)
		}
	}
	d.checkNames(at)
	if _, err := set.Store(volume.DefaultStore); err != nil && len(labels) > 0 {
		d.note(checkVolumeStores, "none is labelled %s: anonymous volumes, and volumes for which no store is named, are refused", volume.DefaultStore)
	}
	if d.spec != nil {
		for i := range d.spec.Volumes {
			d.checkVolume(ctx, set, &d.spec.Volumes[i], i)
		}
	}
}

// checkVolumeStore looks at one store, and returns its volumes.
func (d *doctor) checkVolumeStore(ctx context.Context, host *vch.Config, set *volume.Set, label string) []volume.Volume {
	check := "volume store " + label
	store, err := set.Store(label)
	if err != nil {
		d.fail(check, err)
		return nil
	}
	location := host.VolumeStores[label]
	place, room := cmp.Or(location.Redacted(), store.String()), ""
	if at, err := vch.VolumeStorePath(location); err == nil {
		place = at.String()
		// That it does not exist or cannot be reached, the store says itself.
		if ds, ok := host.Datastores[at.Datastore]; ok && ds.Accessible {
			room = fmt.Sprintf(", %d GiB free", ds.FreeBytes>>30)
		}
	}
	volumes, err := store.List(ctx)
	if err != nil {
		d.fail(check, err)
		return nil
	}
	var damaged []string
	for _, v := range volumes {
		if v.Damage != "" {
			damaged = append(damaged, v.Name+" ("+v.Damage+")")
		}
	}
	if len(damaged) > 0 {
		d.fail(check, errdefs.New(errdefs.FailedPrecondition, "%s: %d of %s damaged: %s; docs/volumes.md says what to do",
			place, len(damaged), countText(len(volumes), "volume is", "volumes are"), someText(damaged)))
	} else {
		d.ok(check, "%s: %s, %s%s", place, store.Driver(), countText(len(volumes), "volume", "volumes"), room)
	}
	d.checkVolumeLeftovers(ctx, check, store)
	return volumes
}

func (d *doctor) checkVolumeLeftovers(ctx context.Context, check string, store volume.Store) {
	cleaner, ok := store.(volume.Cleaner)
	if !ok {
		return
	}
	leftovers, err := cleaner.Leftovers(ctx)
	if err != nil {
		d.fail(check, err)
		return
	}
	if len(leftovers) > 0 {
		paths := make([]string, 0, len(leftovers))
		for _, l := range leftovers {
			paths = append(paths, l.Path)
		}
		d.note(check, "%s of operations that were cut off: %s; they do no harm, and vchctl volume prune removes them", countText(len(leftovers), "leftover", "leftovers"), someText(paths))
	}
}

// checkNames finds names that two stores have.
func (d *doctor) checkNames(at map[string][]volume.Volume) {
	var twice []string
	for name, volumes := range at {
		if len(volumes) > 1 {
			places := make([]string, 0, len(volumes))
			for _, v := range volumes {
				places = append(places, v.Store+" ("+v.Location+")")
			}
			twice = append(twice, name+" in "+strings.Join(places, " and "))
		}
	}
	slices.Sort(twice)
	if len(twice) > 0 {
		d.fail("volume names", errdefs.New(errdefs.FailedPrecondition, "%s there twice, and the VCH sees one of them by chance: %s; look with vchctl volume inspect which one is wanted, and remove the other with vchctl volume rm --store",
			countText(len(twice), "name is", "names are"), someText(twice)))
	}
}

// checkVolume reports whether a machine could have a volume of the ProviderSpec.
// What depends on the machine's name cannot be told.
func (d *doctor) checkVolume(ctx context.Context, set *volume.Set, v *v1alpha1.Volume, i int) {
	check := "volume at " + v.MountPath
	label := v.Store
	if !v.Anonymous() && !strings.Contains(v.Name, v1alpha1.PlaceholderMachine) {
		there, err := set.Get(ctx, v.Name)
		switch {
		case err == nil && v.Store != "" && v.Store != there.Store:
			d.fail(check, errdefs.New(errdefs.FailedPrecondition, "volumes[%d].store: volume %s is in store %s (%s), not in %s", i, v.Name, there.Store, there.Location, v.Store))
			return
		case err == nil:
			label = there.Store
		case !errdefs.Is(err, errdefs.NotFound):
			d.fail(check, err)
			return
		}
	}
	store, err := set.Store(label)
	if err != nil {
		d.fail(check, errdefs.Wrap(errdefs.KindOf(err), err, "volumes[%d].store", i))
		return
	}
	if v.Mode == v1alpha1.VolumeReadOnly && store.Driver() == volume.NFS {
		d.fail(check, errdefs.New(errdefs.InvalidArgument, "volumes[%d].mode: store %s is NFS, whose volumes cannot be ro: guests do not enforce it; leave mode out, or choose a store on a datastore", i, label))
		return
	}
	d.volumes = append(d.volumes, store.Driver())
	d.ok(check, "%s of store %s, %s", cmp.Or(v.Name, "an anonymous volume"), cmp.Or(label, volume.DefaultStore), store.Driver())
}

// joints returns what a machine with an identity would be joined to, as far as it
// matters to whether it can be made; nil if some volume cannot be had.
func (d *doctor) joints(machine string, id identity.Identity) []volume.Joint {
	if len(d.volumes) != len(d.spec.Volumes) {
		return nil
	}
	var out []volume.Joint
	for i := range d.spec.Volumes {
		joint := volume.Joint{Volume: containervm.VolumeName(&d.spec.Volumes[i], machine, id)}
		if d.volumes[i] == volume.VMDK {
			joint.Disk = "[ds] " + joint.Volume + ".vmdk"
		}
		out = append(out, joint)
	}
	return out
}

// someText lists the first of many.
func someText(texts []string) string {
	const few = 5
	text := strings.Join(texts[:min(few, len(texts))], ", ")
	if len(texts) > few {
		text += " and " + countText(len(texts)-few, "other", "others")
	}
	return text
}

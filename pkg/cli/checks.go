// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
	imagestore "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

func (d *doctor) checkState(ctx context.Context, client *vcenter.Client, host *vch.Config) {
	var content []types.ObjectContent
	const power = "runtime.powerState"
	err := property.DefaultCollector(client.Vim()).Retrieve(ctx, []types.ManagedObjectReference{host.Appliance}, append(vch.StateProperties(), power), &content)
	if err != nil {
		d.fail(checkState, vcenter.Convert(err, "read the state of VCH %s", host.Name))
		return
	}
	state := types.VirtualMachinePowerState("unknown")
	for _, c := range content {
		if err := host.CheckState(c.PropSet); err != nil {
			d.fail(checkState, err)
			return
		}
		for _, p := range c.PropSet {
			if s, ok := p.Val.(types.VirtualMachinePowerState); ok && p.Name == power {
				state = s
			}
		}
	}
	// The driver works without a running appliance; docker does not.
	d.ok(checkState, "no upgrade or reconfiguration is under way; the appliance is %s", state)
}

// place is an object and what the driver must be allowed to do there.
type place struct {
	what       string
	ref        types.ManagedObjectReference
	privileges []string
}

// placesOf returns what the driver needs to create, start, stop and delete
// machines of this VCH, and to make image disks on a datastore, if one is given.
func placesOf(host *vch.Config, datastores, networks []string, images *vch.Datastore) []place {
	places := []place{
		{"VM folder", host.Folder, []string{
			"VirtualMachine.Config.AddExistingDisk", "VirtualMachine.Config.AddNewDisk", "VirtualMachine.Config.AddRemoveDevice",
			"VirtualMachine.Config.AdvancedConfig", "VirtualMachine.Config.RemoveDisk",
			"VirtualMachine.GuestOperations.Execute", "VirtualMachine.Interact.PowerOff", "VirtualMachine.Interact.PowerOn",
			"VirtualMachine.Inventory.Create", "VirtualMachine.Inventory.Delete", "VirtualMachine.Inventory.Unregister",
		}},
		{"resource pool", host.Pool, []string{"Resource.AssignVMToPool"}},
	}
	if images != nil && imagestore.Imports(*images) {
		for i := range places {
			places[i].privileges = append(places[i].privileges, "VApp.Import")
		}
		places = append(places, place{"datastore " + images.Name, images.Ref, []string{"Datastore.Config"}})
	}
	for _, name := range datastores {
		if ds, ok := host.Datastores[name]; ok {
			places = append(places, place{"datastore " + name, ds.Ref, []string{"Datastore.AllocateSpace", "Datastore.Browse", "Datastore.FileManagement"}})
		}
	}
	for _, name := range networks {
		if n, ok := host.Networks[name]; ok && n.Backing != nil {
			places = append(places, place{"network " + name, n.Ref, []string{"Network.Assign"}})
		}
	}
	return places
}

func (d *doctor) checkPrivileges(ctx context.Context, client *vcenter.Client, host *vch.Config) {
	vim := client.Vim()
	var manager mo.SessionManager
	if err := property.DefaultCollector(vim).RetrieveOne(ctx, *vim.ServiceContent.SessionManager, []string{"currentSession"}, &manager); err != nil {
		d.fail(checkPrivileges, vcenter.Convert(err, "read the session"))
		return
	}
	if manager.CurrentSession == nil || vim.ServiceContent.AuthorizationManager == nil {
		d.fail(checkPrivileges, errdefs.New(errdefs.Unavailable, "vCenter does not tell the privileges of this session"))
		return
	}
	places := placesOf(host, d.datastores(host), d.networks(host), d.imageDatastore(host))
	var missing []string
	for _, p := range places {
		res, err := methods.HasPrivilegeOnEntities(ctx, vim, &types.HasPrivilegeOnEntities{
			This: *vim.ServiceContent.AuthorizationManager, Entity: []types.ManagedObjectReference{p.ref},
			SessionId: manager.CurrentSession.Key, PrivId: p.privileges,
		})
		if err != nil {
			d.fail(checkPrivileges, vcenter.Convert(err, "ask for the privileges on %s (%s)", p.what, p.ref.Value))
			return
		}
		if lacks := lacking(res.Returnval); len(lacks) > 0 {
			missing = append(missing, "on "+p.what+" ("+p.ref.Value+"): "+strings.Join(lacks, ", "))
		}
	}
	if len(missing) > 0 {
		d.fail(checkPrivileges, errdefs.New(errdefs.PermissionDenied, "user %s needs %s; add them to its role (docs/vcenter-permissions.md)", manager.CurrentSession.UserName, strings.Join(missing, "; ")))
		return
	}
	d.ok(checkPrivileges, "all that is needed on folder, resource pool, datastores and networks")
}

func lacking(answers []types.EntityPrivilege) []string {
	var out []string
	for _, entity := range answers {
		for _, p := range entity.PrivAvailability {
			if !p.IsGranted {
				out = append(out, p.PrivId)
			}
		}
	}
	slices.Sort(out)
	return out
}

// datastores returns the names of the datastores that machines use.
func (d *doctor) datastores(host *vch.Config) []string {
	names := []string{host.ImageStore.Datastore}
	if d.spec != nil {
		if p := d.spec.Placement; p != nil && p.Datastore != "" {
			names[0] = p.Datastore
		}
		if ds := d.imageDatastore(host); ds != nil {
			names = append(names, ds.Name)
		}
		for _, v := range d.spec.Volumes {
			// A store that there is not, or on no datastore, has a check of its own.
			if at, err := vch.VolumeStorePath(host.VolumeStores[cmp.Or(v.Store, volume.DefaultStore)]); err == nil {
				names = append(names, at.Datastore)
			}
		}
		var disk object.DatastorePath
		if d.spec.RootDisk != nil && disk.FromString(d.spec.RootDisk.VMDK) {
			names = append(names, disk.Datastore)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// imageDatastore returns where image disks are made; nil if machines need none.
func (d *doctor) imageDatastore(host *vch.Config) *vch.Datastore {
	ds, ok := host.Datastores[host.ImageStore.Datastore]
	if !ok || d.spec == nil || d.spec.Image == "" {
		return nil
	}
	return &ds
}

// networks returns the names of the networks that machines join; without a
// ProviderSpec, all that the VCH offers.
func (d *doctor) networks(host *vch.Config) []string {
	if d.spec == nil {
		return slices.Sorted(maps.Keys(host.Networks))
	}
	names := make([]string, 0, len(d.spec.Networks))
	for _, n := range d.spec.Networks {
		names = append(names, n.Name)
	}
	return names
}

func (d *doctor) checkDatastores(host *vch.Config) {
	for _, name := range d.datastores(host) {
		check := "datastore " + name
		switch ds, ok := host.Datastores[name]; {
		case !ok:
			d.fail(check, errdefs.New(errdefs.NotFound, "the datacenter of VCH %s has no such datastore; it has %s", host.Name, strings.Join(slices.Sorted(maps.Keys(host.Datastores)), ", ")))
		case !ds.Accessible:
			d.fail(check, errdefs.New(errdefs.Unavailable, "no host can reach it; look at the storage of the hosts"))
		default:
			d.ok(check, "%d GiB free", ds.FreeBytes>>30)
		}
	}
}

func (d *doctor) checkNetworks(host *vch.Config) {
	names := d.networks(host)
	if len(names) == 0 {
		d.fail("networks", errdefs.New(errdefs.FailedPrecondition, "VCH %s has no container network; add one with vic-machine configure --container-network", host.Name))
	}
	for _, name := range names {
		check := "network " + name
		switch n, ok := host.Networks[name]; {
		case !ok:
			d.fail(check, errdefs.New(errdefs.NotFound, "VCH %s has no such container network; it has %s", host.Name, strings.Join(slices.Sorted(maps.Keys(host.Networks)), ", ")))
		case n.Backing == nil:
			d.fail(check, errdefs.New(errdefs.FailedPrecondition, "vCenter has no %s %s (any more); correct the VCH with vic-machine configure --container-network", n.Ref.Type, n.Ref.Value))
		default:
			d.ok(check, "%s, %s %s", n.Type, n.Ref.Type, n.Ref.Value)
		}
	}
}

func (d *doctor) checkISO(ctx context.Context, f files) {
	if err := f.exists(ctx, f.host.BootstrapISO); err != nil {
		d.fail(checkISO, errdefs.Wrap(errdefs.KindOf(err), err, "upload it again with vic-machine upgrade, or correct the VCH"))
		return
	}
	d.ok(checkISO, "%s", f.host.BootstrapISO)
}

func (d *doctor) checkRootDisk(ctx context.Context, f files) {
	if d.spec == nil || d.spec.RootDisk == nil {
		d.skip("no --provider-spec with a rootDisk is given", checkRootDisk)
		return
	}
	if d.spec.Image != "" {
		where, disk, err := d.findImage(ctx, f)
		if err != nil {
			d.fail(checkRootDisk, err)
			return
		}
		d.image = disk
		d.ok(checkRootDisk, "%s", where)
		return
	}
	vmdk := d.spec.RootDisk.VMDK
	if err := f.exists(ctx, vmdk); err != nil {
		d.fail(checkRootDisk, errdefs.Wrap(errdefs.KindOf(err), err, "put the image disk there, or correct rootDisk.vmdk"))
		return
	}
	d.ok(checkRootDisk, "%s", vmdk)
}

// findImage finds the ProviderSpec's image on the datastore, or in a registry that
// answers, and says where it is.
func (d *doctor) findImage(ctx context.Context, f files) (where string, disk *image.Disk, err error) {
	ref, err := registry.ParseReference(d.spec.Image)
	if err != nil {
		return "", nil, err
	}
	disk, err = imageStoreOf(d.opts, f.client, f.host).Lookup(ctx, ref.String(), d.spec.RootDiskBytes())
	switch {
	case err == nil && d.spec.ImagePullPolicy != v1alpha1.PullAlways:
		return ref.String() + " is " + disk.Path, disk, nil
	case err != nil && !errdefs.Is(err, errdefs.NotFound):
		return "", nil, err
	case err != nil && d.spec.ImagePullPolicy == v1alpha1.PullNever:
		return "", nil, errdefs.Wrap(errdefs.FailedPrecondition, err, "imagePullPolicy is %s; make the disk with vchctl image pull", v1alpha1.PullNever)
	}
	options, err := (&registryFlags{}).options(d.spec, d.secret)
	if err != nil {
		return "", nil, err
	}
	img, err := registry.Resolve(ctx, ref, options.Join(imagestore.Registries(f.host)))
	if err != nil {
		return "", nil, err
	}
	defer img.Close()
	if disk != nil && disk.Digest == img.Digest {
		return ref.String() + " is " + disk.Path, disk, nil
	}
	// What a machine of it would be can be told without the disk.
	planned := &image.Disk{
		Key: image.Key{Digest: img.Digest, Size: d.spec.RootDiskBytes()}, Path: f.host.ImageStore.String() + "/image.vmdk",
		Description: image.Description{ConfigDigest: img.ConfigDigest, Config: image.Config(img.Config)},
	}
	return ref.String() + " is in the registry, and not on the datastore: the first machine pulls " + bytesText(img.Size()) + ", or vchctl image pull does before", planned, nil
}

// checkMachine plans a machine, which finds what does not fit together. Nothing
// is made.
func (d *doctor) checkMachine(host *vch.Config) {
	if d.spec == nil {
		d.skip("no --provider-spec is given", checkMachine)
		return
	}
	if d.connection.secretFile == "" {
		d.skip("no --secret-file is given, which userData and the environment may come from", checkMachine)
		return
	}
	if d.spec.Image != "" && d.image == nil {
		d.skip("the image must be found first", checkMachine)
		return
	}
	if len(d.volumes) != len(d.spec.Volumes) {
		d.skip("its volumes must be found first", checkMachine)
		return
	}
	const name = "machine-0"
	cluster, _, err := identity.Tags(d.spec.Tags)
	if err != nil {
		d.fail(checkMachine, err)
		return
	}
	id, err := identity.New(host.UUID, cluster, name)
	if err != nil {
		d.fail(checkMachine, err)
		return
	}
	key, err := containervm.NewHostKey()
	if err != nil {
		d.fail(checkMachine, err)
		return
	}
	plan, err := containervm.Plan(containervm.Request{
		Machine: name, Identity: id, Spec: d.spec, Image: d.image, Volumes: d.joints(name, id), Secret: d.secret, VCH: host, HostKey: key, Now: time.Unix(0, 0), ProviderVersion: version.Version(),
	})
	if err != nil {
		d.fail(checkMachine, err)
		return
	}
	d.ok(checkMachine, "one called %s would be VM %s", name, plan.Name)
}

// files looks at the datastores of a VCH.
type files struct {
	client *vcenter.Client
	host   *vch.Config
}

// exists returns nil if a datastore path names a file. Its absence is FailedPrecondition.
func (f files) exists(ctx context.Context, file string) error {
	var p object.DatastorePath
	if !p.FromString(file) {
		return errdefs.New(errdefs.InvalidArgument, "%q is not a datastore path such as [datastore1] images/node.vmdk", file)
	}
	ds, ok := f.host.Datastores[p.Datastore]
	if !ok {
		return errdefs.New(errdefs.FailedPrecondition, "%s does not exist: the datacenter of VCH %s has no datastore %q", file, f.host.Name, p.Datastore)
	}
	vim := f.client.Vim()
	var store mo.Datastore
	if err := property.DefaultCollector(vim).RetrieveOne(ctx, ds.Ref, []string{"browser"}, &store); err != nil {
		return vcenter.Convert(err, "read datastore %s", ds.Name)
	}
	dir := object.DatastorePath{Datastore: p.Datastore, Path: path.Dir(p.Path)}
	if dir.Path == "." {
		dir.Path = ""
	}
	res, err := methods.SearchDatastore_Task(ctx, vim, &types.SearchDatastore_Task{
		This: store.Browser, DatastorePath: dir.String(), SearchSpec: &types.HostDatastoreBrowserSearchSpec{MatchPattern: []string{path.Base(p.Path)}},
	})
	if err != nil {
		return vcenter.Convert(err, "look for %s", file)
	}
	info, err := f.client.Task(ctx, res.Returnval)
	if vcenter.IsFileNotFound(err) {
		return errdefs.New(errdefs.FailedPrecondition, "%s does not exist: there is no directory %s", file, dir.String())
	}
	if err != nil {
		return vcenter.Convert(err, "look for %s", file)
	}
	if found, ok := info.Result.(types.HostDatastoreBrowserSearchResults); ok {
		for _, candidate := range found.File {
			if candidate.GetFileInfo().Path == path.Base(p.Path) {
				return nil
			}
		}
	}
	return errdefs.New(errdefs.FailedPrecondition, "%s does not exist", file)
}

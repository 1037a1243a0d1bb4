// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/session"
	"github.com/vmware/govmomi/view"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
)

// VM is what a test wants to know of a virtual machine.
type VM struct {
	// Name is the last part of the inventory path.
	Name string
	// Ref is the managed object reference, such as vm-42.
	Ref string
	// ChangeVersion changes with every reconfiguration.
	ChangeVersion string
	PowerState    string
	MemoryMB      int32
	// Guestinfo are the keys of the VM's ExtraConfig.
	Guestinfo map[string]string
}

// Inventory is everything in a vCenter that a machine is made of.
type Inventory struct {
	// VMs by inventory path.
	VMs map[string]VM
	// Files on all datastores with their sizes, by datastore path. Directories are
	// among them; their path ends with a slash and their size is 0.
	Files map[string]int64
}

// VM finds the VM of a machine by the machine's provider id.
func (i *Inventory) VM(providerID string) (VM, bool) {
	container := providerID[strings.LastIndex(providerID, "/")+1:]
	for _, vm := range i.VMs {
		if container != "" && vm.Guestinfo[guestinfo.CommonIDKey] == container {
			return vm, true
		}
	}
	return VM{}, false
}

// Inventory reads all VMs, and all files and directories of the datacenter. It is
// not one moment's picture: what appears or goes meanwhile can be an error.
func (v *VCenter) Inventory(ctx context.Context) (_ *Inventory, err error) {
	client, err := v.login(ctx)
	if err != nil {
		return nil, err
	}
	defer func() {
		if out := client.Logout(ctx); err == nil && out != nil {
			err = fmt.Errorf("log out of the vCenter: %w", out)
		}
	}()
	vms, err := listVMs(ctx, client.Client)
	if err != nil {
		return nil, err
	}
	files, err := v.listFiles(ctx, client.Client)
	if err != nil {
		return nil, err
	}
	return &Inventory{VMs: vms, Files: files}, nil
}

// Sessions counts the sessions of programs whose user agent begins with agent.
func (v *VCenter) Sessions(ctx context.Context, agent string) (count int, err error) {
	client, err := v.login(ctx)
	if err != nil {
		return 0, err
	}
	defer func() {
		if out := client.Logout(ctx); err == nil && out != nil {
			err = fmt.Errorf("log out of the vCenter: %w", out)
		}
	}()
	var manager mo.SessionManager
	if err := client.RetrieveOne(ctx, *client.ServiceContent.SessionManager, []string{"sessionList"}, &manager); err != nil {
		return 0, fmt.Errorf("read the sessions of the vCenter: %w", err)
	}
	if len(manager.SessionList) == 0 {
		return 0, fmt.Errorf("the vCenter shows not even this session")
	}
	for _, s := range manager.SessionList {
		if strings.HasPrefix(s.UserAgent, agent) {
			count++
		}
	}
	return count, nil
}

// login opens a session with what the Secret says, as the provider does, but
// without the provider's code.
func (v *VCenter) login(ctx context.Context) (*govmomi.Client, error) {
	at, err := soap.ParseURL(v.Secret[v1alpha1.SecretHost])
	if err != nil {
		return nil, fmt.Errorf("parse the address of the vCenter: %w", err)
	}
	transport := soap.NewClient(at, false)
	if bundle := v.Secret[v1alpha1.SecretCABundle]; bundle != "" {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM([]byte(bundle))
		transport.DefaultTransport().TLSClientConfig.RootCAs = roots
	}
	if thumbprint := v.Secret[v1alpha1.SecretThumbprint]; thumbprint != "" {
		transport.SetThumbprint(at.Host, thumbprint)
	}
	vim, err := vim25.NewClient(ctx, transport)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", at.Host, err)
	}
	client := &govmomi.Client{Client: vim, SessionManager: session.NewManager(vim)}
	user := v.Secret[v1alpha1.SecretUsername]
	if err := client.Login(ctx, url.UserPassword(user, v.Secret[v1alpha1.SecretPassword])); err != nil {
		return nil, fmt.Errorf("log in to %s as %s: %w", at.Host, user, err)
	}
	return client, nil
}

func listVMs(ctx context.Context, client *vim25.Client) (map[string]VM, error) {
	all, err := view.NewManager(client).CreateContainerView(ctx, client.ServiceContent.RootFolder, []string{"VirtualMachine"}, true)
	if err != nil {
		return nil, fmt.Errorf("view all VMs: %w", err)
	}
	var found []mo.VirtualMachine
	err = all.Retrieve(ctx, []string{"VirtualMachine"}, []string{
		"name", "parent", "parentVApp", "config.changeVersion", "config.extraConfig", "config.hardware.memoryMB", "runtime.powerState",
	}, &found)
	if err != nil {
		return nil, fmt.Errorf("read all VMs: %w", err)
	}
	vms := map[string]VM{}
	parents := map[types.ManagedObjectReference]string{} // there are few of them
	for i := range found {
		vm := &found[i]
		parent := vm.Parent
		if parent == nil {
			parent = vm.ParentVApp
		}
		if parent == nil {
			return nil, fmt.Errorf("find the path of %s: it has no parent", vm.Reference().Value)
		}
		if parents[*parent] == "" {
			if parents[*parent], err = find.InventoryPath(ctx, client, *parent); err != nil {
				return nil, fmt.Errorf("find the path of %s: %w", vm.Reference().Value, err)
			}
		}
		entry := VM{Name: vm.Name, Ref: vm.Reference().Value, PowerState: string(vm.Runtime.PowerState)}
		if vm.Config != nil {
			entry.ChangeVersion, entry.MemoryMB = vm.Config.ChangeVersion, vm.Config.Hardware.MemoryMB
			entry.Guestinfo = object.OptionValueList(vm.Config.ExtraConfig).StringMap()
		}
		vms[path.Join(parents[*parent], vm.Name)] = entry
	}
	return vms, nil
}

func (v *VCenter) listFiles(ctx context.Context, client *vim25.Client) (map[string]int64, error) {
	finder := find.NewFinder(client)
	datacenter, err := finder.Datacenter(ctx, v.Datacenter)
	if err != nil {
		return nil, fmt.Errorf("find the datacenter %s: %w", v.Datacenter, err)
	}
	stores, err := finder.SetDatacenter(datacenter).DatastoreList(ctx, "*")
	if err != nil {
		return nil, fmt.Errorf("list the datastores: %w", err)
	}
	files := map[string]int64{}
	for _, store := range stores {
		browser, err := store.Browser(ctx)
		if err != nil {
			return nil, fmt.Errorf("browse the datastore %s: %w", store.Name(), err)
		}
		task, err := browser.SearchDatastoreSubFolders(ctx, store.Path(""), &types.HostDatastoreBrowserSearchSpec{
			MatchPattern: []string{"*"}, Details: &types.FileQueryFlags{FileSize: true, FileType: true},
		})
		if err != nil {
			return nil, fmt.Errorf("search the datastore %s: %w", store.Name(), err)
		}
		info, err := task.WaitForResult(ctx)
		if err != nil {
			return nil, fmt.Errorf("search the datastore %s: %w", store.Name(), err)
		}
		folders, ok := info.Result.(types.ArrayOfHostDatastoreBrowserSearchResults)
		if !ok {
			return nil, fmt.Errorf("search the datastore %s: unexpected result %T", store.Name(), info.Result)
		}
		addFiles(files, store.Name(), folders.HostDatastoreBrowserSearchResults)
	}
	return files, nil
}

func addFiles(files map[string]int64, store string, folders []types.HostDatastoreBrowserSearchResults) {
	for _, folder := range folders {
		// vCenter writes "[store] dir/", vcsim "[store]/dir".
		dir := strings.Trim(strings.TrimPrefix(folder.FolderPath, "["+store+"]"), " /")
		at := func(name string) string {
			return (&object.DatastorePath{Datastore: store, Path: path.Join(dir, name)}).String()
		}
		if dir != "" {
			files[at("")+"/"] = 0
		}
		for _, entry := range folder.File {
			file := entry.GetFileInfo()
			if _, isDir := entry.(*types.FolderFileInfo); isDir {
				files[at(file.Path)+"/"] = 0
				continue
			}
			files[at(file.Path)] = file.FileSize
		}
	}
}

// ImageDisks returns the files and directories of the store of image disks, which
// stay when the machines go.
func (i *Inventory) ImageDisks() []string {
	var found []string
	for file := range i.Files {
		if strings.Contains(file, "/"+imageStore+"/") {
			found = append(found, file)
		}
	}
	slices.Sort(found)
	return found
}

// imageStore is the directory of image disks below a VCH's image store.
const imageStore = "mcm-images"

// WithoutImageDisks is the inventory without the store of image disks.
func (i *Inventory) WithoutImageDisks() *Inventory {
	rest := &Inventory{VMs: i.VMs, Files: maps.Clone(i.Files)}
	for _, file := range i.ImageDisks() {
		delete(rest.Files, file)
	}
	return rest
}

// Equal is nil when nothing has come, gone or changed between two readings.
func (i *Inventory) Equal(other *Inventory) error {
	if diff := cmp.Diff(i, other); diff != "" {
		return fmt.Errorf("it has changed (-before +after):\n%s", diff)
	}
	return nil
}

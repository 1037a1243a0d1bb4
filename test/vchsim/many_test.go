// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"context"
	"errors"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
)

func TestManyClientsAtATimeSeeNoHalfMadeVM(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	clients := []*govmomi.Client{login(t, sim), login(t, sim)}
	files := sim.Files()
	var makers, readers sync.WaitGroup
	done := make(chan struct{})
	for i := range 2 {
		readers.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				listFolder(t, sim, clients[i])
			}
		})
	}
	for i := range 20 {
		spec := machineSpec(t, sim, "m-"+string(rune('a'+i)))
		makers.Go(func() {
			vm, err := create(t.Context(), sim, clients[i%2], spec)
			if err != nil {
				t.Error(err)
				return
			}
			if err := run(t.Context(), vm.PowerOn); err != nil {
				t.Error(err)
			}
			if err := run(t.Context(), vm.PowerOff); err != nil && !fault.Is(err, &types.InvalidPowerState{}) {
				t.Error(err)
			}
			devices, err := vm.Device(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			if err := vm.RemoveDevice(t.Context(), true, devices.SelectByType((*types.VirtualDisk)(nil))...); err != nil {
				t.Error(err)
			}
			if err := run(t.Context(), vm.Destroy); err != nil {
				t.Error(err)
			}
			dc := object.NewDatacenter(clients[i%2].Client, sim.places.datacenter)
			if err := run(t.Context(), func(ctx context.Context) (*object.Task, error) {
				return object.NewFileManager(clients[i%2].Client).DeleteDatastoreFile(ctx, vmDir(spec.Files.VmPathName), dc)
			}); err != nil {
				t.Error(err)
			}
		})
	}
	makers.Wait()
	close(done)
	readers.Wait()
	if diff := cmp.Diff(files, sim.Files()); diff != "" {
		t.Errorf("files differ: %s", diff)
	}
}

// listFolder reads all VMs of the VCH's folder as a client does, in one call.
func listFolder(t *testing.T, sim *Sim, client *govmomi.Client) {
	t.Helper()
	res, err := methods.RetrievePropertiesEx(t.Context(), client, &types.RetrievePropertiesEx{
		This: client.ServiceContent.PropertyCollector,
		SpecSet: []types.PropertyFilterSpec{{
			ObjectSet: []types.ObjectSpec{{
				Obj: sim.vch.folder, Skip: types.NewBool(true),
				SelectSet: []types.BaseSelectionSpec{&types.TraversalSpec{Type: "Folder", Path: "childEntity"}},
			}},
			PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{"name", "config.uuid", "config.extraConfig"}}},
		}},
	})
	if err != nil {
		t.Error(err)
		return
	}
	for _, o := range res.Returnval.Objects {
		if o.Obj != sim.ApplianceRef() && len(o.PropSet) != 3 {
			t.Errorf("half-made VM: %v", o)
		}
	}
}

func TestManyWorldsLiveSideBySide(t *testing.T) {
	t.Parallel()
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			sim, err := Start(t.Context(), Options{Dir: t.TempDir(), NoForeign: true})
			if err != nil {
				t.Error(err)
				return
			}
			defer sim.Close()
			client, err := connect(t.Context(), sim, sim.Username, sim.Password)
			if err != nil {
				t.Error(err)
				return
			}
			listFolder(t, sim, client)
		})
	}
	all.Wait()
}

func TestAWaitHearsOfItsObjectAndOfNewChildren(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	heard := make(chan string, 8)
	ready := make(chan struct{})
	filter := new(property.WaitFilter).Add(sim.vch.folder, "VirtualMachine", []string{"name"}, &types.TraversalSpec{Type: "Folder", Path: "childEntity"})
	var waiter sync.WaitGroup
	waiter.Go(func() {
		first := true
		err := property.WaitForUpdates(ctx, property.DefaultCollector(client.Client), filter, func(updates []types.ObjectUpdate) bool {
			for _, u := range updates {
				for _, c := range u.ChangeSet {
					if name, ok := c.Val.(string); ok {
						heard <- name
					}
				}
			}
			if first {
				first = false
				close(ready)
			}
			return false
		})
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("wait ended: %v", err)
		}
	})
	<-ready
	other := login(t, sim)
	mustCreate(t, sim, other, "new")
	for name := range heard {
		if strings.HasPrefix(name, "new-") {
			break
		}
	}
	cancel()
	waiter.Wait()
}

func TestCloseEndsAWait(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	ended := make(chan error, 1)
	waiting := make(chan struct{})
	once := sync.OnceFunc(func() { close(waiting) })
	go func() {
		ended <- property.Wait(t.Context(), property.DefaultCollector(client.Client), sim.ApplianceRef(), []string{"name"}, func([]types.PropertyChange) bool {
			once()
			return false
		})
	}()
	<-waiting
	begin := time.Now()
	sim.Close()
	if err := <-ended; err == nil || time.Since(begin) > 15*time.Second {
		t.Errorf("after %v: %v", time.Since(begin), err)
	}
}

func TestOnVSANvSphereChoosesTheDirectory(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{VSAN: true, DockerContainers: 1})
	for _, vm := range sim.VMs() {
		dir := strings.TrimPrefix(path.Dir(vm.VMX), "["+Datastore+"] ")
		if len(dir) != 36 {
			t.Errorf("%s lies in %q, which is no object's UUID", vm.Name, dir)
		}
	}
	if !sim.exists(ImageDisk) || !sim.exists(sim.vch.iso) || strings.Contains(sim.vch.iso, "vch-1/") {
		t.Errorf("image disk or ISO %s is not there", sim.vch.iso)
	}
	client := login(t, sim)
	_, is := started(t, sim, client, "m")
	if is.Started != "true" {
		t.Errorf("started %q; %v", is.Started, sim.GuestReports())
	}
}

func TestFilesAreUploadedOverHTTP(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	dc := object.NewDatacenter(client.Client, sim.places.datacenter)
	dc.InventoryPath = "/" + sim.Datacenter
	ds := object.NewDatastore(client.Client, sim.places.datastores[SecondDatastore])
	ds.DatacenterPath, ds.InventoryPath = dc.InventoryPath, dc.InventoryPath+"/datastore/"+SecondDatastore
	u := ds.NewURL("file.txt")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, u.String(), strings.NewReader("content"))
	must(t, err)
	res, err := client.Client.Client.Client.Do(request)
	must(t, err)
	must(t, res.Body.Close())
	if !sim.exists("["+SecondDatastore+"] file.txt") || sim.Calls()["PUT /folder"] != 1 {
		t.Errorf("status %s, files %v, calls %v", res.Status, sim.Files(), sim.Calls())
	}
}

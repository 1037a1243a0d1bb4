// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"testing"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// This is for the race detector: vcsim's own way to files is not safe.
func TestFilesMoveWhileMachinesComeAndGo(t *testing.T) {
	t.Parallel()
	for _, vsan := range []bool{false, true} {
		sim := start(t, Options{NoForeign: true, VSAN: vsan})
		client := login(t, sim)
		dc := object.NewDatacenter(client.Client, sim.places.datacenter)
		dc.InventoryPath = "/" + sim.Datacenter
		var all sync.WaitGroup
		for i := range 4 {
			spec := machineSpec(t, sim, fmt.Sprintf("m-%d", i))
			all.Go(func() {
				vm, err := create(t.Context(), sim, client, spec)
				if err != nil {
					t.Error(err)
					return
				}
				devices, err := vm.Device(t.Context())
				if err != nil {
					t.Error(err)
					return
				}
				_ = vm.RemoveDevice(t.Context(), true, devices.SelectByType((*types.VirtualDisk)(nil))...)
				if err := run(t.Context(), vm.Destroy); err != nil {
					t.Error(err)
				}
			})
			all.Go(func() { carry(t, client, dc, fmt.Sprintf("%s/file-%d", sim.VCHName, i)) })
		}
		all.Wait()
	}
}

// carry writes a file a few times, reads it back each time, and deletes it.
func carry(t *testing.T, client *govmomi.Client, dc *object.Datacenter, file string) {
	t.Helper()
	store := object.NewDatastore(client.Client, dc.Reference())
	store.InventoryPath, store.DatacenterPath = dc.InventoryPath+"/datastore/"+Datastore, dc.InventoryPath
	for round := range 3 {
		content := bytes.Repeat([]byte{byte(round)}, 100_000)
		if err := store.Upload(t.Context(), bytes.NewReader(content), file, &soap.Upload{Method: "PUT", ContentLength: int64(len(content))}); err != nil {
			t.Error(err)
			return
		}
		r, _, err := store.Download(t.Context(), file, nil)
		if err != nil {
			t.Error(err)
			return
		}
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s: %d bytes, %v", file, len(got), err)
		}
		_ = r.Close()
	}
	if err := run(t.Context(), func(ctx context.Context) (*object.Task, error) {
		return object.NewFileManager(client.Client).DeleteDatastoreFile(ctx, store.Path(file), dc)
	}); err != nil {
		t.Error(err)
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/inventory"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/volumetest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/nfs"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	volumetest.Run(t, newWorld)
}

func TestConformanceUnderFaults(t *testing.T) {
	t.Parallel()
	volumetest.RunFaults(t, newWorld)
}

// cluster is an inventory in memory.
type cluster struct {
	mu  sync.Mutex
	vms map[string]inventory.VM
	// keys is what each VM has in its ExtraConfig; a VM without is one of which that is not known.
	keys map[string]map[string]string
	// err is what all reads end with.
	err error
}

func (c *cluster) VMs(ctx context.Context, keys ...string) ([]inventory.VM, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := errors.Join(ctx.Err(), c.err); err != nil {
		return nil, err
	}
	var all []inventory.VM
	for id, vm := range c.vms {
		vm.Keys = pick(c.keys[id], keys)
		all = append(all, vm)
	}
	return all, nil
}

func (c *cluster) Keys(ctx context.Context, vms []types.ManagedObjectReference, keys ...string) (map[types.ManagedObjectReference]map[string]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := errors.Join(ctx.Err(), c.err); err != nil {
		return nil, err
	}
	found := map[types.ManagedObjectReference]map[string]string{}
	for _, ref := range vms {
		if c.vms[ref.Value].Name == "" {
			continue
		}
		if c.keys[ref.Value] == nil {
			return nil, errdefs.New(errdefs.Unavailable, "vCenter cannot tell the configuration of VM %s", ref.Value)
		}
		if values := pick(c.keys[ref.Value], keys); len(values) > 0 {
			found[ref] = values
		}
	}
	return found, nil
}

func pick(from map[string]string, keys []string) map[string]string {
	values := map[string]string{}
	for _, key := range keys {
		if from[key] != "" {
			values[key] = from[key]
		}
	}
	return values
}

// add makes a VM with mounts, or one of which nothing is known.
func (c *cluster) add(mounts map[string]guestinfo.MountSpec) volume.User {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.vms) + 1
	for c.vms[fmt.Sprintf("vm-%d", n)].Name != "" {
		n++
	}
	user := volume.User{Name: fmt.Sprintf("worker-%d", n), VM: fmt.Sprintf("vm-%d", n)}
	c.vms[user.VM] = inventory.VM{Ref: types.ManagedObjectReference{Type: "VirtualMachine", Value: user.VM}, Name: user.Name, Unproven: mounts == nil}
	if mounts != nil {
		keys, err := guestinfo.EncodeExecutor(&guestinfo.ExecutorConfig{Mounts: mounts})
		if err != nil {
			panic(err)
		}
		c.keys[user.VM] = keys
	}
	return user
}

func (c *cluster) remove(user volume.User) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.vms, user.VM)
	delete(c.keys, user.VM)
}

// world is one export with a server of its own.
type world struct {
	*testing.T
	server   *nfs.Server
	cluster  *cluster
	location url.URL
}

func newServed(t *testing.T, o nfs.Options) *world {
	t.Helper()
	server, err := nfs.Serve(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
	})
	return &world{T: t, server: server, cluster: &cluster{vms: map[string]inventory.VM{}, keys: map[string]map[string]string{}}, location: *server.URL()}
}

func newWorld(t *testing.T) volumetest.Harness {
	t.Helper()
	return newServed(t, nfs.Options{})
}

func (w *world) store() *Store {
	// From ports of which there are many: tests run at the same time.
	s := New(Options{Host: &vch.Config{Name: "vch-1"}, Label: "default", Location: w.location, Dial: dialPlain})
	s.machines = w.cluster
	return s
}

func (w *world) Store() volume.Store { return w.store() }

func (w *world) Faulty(fault volumetest.Fault) (volume.Store, func() bool) {
	s := w.store()
	var steps atomic.Int64
	s.step = func(what string, do func() error) error { return fault.Around(int(steps.Add(1)), what, do) }
	return s, func() bool { return int(steps.Load()) >= fault.Step }
}

func (w *world) path(elements ...string) string {
	return filepath.Join(append([]string{w.server.Dir()}, elements...)...)
}

// walk calls visit for all that is there, with its path on the export.
func (w *world) walk(visit func(path string)) {
	w.Helper()
	err := filepath.WalkDir(w.server.Dir(), func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && path != w.server.Dir() {
			visit(strings.TrimPrefix(path, w.server.Dir()+"/"))
		}
		return err
	})
	if err != nil {
		w.Error(err)
	}
}

func (w *world) Advance(d time.Duration) {
	w.Helper()
	w.walk(func(path string) {
		info, err := os.Lstat(w.path(path))
		if err == nil {
			err = os.Chtimes(w.path(path), time.Time{}, info.ModTime().Add(-d))
		}
		if err != nil {
			w.Error(err)
		}
	})
}

// Listed is what VIC does (lib/portlayer/storage/volume/nfs/store.go:176-219,
// lib/apiservers/engine/backends/volume.go:106-109), but for that it says what is wrong.
func (w *world) Listed() ([]volumetest.Entry, error) {
	entries, err := os.ReadDir(w.path(volumesDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var all []volumetest.Entry
	var stumbles error
	for _, e := range entries {
		content, err := os.ReadFile(w.path(metadataDir, e.Name(), volume.MetadataKey))
		if err == nil {
			_, err = volume.DecodeMetadata(content)
		}
		if err == nil && !e.IsDir() {
			err = fmt.Errorf("%s is no directory", e.Name())
		}
		if err != nil {
			stumbles = errors.Join(stumbles, err)
			continue
		}
		all = append(all, volumetest.Entry{Name: e.Name(), Metadata: string(content)})
	}
	return all, stumbles
}

func (w *world) Files() []string {
	w.Helper()
	shared := []string{volumesDir, metadataDir, privateDir, privateDir + "/" + newDir, privateDir + "/" + removedDir, privateDir + "/" + droppedDir}
	var all []string
	w.walk(func(path string) {
		if !slices.Contains(shared, path) {
			all = append(all, path)
		}
	})
	return all
}

const (
	noMetadata  = "no metadata"
	noKey       = "a directory of metadata without the file"
	noJSON      = "metadata that are no JSON"
	noDirectory = "a file in place of the directory"
	bareFile    = "a file and no metadata"
	noFile      = "a file in place of the directory of metadata"
)

func (w *world) Damages() []string {
	return []string{noMetadata, noKey, noJSON, noDirectory, bareFile, noFile}
}

func (w *world) Damage(name, how string) {
	w.Helper()
	must := func(err error) {
		if err != nil {
			w.Fatal(err)
		}
	}
	for _, dir := range []string{volumesDir, metadataDir} {
		must(os.MkdirAll(w.path(dir), 0o755))
	}
	if how == noDirectory || how == bareFile {
		must(os.WriteFile(w.path(volumesDir, name), []byte("x"), 0o600))
	} else {
		must(os.Mkdir(w.path(volumesDir, name), 0o755))
		must(os.WriteFile(w.path(volumesDir, name, "file"), []byte("x"), 0o600))
	}
	content := map[string]string{noKey: "", noJSON: "{", noDirectory: "{}"}
	switch how {
	case noKey:
		must(os.MkdirAll(w.path(metadataDir, name, "another"), 0o755))
	case noJSON, noDirectory:
		must(os.Mkdir(w.path(metadataDir, name), 0o755))
		must(os.WriteFile(w.path(metadataDir, name, volume.MetadataKey), []byte(content[how]), 0o600))
	case noFile:
		must(os.WriteFile(w.path(metadataDir, name), nil, 0o600))
	}
}

func (w *world) writeMetadata(name string, content []byte) {
	w.Helper()
	if err := os.WriteFile(w.path(metadataDir, name, volume.MetadataKey), content, 0o600); err != nil {
		w.Fatal(err)
	}
}

func (w *world) Write(name, text string) {
	w.Helper()
	if err := os.WriteFile(w.path(volumesDir, name, "file"), []byte(text), 0o600); err != nil {
		w.Error(err)
	}
}

func (w *world) Read(name string) string {
	w.Helper()
	if _, err := os.Stat(w.path(volumesDir, name)); err != nil {
		w.Error(err)
	}
	content, err := os.ReadFile(w.path(volumesDir, name, "file"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		w.Error(err)
	}
	return string(content)
}

const (
	alone    = "alone"
	among    = "among others"
	spelled  = "with another spelling"
	database = "db.local"
)

func (w *world) Uses() []string { return []string{alone, among, spelled} }

func (w *world) Use(name, how string) (volume.User, bool) {
	if _, err := os.Stat(w.path(volumesDir, name)); err != nil {
		return volume.User{}, false
	}
	source := url.URL{Scheme: "nfs", Host: w.server.URL().Host, Path: w.server.Export() + "/volumes/" + name}
	mounts := map[string]guestinfo.MountSpec{name: {Source: source, Path: "/data"}}
	switch how {
	case among:
		mounts["a."+name] = guestinfo.MountSpec{Source: url.URL{Scheme: "label", Path: "x"}, Path: "/a"}
		mounts["z"] = guestinfo.MountSpec{Source: url.URL{Scheme: "nfs", Host: database, Path: "/export/volumes/z"}, Path: "/z"}
	case spelled:
		source.Path = w.server.Export() + "//volumes/./" + name + "/"
		mounts[name] = guestinfo.MountSpec{Source: source, Path: "/data"}
	}
	return w.cluster.add(mounts), true
}

// UseHidden is no reason here: that is tested elsewhere.
func (w *world) UseHidden() (volume.User, bool) { return volume.User{}, false }

func (w *world) Release(user volume.User) { w.cluster.remove(user) }

func (w *world) Fill(full bool) {
	if full {
		w.server.SetFault(nfs.Full())
	} else {
		w.server.SetFault(nil)
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vmdk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// importContent is a disk in memory and one temporary file.
type importContent struct {
	subject  string
	capacity int64
	prefix   []byte
	packed   *os.File
	size     int64
}

func newImportContent(t *testing.T, size int64, prefix int) *importContent {
	t.Helper()
	c := &importContent{subject: "sha256:" + strings.Repeat("0123456789abcdef", 4), capacity: size, prefix: make([]byte, prefix)}
	for i := range c.prefix {
		c.prefix[i] = byte(i ^ i>>8 ^ i>>16)
	}
	f, err := os.Create(filepath.Join(t.TempDir(), "packed.vmdk"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	r, err := vmdk.WriteFile(t.Context(), f, bytes.NewReader(c.prefix), int64(prefix), vmdk.Options{Capacity: size, Identity: vmdk.Identity{1}})
	if err != nil {
		t.Fatal(err)
	}
	c.packed, c.size = f, r.Bytes
	return c
}

// content is what a Maker is given.
func (c *importContent) content() Content {
	return Content{
		Capacity: c.capacity, Raw: bytes.NewReader(c.prefix), Used: int64(len(c.prefix)), Identity: [16]byte{1},
		Stream: func(context.Context) (io.ReaderAt, int64, error) { return c.packed, c.size, nil },
	}
}

// mark is what the holder of an attempt says.
func (c *importContent) mark(attempt string) Mark {
	return Mark{Kind: "image", Subject: c.subject, Size: c.capacity, Attempt: attemptOf(attempt), Owner: "test"}
}

// attemptOf makes a short name an attempt.
func attemptOf(short string) string {
	sum := sha256.Sum256([]byte(short))
	return hex.EncodeToString(sum[:16])
}

// importWorld is a VCH and an importer for its image store's datastore.
type importWorld struct {
	*testing.T
	*Maker
	files *datastore.Files
	sim   *vchsim.Sim
	dir   string // where disks go
	// foreign is what was there before.
	foreign []string
}

func newImportWorld(t *testing.T, options vchsim.Options) *importWorld {
	t.Helper()
	options.Dir, options.NoForeign = t.TempDir(), true
	sim, err := vchsim.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	w := &importWorld{T: t, sim: sim, dir: "disks/a"}
	w.Maker, w.files = w.process(vcenter.NewPool(vcenter.Options{}))
	if err := w.files.MakeDirectory(t.Context(), w.dir, true); err != nil {
		t.Fatal(err)
	}
	if w.dir, err = w.files.Resolve(t.Context(), w.dir); err != nil {
		t.Fatal(err)
	}
	w.foreign = w.present()
	return w
}

// process returns a maker and its files as a process has them, with its sessions, which
// end with the test.
func (w *importWorld) process(pool *vcenter.Pool) (*Maker, *datastore.Files) {
	w.Helper()
	w.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(w.Context()), 10*time.Second)
		defer cancel()
		if err := pool.Close(ctx); err != nil {
			w.Log(err)
		}
	})
	cfg, err := vcenter.ConfigFromSecret(w.sim.Secret())
	if err != nil {
		w.Fatal(err)
	}
	client, err := pool.Client(w.Context(), cfg)
	if err != nil {
		w.Fatal(err)
	}
	host, err := vch.Find(w.Context(), client, v1alpha1.VirtualContainerHost{Datacenter: w.sim.Datacenter, Name: w.sim.VCHName})
	if err != nil {
		w.Fatal(err)
	}
	ds := host.Datastores[host.ImageStore.Datastore]
	files := datastore.New(datastore.Options{
		Client: client, Datacenter: host.Datacenter, DatacenterPath: host.DatacenterPath, Datastore: ds.Ref, Name: ds.Name, Type: ds.Type,
	})
	return New(Options{Client: client, Host: host, Files: files, Datastore: ds, Kind: "image"}), files
}

// present is everything in the world: VMs and files.
func (w *importWorld) present() []string {
	all := w.sim.Files()
	for _, vm := range w.sim.VMs() {
		all = append(all, "VM "+vm.Name)
	}
	return all
}

// added is what is there beside what was there before.
func (w *importWorld) added() []string {
	return slices.DeleteFunc(w.present(), func(p string) bool { return slices.Contains(w.foreign, p) })
}

// clean fails the test if anything is left.
func (w *importWorld) clean(when string) {
	w.Helper()
	if left := w.added(); len(left) > 0 {
		w.Errorf("%s: left %v", when, left)
	}
}

// same compares the disk at a path with the content.
func (w *importWorld) same(p string, c *importContent) {
	w.Helper()
	f, err := w.sim.DiskContent(w.files.Path(p))
	if err != nil {
		w.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	got, err := io.ReadAll(f)
	if err != nil {
		w.Fatal(err)
	}
	want := append(slices.Clone(c.prefix), make([]byte, c.capacity-int64(len(c.prefix)))...)
	if !bytes.Equal(got, want) {
		w.Errorf("%s has another content: %d bytes, want %d", p, len(got), len(want))
	}
}

// fault sets the only fault.
func (w *importWorld) fault(rule vchsim.FaultRule) {
	w.Helper()
	w.sim.ClearFaults()
	if err := w.sim.SetFault(rule); err != nil {
		w.Fatal(err)
	}
}

// quiet is told and says nothing.
func quiet(int64, int64) {}

// encoded is the text of a mark.
func encoded(t *testing.T, m Mark) string {
	t.Helper()
	text, err := m.encode()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

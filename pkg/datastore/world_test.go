// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package datastore_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// world is a simulated vCenter and the files of its first datastore.
type world struct {
	*testing.T
	sim     *vchsim.Sim
	pool    *vcenter.Pool
	options datastore.Options
	files   *datastore.Files
}

func newWorld(t *testing.T, options vchsim.Options, pool vcenter.Options) *world {
	t.Helper()
	options.NoForeign, options.Dir = true, t.TempDir()
	sim, err := vchsim.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	sessions := vcenter.NewPool(pool)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
		defer cancel()
		if err := sessions.Close(ctx); err != nil {
			t.Log(err)
		}
	})
	cfg, err := vcenter.ConfigFromSecret(sim.Secret())
	if err != nil {
		t.Fatal(err)
	}
	client, err := sessions.Client(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	host, err := vch.Find(t.Context(), client, v1alpha1.VirtualContainerHost{Datacenter: sim.Datacenter, Name: sim.VCHName})
	if err != nil {
		t.Fatal(err)
	}
	ds := host.Datastores[vchsim.Datastore]
	w := &world{T: t, sim: sim, pool: sessions, options: datastore.Options{
		Client: client, Datacenter: host.Datacenter, DatacenterPath: host.DatacenterPath,
		Datastore: ds.Ref, Name: ds.Name, Type: ds.Type,
	}}
	w.files = datastore.New(w.options)
	return w
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write writes a small file.
func (w *world) write(p, content string) {
	w.Helper()
	must(w.T, w.files.Write(w.Context(), p, strings.NewReader(content), int64(len(content)), nil))
}

// has compares what there is below a directory with paths relative to it.
func (w *world) has(dir string, want ...string) {
	w.Helper()
	prefix := w.files.Path(dir) + "/"
	got := []string{}
	for _, f := range w.sim.Files() {
		if rest, ok := strings.CutPrefix(f, prefix); ok && rest != "" {
			got = append(got, rest)
		}
	}
	slices.Sort(want)
	if diff := cmp.Diff(append([]string{}, want...), got); diff != "" {
		w.Errorf("below %s (-want +got):\n%s", dir, diff)
	}
}

// local is where the simulator keeps a file, on datastores without ids.
func (w *world) local(p string) string {
	return filepath.Join(w.sim.Dir(), "datastores", vchsim.Datastore, filepath.FromSlash(p))
}

func (w *world) content(p string) []byte {
	w.Helper()
	b, err := os.ReadFile(w.local(p))
	must(w.T, err)
	return b
}

// flat makes a flat disk of size bytes that begins with content.
func (w *world) flat(dir, name string, content []byte, size int64, more string) string {
	w.Helper()
	must(w.T, w.files.MakeDirectory(w.Context(), dir, true))
	descriptor := "# Disk DescriptorFile\nversion=1\nCID=12345678\nparentCID=ffffffff\ncreateType=\"vmfs\"\n\nRW " +
		itoa(size/512) + " VMFS \"" + name + "-flat.vmdk\"\n\nddb.adapterType = \"lsilogic\"\n" + more
	must(w.T, w.files.Write(w.Context(), dir+"/"+name+"-flat.vmdk", bytes.NewReader(content), int64(len(content)), nil))
	w.write(dir+"/"+name+".vmdk", descriptor)
	return dir + "/" + name + ".vmdk"
}

// calls runs f and returns what it sent, by method.
func (w *world) calls(f func() error) map[string]int {
	w.Helper()
	w.sim.ResetCounters()
	if err := f(); err != nil {
		w.Error(err)
	}
	return w.sim.Calls()
}

func wantKind(t *testing.T, what string, err error, kind errdefs.Kind, texts ...string) {
	t.Helper()
	if !errdefs.Is(err, kind) {
		t.Errorf("%s: %v (%s), want %s", what, err, errdefs.KindOf(err), kind)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %q does not say %q", what, err, text)
		}
	}
}

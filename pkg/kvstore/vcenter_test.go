// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package kvstore_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/kvstore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// world is a simulated vCenter and a VCH in it, and two machines with a session each.
type world struct {
	*vchsim.Sim
	host  *vch.Config
	files [2]kvstore.Files
}

func newWorld(t *testing.T, options vchsim.Options) *world {
	t.Helper()
	options.NoForeign, options.Dir = true, t.TempDir()
	sim, err := vchsim.Start(t.Context(), options)
	must(t, err)
	t.Cleanup(sim.Close)
	w := &world{Sim: sim}
	for i := range w.files {
		pool := vcenter.NewPool(vcenter.Options{})
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 10*time.Second)
			defer cancel()
			if err := pool.Close(ctx); err != nil {
				t.Log(err)
			}
		})
		cfg, err := vcenter.ConfigFromSecret(sim.Secret())
		must(t, err)
		client, err := pool.Client(t.Context(), cfg)
		must(t, err)
		w.host, err = vch.Find(t.Context(), client, v1alpha1.VirtualContainerHost{Datacenter: sim.Datacenter, Name: sim.VCHName})
		must(t, err)
		ds := w.host.Datastores[w.host.KVStores.Datastore]
		w.files[i] = datastore.New(datastore.Options{
			Client: client, Datacenter: w.host.Datacenter, DatacenterPath: w.host.DatacenterPath,
			Datastore: ds.Ref, Name: ds.Name, Type: ds.Type,
		})
	}
	return w
}

// ours is a new place below the directory of the appliance.
func (w *world) ours(name string) place {
	return place{machines: w.files, directory: path.Join(path.Dir(w.host.KVStores.Path), "ours", name), writers: 5}
}

func TestAStoreOnADatastoreKeepsItsPromises(t *testing.T) {
	for name, vsan := range map[string]bool{"VMFS": false, "vSAN": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, vchsim.Options{VSAN: vsan})
			runSuite(t, func(t *testing.T) place {
				t.Helper()
				_, test, _ := strings.Cut(t.Name(), "/")
				return w.ours(strings.NewReplacer("/", "_", "'", "_").Replace(test))
			})
		})
	}
}

func TestTheStoresOfAVCHAreRead(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	at := w.host.KVStores
	names, err := kvstore.Names(t.Context(), w.files[0], at.Path)
	if diff := cmp.Diff([]string{"apiKV", "network.contexts.default"}, names); err != nil || diff != "" {
		t.Fatalf("%v (-want +got):\n%s", err, diff)
	}
	before := w.Files()
	snap, err := place{machines: w.files, directory: at.Path}.store(t, 0, readOnly).Read(t.Context())
	must(t, err)
	if diff := cmp.Diff([]string{"docker.images", "docker.layers", "docker.repositories"}, slices.Sorted(maps.Keys(snap.Values))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	file := filepath.Join(w.Dir(), "datastores", at.Datastore, filepath.FromSlash(at.Path), "apiKV.dat")
	content, err := os.ReadFile(file)
	must(t, err)
	again, err := kvstore.Encode(snap.Values)
	if diff := cmp.Diff(string(content), string(again)); err != nil || diff != "" || !json.Valid(snap.Values["docker.images"]) {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff(before, w.Files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestWhatAStoreSends holds the number of requests, without those that wait for tasks.
func TestWhatAStoreSends(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	p := w.ours("budget")
	s := p.store(t, 0)
	for range 12 {
		must(t, s.Update(t.Context(), increment))
	}
	for _, test := range []struct {
		name string
		do   func() error
		want map[string]int
	}{
		{"Open", func() error { p.store(t, 0); return nil }, nil},
		{"Read", func() error { _, err := s.Read(t.Context()); return err }, map[string]int{"SearchDatastore_Task": 1, "GET /folder": 1}},
		{"Names", func() error { _, err := kvstore.Names(t.Context(), w.files[0], p.directory); return err }, map[string]int{"SearchDatastore_Task": 1}},
		{"Update", func() error { return s.Update(t.Context(), increment) }, map[string]int{"SearchDatastore_Task": 2, "GET /folder": 1, "PUT /folder": 1, "MoveDatastoreFile_Task": 1}},
		{"Put of what is there", func() error { return s.Put(t.Context(), "n", []byte("13")) }, map[string]int{"SearchDatastore_Task": 1, "GET /folder": 1}},
	} {
		t.Run(test.name, func(t *testing.T) {
			w.ResetCounters()
			must(t, test.do())
			got := w.Calls()
			for _, waiting := range []string{"CreatePropertyCollector", "CreateListView", "CreateFilter", "ModifyListView", "WaitForUpdatesEx", "RetrieveProperties", "RetrievePropertiesEx"} {
				delete(got, waiting)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestACallThatFailsOrWhoseAnswerIsLostIsDoneOnceAtMost(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	p := w.ours("faults")
	s, want, unclear := p.store(t, 0), 0, 0
	for _, method := range []string{"SearchDatastore_Task", "GET /folder", "PUT /folder", "MoveDatastoreFile_Task", "WaitForUpdatesEx"} {
		for _, kind := range []string{vchsim.KindConnectionReset, vchsim.KindResponseLost, vchsim.KindHTTP503} {
			for n := 1; n <= 3; n++ {
				must(t, w.SetFault(vchsim.FaultRule{Method: method, Kind: kind, NthCall: n, Count: 1}))
				err := s.Update(t.Context(), increment)
				w.ClearFaults()
				got := count(t, s)
				if errors.Is(err, kvstore.ErrUnknown) {
					unclear++
				} else if (err == nil) != (got == want+1) {
					t.Errorf("%s %s, call %d: it was done %d times: %v", method, kind, n, got-want, err)
				}
				want = got
			}
		}
	}
	if unclear > 0 {
		t.Errorf("of %d updates it is not known whether they were done: a single fault does not lead there", unclear)
	}
}

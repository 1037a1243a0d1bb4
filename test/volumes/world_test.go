// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volumes_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/locations"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

const (
	// patience is how long anything here may take.
	patience = 2 * time.Minute
	capacity = int64(16 << 20)
	// longAgo is the age of what is surely nobody's any more.
	longAgo = 24 * time.Hour
)

// site is a simulated vCenter with the volume stores of its VCH.
type site struct {
	*testing.T
	sim    *vchsim.Sim
	client *vcenter.Client
	stores *volume.Set
	// root is the directory of the default store in the simulator's files.
	root string
	// before are the files at the beginning.
	before []string
}

func newSite(t *testing.T, o vchsim.Options) *site {
	t.Helper()
	o.Dir, o.NoForeign = t.TempDir(), true
	sim, err := vchsim.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	cfg, err := vcenter.ConfigFromSecret(sim.Secret())
	if err != nil {
		t.Fatal(err)
	}
	pool := vcenter.NewPool(vcenter.Options{})
	t.Cleanup(func() { _ = pool.Close(context.WithoutCancel(t.Context())) })
	client, err := pool.Client(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	host, err := vch.Find(t.Context(), client, sim.ProviderSpec().VCH)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{T: t, sim: sim, client: client, stores: locations.Open(locations.Options{Client: client, Host: host, Owner: "test"})}
	s.root = s.rootOf(volume.DefaultStore)
	s.before = s.files()
	return s
}

// settle waits until vCenter has no task to do.
func (s *site) settle() {
	s.Helper()
	vim := s.client.Vim()
	err := wait.PollUntilContextTimeout(s.Context(), 5*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		var manager mo.TaskManager
		pc := property.DefaultCollector(vim)
		if err := pc.RetrieveOne(ctx, *vim.ServiceContent.TaskManager, []string{"recentTask"}, &manager); err != nil || len(manager.RecentTask) == 0 {
			return err == nil, err
		}
		var tasks []mo.Task
		if err := pc.Retrieve(ctx, manager.RecentTask, []string{"info.state"}, &tasks); err != nil {
			return false, nil //nolint:nilerr // one has just ended for good
		}
		return !slices.ContainsFunc(tasks, func(t mo.Task) bool {
			return t.Info.State == types.TaskInfoStateQueued || t.Info.State == types.TaskInfoStateRunning
		}), nil
	})
	if err != nil {
		s.Fatal(err)
	}
}

// files are all files and directories of the datastores, without those of VMs.
func (s *site) files() []string {
	s.Helper()
	return s.sim.Files()
}

// old makes all that is there old enough to be nobody's any more.
func (s *site) old() {
	s.Helper()
	then := time.Now().Add(-longAgo)
	err := filepath.WalkDir(s.sim.Dir(), func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(p, then, then)
	})
	if err != nil {
		s.Fatal(err)
	}
}

// whatVICLists is what a VCH would list that restarts now: each entry must be a
// volume, or it lists none (VIC, lib/portlayer/storage/volume/vsphere/store.go:172-207).
func (s *site) whatVICLists() []string {
	s.Helper()
	entries, err := os.ReadDir(filepath.Join(s.root, "volumes"))
	if err != nil {
		s.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		dir := filepath.Join(s.root, "volumes", e.Name())
		content, err := os.ReadFile(filepath.Join(dir, "imageMetadata", volume.MetadataKey))
		if err != nil {
			s.Errorf("VIC would list no volume at all: %v", err)
			continue
		}
		if m, err := volume.DecodeMetadata(content); err != nil || m.Name != e.Name() {
			s.Errorf("VIC would fail on the metadata of %s: %s, %v", e.Name(), content, err)
		}
		for _, file := range []string{e.Name() + ".vmdk", e.Name() + "-flat.vmdk"} {
			if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
				s.Errorf("volume %s has no disk: %v", e.Name(), err)
			}
		}
		names = append(names, e.Name())
	}
	return names
}

// clean makes everything old, and cleans. What is being imported is in vCenter's hands
// until its lease ends.
func (s *site) clean() (leftovers int) {
	s.Helper()
	s.old()
	var last error
	err := wait.PollUntilContextTimeout(s.Context(), 100*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) {
		found, err := s.stores.Leftovers(ctx)
		if err == nil {
			leftovers = max(leftovers, len(found))
			err = s.stores.Clean(ctx, found...)
		}
		last = err
		return err == nil, nil
	})
	if err != nil {
		s.Fatal(errors.Join(err, last))
	}
	return leftovers
}

// onlyVolumesAreNew expects no file that is new but those of volumes.
func (s *site) onlyVolumesAreNew() {
	s.Helper()
	debris := slices.DeleteFunc(s.news(), func(f string) bool { return strings.Contains(f, "/volumes/") })
	if len(debris) > 0 {
		s.Errorf("debris: %v", debris)
	}
}

// isFrame says that a directory is one that stores keep.
func isFrame(f string) bool {
	f = strings.TrimSuffix(f, "/")
	for _, frame := range []string{"mcm-volumes", "mcm-volumes/new", "mcm-volumes/removed"} {
		if strings.HasSuffix(f, "/"+frame) {
			return true
		}
	}
	return false
}

// news are the files that are new, but for directories that stores keep.
func (s *site) news() []string {
	s.Helper()
	var out []string
	for _, f := range s.files() {
		if !slices.Contains(s.before, f) && !isFrame(f) {
			out = append(out, f)
		}
	}
	return out
}

// rootOf is the directory of a store in the simulator's files.
func (s *site) rootOf(label string) string {
	s.Helper()
	root := s.sim.LocalPath(s.sim.VolumeStore(label))
	if root == "" {
		s.Fatalf("the VCH has no store %s", label)
	}
	return root
}

// fsck has the file system of a volume checked.
func (s *site) fsck(name string) {
	s.Helper()
	out, err := exec.CommandContext(s.Context(), "e2fsck", "-fn", s.flat(name)).CombinedOutput()
	if err != nil {
		s.Errorf("check volume %s: %v\n%s", name, err, out)
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/cli"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// onStores runs vchctl on the volume stores of the VCH.
func (w world) onStores(ctx context.Context, t *testing.T, args ...string) result {
	t.Helper()
	env := w.govc(t)
	var stdout, stderr bytes.Buffer
	code := cli.Run(ctx, args, cli.Options{
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Env: func(name string) string { return env[name] }, Owner: "vchctl of a test",
	})
	return result{code, stdout.String(), stderr.String()}
}

// volumeFiles are the files of volume stores on the datastores, without directories.
func (w world) volumeFiles() []string {
	return slices.DeleteFunc(w.Files(), func(name string) bool { return !strings.Contains(name, "volumes/") || strings.HasSuffix(name, "/") })
}

// stableVolumes replaces what differs from run to run.
func (w world) stableVolumes(s string) string {
	s = regexp.MustCompile(`\b\d+[smhd]\b`).ReplaceAllString(s, "AGE")
	s = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z`).ReplaceAllString(s, "TIME")
	return regexp.MustCompile(` {3,}`).ReplaceAllString(w.stable(s), "   ")
}

func TestAVolumesLifeOnADatastore(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true})
	ctx := t.Context()
	before := w.volumeFiles()
	made := w.onStores(ctx, t, "volume", "create", "--capacity", "64Mi", "--store", vchsim.FastStore, "--label", "team=a", "data")
	if made != (result{0, "data\n", ""}) {
		t.Fatalf("got %+v", made)
	}
	if got := w.onStores(ctx, t, "volume", "create", "data"); got.code != 1 || !strings.Contains(got.stderr, "data.vmdk") || !strings.Contains(got.stderr, vchsim.FastStore) {
		t.Errorf("got %+v", got)
	}

	spec := w.spec()
	spec.Volumes = []v1alpha1.Volume{{Name: "data", MountPath: "/data"}, {MountPath: "/cache"}}
	w.machineOf(t, "worker-a", spec, false)
	listed := w.onStores(ctx, t, "volume", "ls")
	if listed.code != 0 || listed.stderr != "" {
		t.Errorf("got %+v", listed)
	}
	golden(t, "datastore-volumes.txt", w.stableVolumes(listed.stdout))
	inspected := w.onStores(ctx, t, "volume", "inspect", "data")
	golden(t, "datastore-volume-inspect.json", w.stableVolumes(inspected.stdout))
	var volumes []struct {
		Disk  string
		Users []struct{ Name, VM string }
	}
	if err := json.Unmarshal([]byte(inspected.stdout), &volumes); err != nil || len(volumes) != 1 || len(volumes[0].Users) != 1 {
		t.Fatalf("%v, got %+v", err, inspected)
	}

	held := w.volumeFiles()
	user := volumes[0].Users[0]
	refused := w.onStores(ctx, t, "volume", "rm", "data")
	if refused.code != 1 || refused.stdout != "" || !strings.Contains(refused.stderr, user.Name+" ("+user.VM+")") {
		t.Errorf("got %+v", refused)
	}
	if got := w.onStores(ctx, t, "volume", "prune", "--yes"); got.code != 0 || got.stdout != "" {
		t.Errorf("got %+v", got)
	}
	if now := w.volumeFiles(); !slices.Equal(held, now) {
		t.Errorf("there were %q, and are %q", held, now)
	}

	// The machine takes its anonymous volume with it, and leaves the other.
	w.remove(t, "worker-a", spec)
	if got := w.onStores(ctx, t, "volume", "ls", "-q"); got.stdout != "data\n"+vchsim.Volume+"\n" {
		t.Errorf("got %+v", got)
	}
	if got := w.onStores(ctx, t, "volume", "rm", "data"); got != (result{0, "removed data\n", ""}) {
		t.Errorf("got %+v", got)
	}
	if now := w.volumeFiles(); !slices.Equal(before, now) {
		t.Errorf("there were %q, and are %q", before, now)
	}
	if n := w.Sessions(); n != 0 {
		t.Errorf("%d sessions are left in vCenter", n)
	}
}

func TestWhatIsStrayOnADatastoreIsFoundAndRemoved(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true})
	ctx := t.Context()
	store := filepath.Join(w.Dir(), "datastores", vchsim.Datastore, w.VCHName+"-volumes")
	half := filepath.Join(store, "mcm-volumes", "new", "half."+strings.Repeat("0", 32))
	for _, dir := range []string{filepath.Join(store, "volumes", "backup"), filepath.Join(half, "half")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	old := time.Now().Add(-time.Hour)
	for _, dir := range []string{filepath.Join(half, "half"), half} {
		if err := os.Chtimes(dir, old, old); err != nil {
			t.Fatal(err)
		}
	}
	doctor := func(wantCode int, want ...string) {
		t.Helper()
		got := w.onStores(ctx, t, "doctor")
		lines := strings.Join(strings.Fields(got.stdout), " ")
		for _, text := range want {
			if got.code != wantCode || !strings.Contains(lines, text) {
				t.Errorf("%q is missing, exit code %d:\n%s", text, got.code, got.stdout)
			}
		}
	}
	doctor(1, "FAIL volume store default [LocalDS_0] vch-1-volumes: 1 of 2 volumes are damaged: backup (it has no directory imageMetadata",
		"NOTE volume store default 1 leftover of operations that were cut off: [LocalDS_0] vch-1-volumes/mcm-volumes/new/half.", "OK volume store fast [LocalDS_1] vic/vch-1: vsphere-vmdk, 0 volumes, ")
	if got := w.onStores(ctx, t, "volume", "ls"); got.code != 0 || strings.Count(got.stdout, "damaged") != 1 || !strings.HasPrefix(got.stderr, "1 volume is damaged") {
		t.Errorf("got %+v", got)
	}
	if got := w.onStores(ctx, t, "volume", "prune", "--yes"); got.code != 0 || got.stderr != "Removed 1 leftover.\n" {
		t.Errorf("got %+v", got)
	}
	if got := w.onStores(ctx, t, "volume", "rm", "backup"); got != (result{0, "removed backup\n", ""}) {
		t.Errorf("got %+v", got)
	}
	doctor(0, "OK volume store default [LocalDS_0] vch-1-volumes: vsphere-vmdk, 1 volume, ")
}

func TestADryRunSendsNothingThatChangesAVolumeStore(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true})
	before := w.Files()
	w.ResetCounters()
	for _, args := range [][]string{{"prune", "--all", "--dry-run"}, {"rm", "--dry-run", vchsim.Volume}, {"ls"}, {"inspect", vchsim.Volume}} {
		if got := w.onStores(t.Context(), t, append([]string{"volume"}, args...)...); got.code != 0 || !strings.Contains(got.stdout, vchsim.Volume) {
			t.Errorf("%s: got %+v", args, got)
		}
	}
	reads := []string{
		"Login", "Logout", "RetrieveServiceContent", "FindByInventoryPath", "FindChild", "RetrieveProperties", "RetrievePropertiesEx", "ContinueRetrievePropertiesEx",
		"CreateContainerView", "CreateListView", "ModifyListView", "DestroyView", "CreateFilter", "CreatePropertyCollector", "DestroyPropertyCollector", "DestroyPropertyFilter", "WaitForUpdatesEx", "CancelWaitForUpdates",
		"SearchDatastore_Task", "SearchDatastoreSubFolders_Task", "CurrentTime", "GET /folder", "HEAD /folder", "GET /sdk",
	}
	for _, method := range slices.Sorted(maps.Keys(w.Calls())) {
		if !slices.Contains(reads, method) {
			t.Errorf("%s was called", method)
		}
	}
	if diff := cmp.Diff(before, w.Files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAVMThatComesMeanwhileKeepsItsVolume(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true})
	spec := w.spec()
	spec.Volumes = []v1alpha1.Volume{{Name: vchsim.Volume, MountPath: "/data"}}
	before := w.volumeFiles()
	// The removal begins when the plan is made; its first step is to make a directory.
	var once sync.Once
	defer w.OnCall("MakeDirectory", func() {
		once.Do(func() { w.machineOf(t, "worker-a", spec, false) })
	})()
	got := w.onStores(t.Context(), t, "volume", "prune", "--all", "--yes")
	if got.code != 1 || strings.Contains(got.stdout, "removed") || !strings.Contains(got.stderr, "worker-a") || !strings.Contains(got.stderr, "Removed nothing.") {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff(before, w.volumeFiles()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

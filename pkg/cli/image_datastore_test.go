// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/cli"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// onDatastore runs vchctl image on the store that is on the datastore, with a wait
// that is hardly one.
func (w world) onDatastore(ctx context.Context, t *testing.T, args ...string) result {
	t.Helper()
	env := w.govc(t)
	var stdout, stderr bytes.Buffer
	code := cli.Run(ctx, append([]string{"image"}, args...), cli.Options{
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Env: func(name string) string { return env[name] },
		Owner: "vchctl of a test", Settle: time.Millisecond,
	})
	return result{code, stdout.String(), stderr.String()}
}

// imageFiles are the files of image disks on the datastore, without directories.
func (w world) imageFiles() []string {
	return slices.DeleteFunc(w.Files(), func(name string) bool { return !strings.Contains(name, "mcm-images") || strings.HasSuffix(name, "/") })
}

// stableImages replaces what differs from run to run.
func (w world) stableImages(s string) string {
	s = strings.ReplaceAll(s, w.Registry().Host(), "REGISTRY")
	s = regexp.MustCompile(`\b[0-9a-f]{12,64}\b`).ReplaceAllString(s, "HEX")
	s = regexp.MustCompile(`[0-9.]+ [KM]iB`).ReplaceAllString(s, "N MiB")
	s = regexp.MustCompile(`\b\d+s\b`).ReplaceAllString(s, "AGE")
	return regexp.MustCompile(` {3,}`).ReplaceAllString(w.stable(s), "   ")
}

func TestAnImagesLifeOnADatastore(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true, Registry: &images.Options{}})
	ctx := t.Context()
	pulled := w.onDatastore(ctx, t, "pull", "--size", "100Mi", "--temp-dir", t.TempDir(), "--insecure-registry", w.Registry().Host(), w.NodeImage())
	if pulled.code != 0 {
		t.Fatalf("got %+v", pulled)
	}
	golden(t, "datastore-pull.txt", w.stableImages(pulled.stdout))

	var disk struct {
		Digest, Path string
		Users        []struct{ Name, VM string }
	}
	inspect := func(arg string) {
		t.Helper()
		got := w.onDatastore(ctx, t, "inspect", arg)
		if err := json.Unmarshal([]byte(got.stdout), &disk); err != nil {
			t.Fatalf("%v, %+v", err, got)
		}
	}
	inspect(w.NodeImage())
	inspect(disk.Digest[:len("sha256:")+6])
	if len(disk.Users) != 0 || !strings.Contains(pulled.stdout, disk.Path) {
		t.Errorf("got %+v, pulled was %s", disk, pulled.stdout)
	}

	spec := w.spec()
	spec.RootDisk.VMDK = disk.Path
	w.machineOf(t, "worker-a", spec, false)
	if inspect(w.NodeImage()); len(disk.Users) != 1 {
		t.Errorf("got %+v", disk)
	}
	listed := w.onDatastore(ctx, t, "ls")
	golden(t, "datastore-ls.txt", w.stableImages(listed.stdout))

	before := w.imageFiles()
	refused := w.onDatastore(ctx, t, "rm", w.NodeImage())
	if refused.code != 1 || !strings.Contains(refused.stderr, "it has children in "+disk.Users[0].Name+" ("+disk.Users[0].VM+"); delete their machines first") {
		t.Errorf("got %+v", refused)
	}
	if got := w.onDatastore(ctx, t, "prune", "--all"); got.code != 0 || got.stderr != "Nothing to remove.\n" {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff(before, w.imageFiles()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}

	w.remove(t, "worker-a", spec)
	removed := w.onDatastore(ctx, t, "rm", w.NodeImage())
	if removed.code != 0 || !strings.HasPrefix(removed.stdout, "removed ") {
		t.Errorf("got %+v", removed)
	}
	if files := w.imageFiles(); len(files) > 0 {
		t.Errorf("%q are left", files)
	}
	if n := w.Sessions(); n != 0 {
		t.Errorf("%d sessions are left in vCenter", n)
	}
}

func TestADryRunSendsNothingThatChangesADatastore(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true, Registry: &images.Options{}})
	ctx := t.Context()
	if got := w.onDatastore(ctx, t, "pull", "--size", "100Mi", "--temp-dir", t.TempDir(), "--insecure-registry", w.Registry().Host(), w.NodeImage()); got.code != 0 {
		t.Fatalf("got %+v", got)
	}
	before := w.Files()
	w.ResetCounters()
	got := w.onDatastore(ctx, t, "prune", "--all", "--dry-run")
	if got.code != 0 || !strings.Contains(got.stdout, w.NodeImage()) {
		t.Errorf("got %+v", got)
	}
	reads := []string{
		"Login", "Logout", "RetrieveServiceContent", "FindByInventoryPath", "FindChild", "RetrieveProperties", "RetrievePropertiesEx", "ContinueRetrievePropertiesEx",
		"CreateContainerView", "CreateListView", "ModifyListView", "DestroyView", "CreateFilter", "CreatePropertyCollector", "DestroyPropertyCollector", "DestroyPropertyFilter", "WaitForUpdatesEx", "CancelWaitForUpdates",
		"SearchDatastore_Task", "SearchDatastoreSubFolders_Task", "CurrentTime", "GET /folder", "GET /sdk",
	}
	for _, method := range slices.Sorted(maps.Keys(w.Calls())) {
		if !slices.Contains(reads, method) {
			t.Errorf("%s was called", method)
		}
	}
	if diff := cmp.Diff(before, w.Files()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := w.onDatastore(ctx, t, "prune", "--all"); got.code != 0 || len(w.imageFiles()) > 0 {
		t.Errorf("got %+v, %q are left", got, w.imageFiles())
	}
}

func TestInterruptedUploadLeavesNothingOnTheDatastore(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true, Registry: &images.Options{}})
	ctx, interrupt := context.WithCancel(t.Context())
	// The disk is extended when its content is there.
	defer w.OnCall("ExtendVirtualDisk_Task", interrupt)()
	dir := t.TempDir()
	got := w.onDatastore(ctx, t, "pull", "--size", "100Mi", "--temp-dir", dir, "--insecure-registry", w.Registry().Host(), w.NodeImage())
	if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "context canceled") {
		t.Errorf("got %+v", got)
	}
	left, err := os.ReadDir(dir)
	if files := w.imageFiles(); err != nil || len(files)+len(left) > 0 {
		t.Errorf("%q and %v are left, %v", files, left, err)
	}
	if n := w.Sessions(); n != 0 {
		t.Errorf("%d sessions are left in vCenter", n)
	}
}

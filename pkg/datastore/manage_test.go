// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package datastore_test

import (
	"context"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// worlds runs a test on each kind of datastore.
func worlds(t *testing.T, f func(t *testing.T, w *world)) {
	t.Parallel()
	for name, vsan := range map[string]bool{"VMFS": false, "vSAN": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newWorld(t, vchsim.Options{VSAN: vsan}, vcenter.Options{}))
		})
	}
}

func TestMakingADirectoryIsOneAtomicStep(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		must(t, w.files.MakeDirectory(t.Context(), "top", false))
		wantKind(t, "top again", w.files.MakeDirectory(t.Context(), "top", false), errdefs.AlreadyExists, w.files.Path("top"))
		must(t, w.files.MakeDirectory(t.Context(), "top", true))
		wantKind(t, "no parent", w.files.MakeDirectory(t.Context(), "top/a/b", false), errdefs.NotFound, w.files.Path("top/a/b"))
		var won atomic.Int32
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				switch err := w.files.MakeDirectory(t.Context(), "top/lock", false); {
				case err == nil:
					won.Add(1)
				case !errdefs.Is(err, errdefs.AlreadyExists):
					t.Error(err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Errorf("%d made the same directory", won.Load())
		}
		must(t, w.files.MakeDirectory(t.Context(), "other/a/b", true))
		must(t, w.files.MakeDirectory(t.Context(), "other/a/b", true))
		must(t, w.files.MakeDirectory(t.Context(), "other/a/c", true))
		must(t, w.files.MakeDirectory(t.Context(), "other/a/d", false))
		tree, err := w.files.Tree(t.Context(), "other")
		must(t, err)
		if _, ok := tree["a/b"]; !ok || len(tree) != 5 {
			t.Errorf("tree %v", tree)
		}
	})
}

func TestDirectoriesAreListed(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		must(t, w.files.MakeDirectory(t.Context(), "x/d/empty", true))
		must(t, w.files.MakeDirectory(t.Context(), "x/d/e", true))
		w.write("x/b.json", "12345")
		w.write("x/a.json", "123")
		w.write("x/d/deep.txt", "1")
		ignore := cmpopts.IgnoreFields(datastore.Entry{}, "Modified")
		got, err := w.files.List(t.Context(), "x", "*")
		must(t, err)
		want := []datastore.Entry{{Name: "a.json", Size: 3}, {Name: "b.json", Size: 5}, {Name: "d", Dir: true}}
		if diff := cmp.Diff(want, got, ignore); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if since := time.Since(got[0].Modified); since < 0 || since > time.Hour {
			t.Errorf("modified %s", got[0].Modified)
		}
		got, err = w.files.List(t.Context(), "x", "b*")
		if err != nil || len(got) != 1 || got[0].Name != "b.json" {
			t.Errorf("%v, %v", got, err)
		}
		tree, err := w.files.Tree(t.Context(), "x")
		must(t, err)
		wantTree := map[string][]datastore.Entry{
			"":        want,
			"d":       {{Name: "deep.txt", Size: 1}, {Name: "e", Dir: true}, {Name: "empty", Dir: true}},
			"d/e":     {},
			"d/empty": {},
		}
		if diff := cmp.Diff(wantTree, tree, ignore); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		sub, err := w.files.Tree(t.Context(), "x/d")
		must(t, err)
		if len(sub) != 3 || len(sub[""]) != 3 {
			t.Errorf("tree of x/d: %v", sub)
		}
		root, err := w.files.List(t.Context(), "", "*")
		must(t, err)
		if !slices.ContainsFunc(root, func(e datastore.Entry) bool { return e.Dir && e.Name == "x" }) {
			t.Errorf("the datastore has %v, want x by its name", root)
		}
		_, err = w.files.List(t.Context(), "x/none", "*")
		wantKind(t, "list", err, errdefs.NotFound, w.files.Path("x/none"))
		_, err = w.files.Tree(t.Context(), "x/none")
		wantKind(t, "tree", err, errdefs.NotFound, w.files.Path("x/none"))
		if dir, err := w.files.List(t.Context(), "x/d/e", "*"); err != nil || len(dir) != 0 {
			t.Errorf("empty directory: %v, %v", dir, err)
		}
	})
}

func TestFilesAndDirectoriesAreMovedAndDeleted(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		must(t, w.files.MakeDirectory(t.Context(), "x/d", true))
		w.write("x/d/f", "1")
		w.write("x/g", "2")
		must(t, w.files.Move(t.Context(), "x/g", "x/d/h"))
		wantKind(t, "move onto a file", w.files.Move(t.Context(), "x/d/f", "x/d/h"), errdefs.AlreadyExists)
		wantKind(t, "move an absent file", w.files.Move(t.Context(), "x/g", "x/i"), errdefs.NotFound)
		must(t, w.files.Move(t.Context(), "x/d", "x/e"))
		if got, err := w.files.Read(t.Context(), "x/e/h", 10); err != nil || string(got) != "2" {
			t.Errorf("%q, %v", got, err)
		}
		must(t, w.files.Delete(t.Context(), "x/e/f"))
		must(t, w.files.Delete(t.Context(), "x/e/f"))
		must(t, w.files.Delete(t.Context(), "x/e"))
		must(t, w.files.Delete(t.Context(), "x/e"))
		if got, err := w.files.List(t.Context(), "x", "*"); err != nil || len(got) != 0 {
			t.Errorf("left %v, %v", got, err)
		}
	})
}

func TestResolveTellsTheIdOfTopLevelDirectories(t *testing.T) {
	worlds(t, func(t *testing.T, w *world) {
		must(t, w.files.MakeDirectory(t.Context(), "x/d", true))
		w.write("x/d/f", "1")
		got, err := w.files.Resolve(t.Context(), "x/d/f")
		must(t, err)
		top, rest, _ := strings.Cut(got, "/")
		if w.options.Type != "vsan" {
			if got != "x/d/f" {
				t.Errorf("%q, want it as it is", got)
			}
			return
		}
		if len(top) != 36 || rest != "d/f" {
			t.Errorf("%q, want an id and d/f", got)
		}
		if content, err := w.files.Read(t.Context(), got, 10); err != nil || string(content) != "1" {
			t.Errorf("by its id: %q, %v", content, err)
		}
		if again, err := w.files.Resolve(t.Context(), got); err != nil || again != got {
			t.Errorf("%q of %q, %v", again, got, err)
		}
		if dir, err := w.files.Resolve(t.Context(), "x"); err != nil || dir != top {
			t.Errorf("%q, %v", dir, err)
		}
	})
}

func TestDisksAreExtendedCopiedAndDeleted(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	const size = 8 << 20
	content := pattern(3 << 20)
	disk := w.flat("a", "disk", content, 4<<20, "")
	must(t, w.files.ExtendDisk(t.Context(), disk, size))
	flat := w.content("a/disk-flat.vmdk")
	if len(flat) != size || !slices.Equal(flat[:len(content)], content) || slices.ContainsFunc(flat[len(content):], func(b byte) bool { return b != 0 }) {
		t.Error("the extended disk has another content")
	}
	if !strings.Contains(string(w.content(disk)), "RW 16384 VMFS") || !strings.Contains(string(w.content(disk)), "CID=12345678") {
		t.Errorf("descriptor %s", w.content(disk))
	}
	for _, bad := range []int64{0, -1024, 1025} {
		wantKind(t, "a bad size", w.files.ExtendDisk(t.Context(), disk, bad), errdefs.InvalidArgument, itoa(bad))
	}
	if err := w.files.ExtendDisk(t.Context(), disk, 1<<20); err == nil {
		t.Error("a disk was made smaller")
	}
	wantKind(t, "an absent disk", w.files.ExtendDisk(t.Context(), "a/none.vmdk", size), errdefs.NotFound)

	must(t, w.files.MakeDirectory(t.Context(), "b", false))
	must(t, w.files.CopyDisk(t.Context(), disk, "b/copy.vmdk"))
	if !slices.Equal(w.content("b/copy-flat.vmdk"), flat) || !strings.Contains(string(w.content("b/copy.vmdk")), `"copy-flat.vmdk"`) {
		t.Error("the copy differs")
	}
	wantKind(t, "copy onto a disk", w.files.CopyDisk(t.Context(), disk, "b/copy.vmdk"), errdefs.AlreadyExists)
	wantKind(t, "copy an absent disk", w.files.CopyDisk(t.Context(), "a/none.vmdk", "b/none.vmdk"), errdefs.NotFound)

	must(t, w.files.DeleteDisk(t.Context(), disk))
	w.has("a")
	must(t, w.files.DeleteDisk(t.Context(), disk))
	w.has("b", "copy.vmdk", "copy-flat.vmdk")
	must(t, os.Remove(w.local("b/copy.vmdk")))
	must(t, w.files.DeleteDisk(t.Context(), "b/copy.vmdk"))
	w.has("b")
	must(t, w.files.DeleteDisk(t.Context(), w.flat("c", "half", nil, 1<<20, "")))
	half := w.flat("c", "half", nil, 1<<20, "")
	must(t, os.Remove(w.local("c/half-flat.vmdk")))
	must(t, w.files.DeleteDisk(t.Context(), half))
	w.has("c")
}

func TestADiskThatIsMarkedIsDeletedAllTheSame(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	for _, mark := range []string{"ddb.deletable = \"false\"\n", "ddb.a = \"1\"\nddb.deletable=\"false\"\nddb.z = \"2\""} {
		must(t, w.files.DeleteDisk(t.Context(), w.flat("a", "disk", []byte("x"), 1<<20, mark)))
		w.has("a")
	}
	// Without a mark the first answer counts.
	disk := w.flat("a", "disk", []byte("x"), 1<<20, "")
	must(t, w.sim.SetFault(vchsim.FaultRule{Method: "DeleteVirtualDisk_Task", Kind: "task:FileLocked"}))
	w.sim.ResetCounters()
	wantKind(t, "locked", w.files.DeleteDisk(t.Context(), disk), errdefs.Aborted, "FileLocked")
	if calls := w.sim.Calls(); calls["DeleteVirtualDisk_Task"] != 1 || calls["PUT /folder"] != 0 {
		t.Errorf("calls %v", calls)
	}
	w.has("a", "disk.vmdk", "disk-flat.vmdk")
}

func TestFaultsOfVCenterKeepTheirKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	disk := w.flat("a", "disk", []byte("x"), 1<<20, "")
	for method, call := range map[string]func() error{
		"MakeDirectory":            func() error { return w.files.MakeDirectory(t.Context(), "a/b", false) },
		"DeleteDatastoreFile_Task": func() error { return w.files.Delete(t.Context(), "a/none") },
		"MoveDatastoreFile_Task":   func() error { return w.files.Move(t.Context(), disk, "a/c") },
		"ExtendVirtualDisk_Task":   func() error { return w.files.ExtendDisk(t.Context(), disk, 2<<20) },
		"CopyVirtualDisk_Task":     func() error { return w.files.CopyDisk(t.Context(), disk, "a/c.vmdk") },
		"DeleteVirtualDisk_Task":   func() error { return w.files.DeleteDisk(t.Context(), disk) },
		"SearchDatastore_Task":     func() error { _, err := w.files.List(t.Context(), "a", "*"); return err },
		"SearchDatastoreSubFolders_Task": func() error {
			_, err := w.files.Tree(t.Context(), "a")
			return err
		},
	} {
		for fault, kind := range map[string]errdefs.Kind{
			"NoDiskSpace":              errdefs.ResourceExhausted,
			"FileAlreadyExists":        errdefs.AlreadyExists,
			"FileLocked":               errdefs.Aborted,
			"NoPermission":             errdefs.PermissionDenied,
			"FileNotFound":             errdefs.NotFound,
			vchsim.KindHTTP503:         errdefs.Unavailable,
			vchsim.KindConnectionReset: errdefs.Unavailable,
		} {
			if fault == "FileNotFound" && strings.HasPrefix(method, "Delete") {
				continue // no error
			}
			for _, prefix := range []string{"", "task:"} {
				rule := vchsim.FaultRule{Method: method, Kind: prefix + fault}
				w.sim.ClearFaults()
				if w.sim.SetFault(rule) != nil {
					continue // no task, or no fault
				}
				wantKind(t, method+" meets "+rule.Kind, call(), kind, "["+vchsim.Datastore+"] a")
			}
		}
	}
	w.sim.ClearFaults()
	w.has("a", "disk.vmdk", "disk-flat.vmdk")
}

func TestACopyIsCancelledWithItsContext(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{Latency: time.Millisecond}, vcenter.Options{})
	disk := w.flat("a", "disk", []byte("x"), 1<<20, "")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w.sim.OnCall("CreateFilter", cancel)
	wantKind(t, "copy", w.files.CopyDisk(ctx, disk, "a/copy.vmdk"), errdefs.Canceled, "copy disk")
	if n := w.sim.Calls()["CancelTask"]; n != 1 {
		t.Errorf("the task was cancelled %d times", n)
	}
	must(t, w.files.DeleteDisk(t.Context(), "a/copy.vmdk"))
	w.has("a", "disk.vmdk", "disk-flat.vmdk")
}

func TestWhatEachMethodCosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{})
	wait := func(method string) map[string]int {
		return map[string]int{method: 1, "ModifyListView": 1}
	}
	search := func(method string) map[string]int {
		calls := wait(method)
		calls["RetrievePropertiesEx"] = 1
		return calls
	}
	must(t, w.files.MakeDirectory(t.Context(), "a", true))
	if _, err := w.files.List(t.Context(), "a", "*"); err != nil { // the first wait of a session makes its collector
		t.Fatal(err)
	}
	var disk string
	for _, tc := range []struct {
		name string
		want map[string]int
		call func() error
	}{
		{"MakeDirectory", map[string]int{"MakeDirectory": 1}, func() error { return w.files.MakeDirectory(t.Context(), "a/b", true) }},
		{"List", search("SearchDatastore_Task"), func() error { _, err := w.files.List(t.Context(), "a", "*"); return err }},
		{"Tree", search("SearchDatastoreSubFolders_Task"), func() error { _, err := w.files.Tree(t.Context(), "a"); return err }},
		{"Move", wait("MoveDatastoreFile_Task"), func() error { return w.files.Move(t.Context(), "a/b", "a/c") }},
		{"Delete", wait("DeleteDatastoreFile_Task"), func() error { return w.files.Delete(t.Context(), "a/c") }},
		{"Resolve", map[string]int{}, func() error { _, err := w.files.Resolve(t.Context(), "a"); return err }},
		{"", nil, func() error { disk = w.flat("a", "disk", []byte("x"), 1<<20, ""); return nil }},
		{"ExtendDisk", wait("ExtendVirtualDisk_Task"), func() error { return w.files.ExtendDisk(t.Context(), disk, 2<<20) }},
		{"CopyDisk", wait("CopyVirtualDisk_Task"), func() error { return w.files.CopyDisk(t.Context(), disk, "a/copy.vmdk") }},
		{"DeleteDisk", wait("DeleteVirtualDisk_Task"), func() error { return w.files.DeleteDisk(t.Context(), disk) }},
	} {
		got := w.calls(tc.call)
		if tc.want == nil {
			continue
		}
		// A task may be seen queued, running and ended, or ended at once.
		if n := got["WaitForUpdatesEx"]; n > 4 {
			t.Errorf("%s polled %d times", tc.name, n)
		}
		delete(got, "WaitForUpdatesEx")
		if diff := cmp.Diff(tc.want, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, diff)
		}
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/cli"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/fake"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// Images of the tests, and names that lead to them.
const (
	nodeName  = "docker.io/rancher/k3s:v1.34.1-k3s1"
	otherName = "registry.example.com/team/node:v2"
	nodeImage = "a1b2c3"
	newImage  = "a1b2ff"
	oldImage  = "0dd0dd"
)

// library is a VCH in a simulated vCenter whose image store is in memory.
type library struct {
	world
	place *fake.Place
	store *fake.Store
	clock *clocktesting.FakeClock
	env   map[string]string

	// stderr gets what commands write there, beside their result, if it is set.
	stderr io.Writer
}

func newLibrary(t *testing.T) *library {
	t.Helper()
	clk := clocktesting.NewFakeClock(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC))
	place := fake.New(fake.Options{Clock: clk})
	l := &library{world: newWorld(t, vchsim.Options{NoForeign: true}), place: place, store: place.Store("a test"), clock: clk}
	l.env = l.govc(t)
	return l
}

// run runs vchctl image.
func (l *library) run(ctx context.Context, args ...string) result {
	return l.command(ctx, append([]string{"image"}, args...)...)
}

// command runs vchctl.
func (l *library) command(ctx context.Context, args ...string) result {
	var stdout, stderr bytes.Buffer
	var errors io.Writer = &stderr
	if l.stderr != nil {
		errors = l.stderr
	}
	code := cli.Run(ctx, args, cli.Options{
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: errors, Env: func(name string) string { return l.env[name] }, Owner: "vchctl of a test",
		Clock: l.clock, ImageStore: func(*vcenter.Client, *vch.Config) image.Store { return l.store },
	})
	return result{code, stdout.String(), stderr.String()}
}

// runs runs a command that waits, and lets the time of the wait pass.
func (l *library) runs(t *testing.T, args ...string) result {
	t.Helper()
	done := make(chan result)
	go func() { done <- l.run(t.Context(), args...) }()
	for {
		select {
		case got := <-done:
			return got
		default:
			if l.clock.HasWaiters() {
				l.clock.Step(fake.DefaultSettle)
			}
			runtime.Gosched()
		}
	}
}

func key(digits string, gib int64) image.Key {
	return image.Key{Digest: "sha256:" + digits + strings.Repeat("0", 64-len(digits)), Size: gib << 30}
}

// publish makes an image disk that a name leads to.
func (l *library) publish(t *testing.T, k image.Key, name string) *image.Disk {
	t.Helper()
	source := func(context.Context, image.Key, image.Report) (image.Content, error) { return content{}, nil }
	disk, err := l.store.Ensure(t.Context(), k, name, source, nil)
	if err != nil {
		t.Fatal(err)
	}
	return disk
}

// content is what all image disks of these tests hold.
type content struct{}

func (content) Description() image.Description {
	return image.Description{
		ConfigDigest: "sha256:" + strings.Repeat("c", 64), UsedBytes: 222_600_000,
		Config: image.Config{Entrypoint: []string{"/bin/k3s"}, Cmd: []string{"agent"}, Env: []string{"PATH=/bin"}, Volumes: []string{"/var/lib/rancher"}},
	}
}
func (content) Raw() (r io.ReaderAt, size int64) { return strings.NewReader("disk"), 4 }
func (content) StreamOptimized(context.Context, image.Report) (r io.ReaderAt, size int64, err error) {
	return nil, 0, errdefs.New(errdefs.Unimplemented, "not here")
}
func (content) Identity() [16]byte { return [16]byte{} }
func (content) Close() error       { return nil }

// fill makes two disks of one image in two sizes, of which a VM has one, a disk
// that its name left for another one, and what a crash left.
func (l *library) fill(t *testing.T) {
	t.Helper()
	l.publish(t, key(oldImage, 8), otherName)
	l.clock.Step(2 * time.Hour)
	l.publish(t, key(newImage, 8), otherName)
	l.clock.Step(30 * time.Minute)
	used := l.publish(t, key(nodeImage, 8), nodeName)
	l.publish(t, key(nodeImage, 8), otherName+"-copy")
	l.publish(t, key(nodeImage, 16), nodeName)
	l.place.Attach(used.Path)
	l.crash(t, key("dead00", 8))
	l.clock.Step(3 * time.Minute)
}

// crash makes what a process leaves that dies during an upload.
func (l *library) crash(t *testing.T, k image.Key) {
	t.Helper()
	dying := l.place.Store("a process that dies")
	dead := false
	dying.Intercept(func(_ context.Context, step string, do func() error) error {
		if dead = dead || step == fake.StepUpload; dead {
			return errdefs.New(errdefs.Unavailable, "the process is dead")
		}
		return do()
	})
	source := func(context.Context, image.Key, image.Report) (image.Content, error) { return content{}, nil }
	if _, err := dying.Ensure(t.Context(), k, "", source, nil); err == nil {
		t.Fatal("it did not die")
	}
}

// disks returns the keys of what is published.
func (l *library) disks(t *testing.T) []image.Key {
	t.Helper()
	disks, err := l.store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var keys []image.Key
	for _, disk := range disks {
		keys = append(keys, disk.Key)
	}
	return keys
}

func TestImagesAreListedInATable(t *testing.T) {
	l := newLibrary(t)
	l.fill(t)
	l.place.AttachHidden()
	for name, args := range map[string][]string{"images.txt": {"ls"}, "images-wide.txt": {"ls", "-o", "wide", "--vch", l.VCHName}, "images.json": {"ls", "-o", "json"}} {
		got := l.run(t.Context(), args...)
		if got.code != 0 || got.stderr != "" {
			t.Fatalf("exit code %d, %s", got.code, got.stderr)
		}
		golden(t, name, got.stdout)
	}
}

func TestAStoreWithoutImagesIsAnEmptyList(t *testing.T) {
	l := newLibrary(t)
	if got, want := l.run(t.Context(), "ls"), (result{0, "", "No image disks found.\n"}); got != want {
		t.Errorf("got %+v", got)
	}
	if got, want := l.run(t.Context(), "ls", "-o", "json"), (result{0, "[]\n", ""}); got != want {
		t.Errorf("got %+v", got)
	}
	if got, want := l.run(t.Context(), "prune"), (result{0, "", "Nothing to remove.\n"}); got != want {
		t.Errorf("got %+v", got)
	}
}

func TestVCHsThatKeepImagesInOnePlaceShareALine(t *testing.T) {
	l := newLibrary(t)
	l.world = newWorld(t, vchsim.Options{}) // has two VCHs
	l.env = l.govc(t)
	l.publish(t, key(nodeImage, 8), nodeName)
	got := l.run(t.Context(), "ls", "-o", "json")
	var disks []struct{ VCHs []string }
	if err := json.Unmarshal([]byte(got.stdout), &disks); err != nil || got.code != 0 {
		t.Fatalf("%v, %+v", err, got)
	}
	if want := []string{"vch-1", "vch-2"}; len(disks) != 1 || !slices.Equal(disks[0].VCHs, want) {
		t.Errorf("got %+v", disks)
	}
	for _, command := range [][]string{{"inspect", nodeName}, {"rm", nodeName}, {"prune"}} {
		got := l.run(t.Context(), command...)
		if want := "vchctl: there are 2 VCHs, for example vch-1 and vch-2; choose one with --vch\n"; got.code != 1 || got.stderr != want {
			t.Errorf("%s: got %+v", command, got)
		}
	}
}

func TestInspectShowsAllAboutADisk(t *testing.T) {
	l := newLibrary(t)
	l.fill(t)
	got := l.run(t.Context(), "inspect", "--size", "8Gi", "rancher/k3s:v1.34.1-k3s1")
	if got.code != 0 || got.stderr != "" {
		t.Fatalf("exit code %d, %s", got.code, got.stderr)
	}
	golden(t, "image-inspect.json", got.stdout)
	if same := l.run(t.Context(), "inspect", "--size", "8Gi", nodeImage); same != got {
		t.Errorf("got %+v", same)
	}
}

func TestRemoveWaitsAndSaysSo(t *testing.T) {
	for _, test := range []struct {
		golden string
		args   []string
		want   []image.Key
	}{
		{"image-rm.txt", []string{"rm", otherName, "--size", "8Gi"}, []image.Key{key(oldImage, 8), key(nodeImage, 8), key(nodeImage, 16)}},
		{"image-rm.json", []string{"rm", otherName, "0dd0dd", "-o", "json"}, []image.Key{key(nodeImage, 8), key(nodeImage, 16)}},
	} {
		t.Run(test.golden, func(t *testing.T) {
			l := newLibrary(t)
			l.fill(t)
			got := l.runs(t, test.args...)
			if want := "waiting 2m0s, so that nobody can be about to use what is removed\n"; got.code != 0 || got.stderr != want {
				t.Errorf("exit code %d, %s", got.code, got.stderr)
			}
			golden(t, test.golden, got.stdout)
			if diff := cmp.Diff(test.want, l.disks(t)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestRemoveLeavesWhatAVMHas(t *testing.T) {
	l := newLibrary(t)
	l.fill(t)
	before := l.disks(t)
	got := l.run(t.Context(), "rm", nodeName, "--size", "8Gi")
	want := "vchctl: image disk a1b2c3000000 of 8Gi (" + nodeName + ", " + otherName + "-copy) stays: it has children in machine-5 (vm-5); delete their machines first\n"
	if got.code != 1 || got.stdout != "" || got.stderr != want {
		t.Errorf("got  %+v\nwant %s", got, want)
	}
	if diff := cmp.Diff(before, l.disks(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// The other size goes all the same.
	got = l.runs(t, "rm", nodeName, "--all-sizes")
	if got.code != 1 || got.stdout != "removed a1b2c3000000 of 16Gi ("+nodeName+")\n" || !strings.HasSuffix(got.stderr, want) {
		t.Errorf("got %+v", got)
	}
	if slices.Contains(l.disks(t), key(nodeImage, 16)) || !slices.Contains(l.disks(t), key(nodeImage, 8)) {
		t.Errorf("what is left is %v", l.disks(t))
	}
}

func TestInterruptedRemovalPutsTheDiskBack(t *testing.T) {
	l := newLibrary(t)
	l.publish(t, key(nodeImage, 8), nodeName)
	ctx, interrupt := context.WithCancel(t.Context())
	go func() {
		for !l.clock.HasWaiters() {
			runtime.Gosched()
		}
		interrupt()
	}()
	got := l.run(ctx, "rm", nodeName)
	if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "context canceled") {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]image.Key{key(nodeImage, 8)}, l.disks(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if n := l.Sessions(); n != 0 {
		t.Errorf("%d sessions are left in vCenter", n)
	}
}

func TestPruneRemovesWhatNobodyNeeds(t *testing.T) {
	for _, test := range []struct {
		golden string
		args   []string
		want   []image.Key
	}{
		{"image-prune.txt", nil, []image.Key{key(nodeImage, 8), key(nodeImage, 16), key(newImage, 8)}},
		{"image-prune-all.txt", []string{"--all"}, []image.Key{key(nodeImage, 8)}},
		{"image-prune.json", []string{"--all", "-o", "json"}, []image.Key{key(nodeImage, 8)}},
	} {
		t.Run(test.golden, func(t *testing.T) {
			l := newLibrary(t)
			l.fill(t)
			dry := l.run(t.Context(), append([]string{"prune", "--dry-run"}, test.args...)...)
			got := l.runs(t, append([]string{"prune"}, test.args...)...)
			if want := "waiting 2m0s, so that nobody can be about to use what is removed\n"; got.code != 0 || got.stderr != want {
				t.Errorf("exit code %d, %s", got.code, got.stderr)
			}
			golden(t, test.golden, got.stdout)
			if strings.Replace(dry.stdout, `"dryRun": true`, `"dryRun": false`, 1) != got.stdout {
				t.Errorf("the dry run shows\n%s", dry.stdout)
			}
			if diff := cmp.Diff(test.want, l.disks(t)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if left, err := l.store.Leftovers(t.Context()); err != nil || len(left) > 0 {
				t.Errorf("%v are left, %v", left, err)
			}
		})
	}
}

func TestPruneNamesTheVMThatKeepsDisks(t *testing.T) {
	l := newLibrary(t)
	l.fill(t)
	hidden := l.place.AttachHidden()
	got := l.run(t.Context(), "prune", "--all", "--dry-run")
	want := "Nothing was changed: without --dry-run, all this is removed.\nDisks stay that might go: vCenter cannot tell which disks " +
		hidden.Name + " (" + hidden.VM + ") has; make it accessible, or unregister it.\n"
	if got.code != 0 || got.stderr != want || strings.Contains(got.stdout, "of 8Gi") {
		t.Errorf("got %+v", got)
	}
}

func TestADryRunChangesNothing(t *testing.T) {
	l := newLibrary(t)
	l.fill(t)
	before := l.place.Files()
	var steps []string
	l.store.Intercept(func(_ context.Context, step string, do func() error) error {
		steps = append(steps, step)
		return do()
	})
	got := l.run(t.Context(), "prune", "--all", "--dry-run")
	if want := "Nothing was changed: without --dry-run, all this is removed.\n"; got.code != 0 || got.stderr != want {
		t.Errorf("got %+v", got)
	}
	for _, step := range steps {
		if step != fake.StepRead && step != fake.StepUsers {
			t.Errorf("step %s", step)
		}
	}
	if diff := cmp.Diff(before, l.place.Files()); diff != "" || len(steps) == 0 {
		t.Errorf("%d steps, (-want +got):\n%s", len(steps), diff)
	}
}

func TestAPruneThatFailsTellsWhatItDid(t *testing.T) {
	l := newLibrary(t)
	l.fill(t)
	leftovers, err := l.store.Leftovers(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	deleted := 0
	l.store.Intercept(func(_ context.Context, step string, do func() error) error {
		mu.Lock()
		defer mu.Unlock()
		if step == fake.StepDelete {
			if deleted++; deleted > len(leftovers) {
				return errdefs.New(errdefs.PermissionDenied, "no privilege Datastore.FileManagement")
			}
		}
		return do()
	})
	got := l.runs(t, "prune", "--all", "-o", "json")
	if got.code != 1 || !strings.Contains(got.stderr, "Datastore.FileManagement") {
		t.Errorf("got %+v", got)
	}
	var answer struct{ Disks []struct{ Digest string } }
	if err := json.Unmarshal([]byte(got.stdout), &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Disks) == 3 {
		t.Errorf("it tells that all are removed: %s", got.stdout)
	}
}

func TestTheTerminalShowsTheWait(t *testing.T) {
	l := newLibrary(t)
	l.publish(t, key(nodeImage, 8), nodeName)
	user, written := openTerminal(t, 60)
	l.stderr = user
	got := l.runs(t, "rm", nodeName)
	screen := written()
	if got.code != 0 || got.stdout != "removed a1b2c3000000 of 8Gi ("+nodeName+")\n" {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(screen, "waiting") {
		t.Errorf("the terminal shows %q", screen)
	}
	// A terminal that cannot move its cursor gets lines.
	l.publish(t, key(nodeImage, 8), nodeName)
	l.env["TERM"] = "dumb"
	user, written = openTerminal(t, 60)
	l.stderr = user
	l.runs(t, "rm", nodeName)
	if screen, want := written(), "waiting 2m0s, so that nobody can be about to use what is removed\r\n"; screen != want {
		t.Errorf("the terminal shows %q", screen)
	}
}

func TestWrongWordsAboutImagesAreRefusedAtOnce(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no reference", []string{"rm", "a b"}, `image "a b": repository "library/a b": want names in lower case`},
		{"a short digest", []string{"inspect", "sha256:12345"}, `digest "sha256:12345": after sha256:, want 6 to 64 digits of 0-9 and a-f`},
		{"a size", []string{"rm", "--size", "8", nodeName}, `--size "8": want whole MiB between 64Mi and 2Ti, such as 8Gi`},
		{"a size to look at", []string{"inspect", "--size", "8GB", nodeName}, `--size "8GB": want whole MiB between 64Mi and 2Ti, such as 8Gi`},
		{"one size and all", []string{"rm", "--size", "8Gi", "--all-sizes", nodeName}, "if any flags in the group [size all-sizes] are set none of the others can be"},
		{"nothing to remove", []string{"rm"}, "requires at least 1 arg(s), only received 0"},
		{"two to look at", []string{"inspect", "a", "b"}, "accepts 1 arg(s), received 2"},
		{"an argument to prune", []string{"prune", "x"}, `unknown command "x" for "vchctl image prune"`},
		{"an output", []string{"rm", "-o", "wide", nodeName}, `--output must be json, got "wide"`},
		{"an output of prune", []string{"prune", "-o", "xml"}, `--output must be json, got "xml"`},
		{"an output of ls", []string{"ls", "-o", "xml"}, `--output must be wide or json, got "xml"`},
		{"no time to wait", []string{"rm", "--timeout", "2m", nodeName}, "--timeout must be longer than 2m0s, which a removal waits, got 2m0s"},
		{"no time for prune", []string{"prune", "--timeout", "1m"}, "--timeout must be longer than 2m0s, which a removal waits, got 1m0s"},
		{"no command", []string{}, "vchctl image needs a command; see vchctl image --help"},
		{"no vCenter", []string{"ls"}, "which vCenter? Give --secret-file or set GOVC_URL, GOVC_USERNAME and GOVC_PASSWORD"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := vchctl(t.Context(), "", nil, append([]string{"image"}, test.args...)...)
			if got.code != 1 || got.stdout != "" || !strings.HasPrefix(got.stderr, "vchctl: "+test.want) || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("got  %+v\nwant %s", got, test.want)
			}
		})
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/imagetest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/virtualdisk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

const nodeName = "registry.example.com/node:v1"

// rawContent is a disk that is all in memory.
type rawContent struct{ raw []byte }

func (rawContent) Identity() [16]byte { return [16]byte{1} }
func (rawContent) Close() error       { return nil }
func (c rawContent) Description() image.Description {
	return image.Description{ConfigDigest: "sha256:" + strings.Repeat("c", 64), UsedBytes: int64(len(c.raw))}
}
func (c rawContent) Raw() (io.ReaderAt, int64) { return bytes.NewReader(c.raw), int64(len(c.raw)) }
func (rawContent) StreamOptimized(context.Context, image.Report) (io.ReaderAt, int64, error) {
	return nil, 0, errdefs.New(errdefs.Internal, "no need to")
}

// rawOf is content of some length.
func rawOf(size int) []byte {
	raw := make([]byte, size)
	for i := range raw {
		raw[i] = byte(i ^ i>>8 ^ i>>16)
	}
	raw[size-1] = 1
	return raw
}

// source makes contents, and counts.
func source(calls *atomic.Int32, size int) image.Source {
	return func(context.Context, image.Key, image.Report) (image.Content, error) {
		calls.Add(1)
		return rawContent{rawOf(size)}, nil
	}
}

// noSource fails the test when it is called.
func (w *world) noSource() image.Source {
	return func(context.Context, image.Key, image.Report) (image.Content, error) {
		w.Error("the source was called")
		return nil, errdefs.New(errdefs.Internal, "the source was called")
	}
}

// make makes a disk with content of some length.
func (w *world) make(s *Store, key image.Key, name string, size int) *image.Disk {
	w.Helper()
	var calls atomic.Int32
	disk, err := s.Ensure(w.Context(), key, name, source(&calls, size), nil)
	if err != nil {
		w.Fatal(err)
	}
	w.wantContent(disk, size)
	return disk
}

func (w *world) wantContent(disk *image.Disk, size int) {
	w.Helper()
	if !bytes.Equal(w.Content(disk.Path), rawOf(size)) {
		w.Errorf("%s has another content", disk.Path)
	}
}

func (w *world) wantKind(what string, err error, kind errdefs.Kind, texts ...string) {
	w.Helper()
	if !errdefs.Is(err, kind) {
		w.Errorf("%s: %v (%s), want %s", what, err, errdefs.KindOf(err), kind)
		return
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			w.Errorf("%s: %q does not say %q", what, err, text)
		}
	}
}

// passing lets time pass while f works.
func (w *world) passing(f func()) {
	w.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	w.passUntil(done)
}

func (w *world) passUntil(done <-chan struct{}) {
	w.Helper()
	poll(w.T, "the operation to end", func() bool {
		select {
		case <-done:
			return true
		default:
			w.Advance(5 * time.Second)
			return false
		}
	})
}

// clean deletes all leftovers, and fails the test if some stay.
func (w *world) clean() {
	w.Helper()
	w.Advance(10 * time.Minute)
	s, _ := w.store(imagetest.Fault{})
	leftovers, err := s.Leftovers(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	w.passing(func() { err = s.Clean(w.Context(), leftovers...) })
	if err != nil {
		w.Fatal(err)
	}
}

// remove removes a disk that nobody uses, and fails the test if anything is left.
func (w *world) remove(key image.Key) {
	w.Helper()
	s, _ := w.store(imagetest.Fault{})
	var err error
	w.passing(func() { _, err = s.Remove(w.Context(), key) })
	if err != nil {
		w.Fatal(err)
	}
	if left := w.Files(); len(left) != 0 {
		w.Errorf("left are %q", left)
	}
}

// calls runs f and returns what it sent, by method.
func (w *world) calls(f func() error) map[string]int {
	w.Helper()
	w.sim.ResetCounters()
	if err := f(); err != nil {
		w.Fatal(err)
	}
	return w.sim.Calls()
}

func sum(calls map[string]int) (n int) {
	for c := range maps.Values(calls) {
		n += c
	}
	return n
}

func TestCallsStayWithinTheBudget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	s, key, ctx := w.plain, testKey("a", 64), t.Context()
	w.make(s, testKey("c", 64), "first", 1<<20) // makes the directories that all disks share
	small := w.calls(func() error { w.make(s, testKey("b", 64), "other", 1<<20); return nil })
	large := w.calls(func() error { w.make(s, key, nodeName, 30<<20); return nil })
	t.Logf("an upload takes %d requests: %v", sum(large), large)
	// How often a task is asked depends on how long it takes.
	delete(small, "WaitForUpdatesEx")
	delete(large, "WaitForUpdatesEx")
	if diff := cmp.Diff(small, large); diff != "" || sum(large) > 50 {
		t.Errorf("an upload takes %d requests (-small +large):\n%s", sum(large), diff)
	}
	for what, tc := range map[string]struct {
		call func() error
		want map[string]int
	}{
		"lookup":           {func() error { _, err := s.Lookup(ctx, nodeName, key.Size); return err }, map[string]int{"GET /folder": 1}},
		"ensure, named":    {func() error { _, err := s.Ensure(ctx, key, nodeName, w.noSource(), nil); return err }, map[string]int{"GET /folder": 2}},
		"ensure, no name":  {func() error { _, err := s.Ensure(ctx, key, "", w.noSource(), nil); return err }, map[string]int{"GET /folder": 1}},
		"ensure, new name": {func() error { _, err := s.Ensure(ctx, key, "new", w.noSource(), nil); return err }, map[string]int{"GET /folder": 2, "PUT /folder": 1}},
		"verify":           {func() error { _, err := s.Verify(ctx, key); return err }, map[string]int{"GET /folder": 1, "HEAD /folder": 2}},
	} {
		if diff := cmp.Diff(tc.want, w.calls(tc.call)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	for what, tc := range map[string]struct {
		call func() error
		most int
	}{
		"find":      {func() error { _, err := s.Find(ctx, key); return err }, 13},
		"list":      {func() error { _, err := s.List(ctx); return err }, 18},
		"leftovers": {func() error { _, err := s.Leftovers(ctx); return err }, 20},
		"users":     {func() error { _, err := s.Users(ctx, key); return err }, 3},
	} {
		if calls := w.calls(tc.call); sum(calls) > tc.most {
			t.Errorf("%s takes %d requests, the budget is %d: %v", what, sum(calls), tc.most, calls)
		}
	}
}

func TestUsersTakeFewCallsInALargeInventory(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{OtherVMs: 1100})
	key := testKey("a", 64)
	user := w.Attach(w.make(w.plain, key, "", 1<<20).Path)
	var users map[image.Key][]image.User
	calls := w.calls(func() (err error) {
		users, err = w.plain.Users(t.Context(), key)
		return err
	})
	if diff := cmp.Diff(map[image.Key][]image.User{key: {user}}, users); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if sum(calls) > 8 {
		t.Errorf("%d requests: %v", sum(calls), calls)
	}
	if calls["ContinueRetrievePropertiesEx"] == 0 {
		t.Errorf("all VMs came in one answer: %v", calls)
	}
}

func TestTenProcessesThatWantOneAbsentDiskUploadItOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	const size = 2 << 20
	key := testKey("a", 64)
	var calls atomic.Int32
	var waiting sync.Map
	release := make(chan struct{})
	src := func(ctx context.Context, key image.Key, report image.Report) (image.Content, error) {
		report(image.Progress{Stage: image.Converting, Done: 62, Total: 100})
		<-release
		return source(&calls, size)(ctx, key, report)
	}
	w.sim.ResetCounters()
	var all sync.WaitGroup
	var paths sync.Map
	for i := range 10 {
		s := New(Options{Client: w.session(vcenter.Options{}), Host: w.host, Owner: fmt.Sprint("process-", i), Clock: w.clock})
		all.Go(func() {
			disk, err := s.Ensure(t.Context(), key, nodeName, src, func(p image.Progress) {
				if p.Owner != "" && p.Stage == image.Converting && p.Done == 62 {
					waiting.Store(i, p.Owner)
				}
			})
			if err != nil {
				t.Error(err)
				return
			}
			paths.Store(disk.Path, disk)
		})
	}
	count := func(m *sync.Map) (n int) {
		m.Range(func(any, any) bool { n++; return true })
		return n
	}
	poll(t, "nine to see the tenth's progress", func() bool {
		w.Advance(DefaultPoll)
		return count(&waiting) == 9
	})
	owners := map[any]bool{}
	waiting.Range(func(_, owner any) bool { owners[owner] = true; return true })
	if len(owners) != 1 {
		t.Errorf("there are several owners: %v", owners)
	}
	close(release)
	done := make(chan struct{})
	go func() {
		defer close(done)
		all.Wait()
	}()
	w.passUntil(done)
	if calls.Load() != 1 || count(&paths) != 1 {
		t.Errorf("%d sources were called, and %d disks returned", calls.Load(), count(&paths))
	}
	if n := w.sim.BytesReceived(); n < size || n > size+size/20 {
		t.Errorf("%d bytes were sent, the disk has %d", n, size)
	}
	w.remove(key)
}

// frozen is a store whose process stops at a step, until it is let go.
type frozen struct {
	*seam
	at   int32
	n    atomic.Int32
	here chan struct{}
	once sync.Once
	thaw chan struct{}
}

func TestAProcessThatSleepsAtAnyPointBreaksNothingUnderFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	key := testKey("a", 64)
	for step := int32(1); ; step++ {
		w.mu.Lock()
		w.stores++
		w.mu.Unlock()
		var calls atomic.Int32
		// Its clock goes on, and nobody waits for it.
		slow := New(Options{Client: w.client, Host: w.host, Owner: "slow", Clock: w.clock.FakeClock})
		f := &frozen{at: step, here: make(chan struct{}), thaw: make(chan struct{})}
		m := newSeam(w, slow, imagetest.Fault{})
		m.before = func(string) {
			if f.n.Add(1) >= f.at {
				f.once.Do(func() { close(f.here) })
				<-f.thaw
			}
		}
		ended := make(chan struct{})
		var disk *image.Disk
		var err error
		go func() {
			defer close(ended)
			disk, err = slow.Ensure(t.Context(), key, nodeName, source(&calls, 1<<20), nil)
		}()
		select {
		case <-f.here:
		case <-ended: // it has fewer steps
		}
		other, _ := w.store(imagetest.Fault{})
		var otherErr error
		var made *image.Disk
		w.passing(func() { made, otherErr = other.Ensure(t.Context(), key, nodeName, source(&calls, 1<<20), nil) })
		if otherErr != nil {
			t.Fatalf("while another one sleeps at step %d: %v", step, otherErr)
		}
		close(f.thaw)
		w.passUntil(ended)
		if err != nil {
			t.Fatalf("who slept at step %d: %v", step, err)
		}
		for _, d := range []*image.Disk{disk, made} {
			w.wantContent(d, 1<<20)
		}
		if disk.Path != made.Path {
			t.Errorf("after a sleep at step %d there are %s and %s", step, disk.Path, made.Path)
		}
		if n := calls.Load(); n > 2 {
			t.Errorf("with a sleep at step %d, %d sources were called", step, n)
		}
		w.clean()
		found, err := other.Lookup(t.Context(), nodeName, key.Size)
		if err != nil || found.Path != made.Path {
			t.Errorf("after a sleep at step %d the name leads to %v, %v", step, found, err)
		}
		w.remove(key)
		if t.Failed() {
			t.Fatalf("that was with a sleep at step %d", step)
		}
		select {
		case <-f.here:
		default:
			t.Logf("it takes %d steps", step-1)
			return
		}
	}
}

func TestARemovalThatSleepsDeletesNothingThatIsWantedAgain(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	key := testKey("a", 64)
	disk := w.make(w.plain, key, nodeName, 1<<20)
	slow := New(Options{Client: w.client, Host: w.host, Owner: "slow", Clock: w.clock.FakeClock})
	thaw, asleep := make(chan struct{}), make(chan struct{})
	var once sync.Once
	m := newSeam(w, slow, imagetest.Fault{})
	m.before = func(string) {
		// It has withdrawn the disk, and beats no more.
		if _, err := w.plain.find(context.WithoutCancel(t.Context()), key); err != nil {
			once.Do(func() { close(asleep) })
			<-thaw
		}
	}
	ended := make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		_, err = slow.Remove(t.Context(), key)
	}()
	poll(t, "the removal to sleep", func() bool {
		select {
		case <-asleep:
			return true
		default:
			w.Advance(time.Second)
			return false
		}
	})
	other, _ := w.store(imagetest.Fault{})
	var again *image.Disk
	w.passing(func() { again, err = other.Ensure(t.Context(), key, nodeName, w.noSource(), nil) })
	if err != nil || again.Path != disk.Path {
		t.Fatalf("ensure: %v, %v; want what was withdrawn", again, err)
	}
	close(thaw)
	w.passUntil(ended)
	w.wantKind("the removal", err, errdefs.Aborted)
	w.wantContent(disk, 1<<20)
	if _, err := other.Find(t.Context(), key); err != nil {
		t.Error(err)
	}
	w.clean()
	w.remove(key)
}

func TestARemovalThatSleepsLeavesTheDiskToTheNextRemoval(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	key := testKey("a", 64)
	disk := w.make(w.plain, key, nodeName, 1<<20)
	slow := New(Options{Client: w.client, Host: w.host, Owner: "slow", Clock: w.clock.FakeClock})
	var asleep atomic.Bool
	thaw := make(chan struct{})
	withdrawn := func() bool {
		_, err := w.plain.find(t.Context(), key)
		return err != nil
	}
	m := newSeam(w, slow, imagetest.Fault{})
	m.before = func(string) {
		if asleep.Load() || withdrawn() {
			asleep.Store(true)
			<-thaw
		}
	}
	remove := func(s *Store) (ended chan struct{}, err *error) {
		ended, err = make(chan struct{}), new(error)
		go func() {
			defer close(ended)
			_, *err = s.Remove(t.Context(), key)
		}()
		return ended, err
	}
	first, firstErr := remove(slow)
	poll(t, "the first removal to sleep", func() bool {
		w.Advance(time.Second)
		return asleep.Load()
	})
	other, _ := w.store(imagetest.Fault{})
	w.passing(func() {
		if _, err := other.Ensure(t.Context(), key, nodeName, w.noSource(), nil); err != nil {
			t.Error(err)
		}
	})
	// The second one has just begun to wait when the first one wakes up, long after its own wait.
	second, secondErr := remove(other)
	poll(t, "the second removal to withdraw", withdrawn)
	close(thaw)
	poll(t, "the first removal to end", func() bool {
		select {
		case <-first:
			return true
		default:
			w.clock.FakeClock.Step(0)
			return false
		}
	})
	w.wantKind("the first removal", *firstErr, errdefs.Aborted)
	w.wantContent(disk, 1<<20)
	w.passUntil(second)
	if *secondErr != nil {
		// What the first one published again, it may have to leave.
		w.wantKind("the second removal", *secondErr, errdefs.Aborted)
		w.remove(key)
	}
	if left := w.Files(); len(left) != 0 {
		t.Errorf("left are %q", left)
	}
}

func TestAMakerWithoutItsLockUploadsNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	s, key := w.plain, testKey("a", 64)
	h, err := s.take(t.Context(), key, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.files.MakeDirectory(t.Context(), s.layout.lock(key, 2), false); err != nil {
		t.Fatal(err)
	}
	w.sim.ResetCounters()
	_, err = s.upload(t.Context(), h, rawContent{rawOf(1 << 20)}, func(image.Progress) {})
	w.wantKind("upload", err, errdefs.Aborted, "took over")
	if n := w.sim.BytesReceived(); n > 10_000 {
		t.Errorf("%d bytes were sent", n)
	}
	if err := h.release(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestWhatIsSweptCannotBePublishedAnyMore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	key := testKey("a", 64)
	dir := w.plain.layout.upload(key, idA)
	b, err := testRecord(key, idA).encode()
	if err != nil {
		t.Fatal(err)
	}
	w.write(path.Join(dir, pendingFile), string(b))
	s, m := w.store(imagetest.Fault{})
	tried := false
	m.before = func(what string) {
		if what == "delete "+dir {
			tried = true
			// Its maker was asleep, and wakes up at the worst moment.
			err := w.plain.files.Move(context.WithoutCancel(t.Context()), path.Join(dir, pendingFile), w.plain.layout.record(key))
			w.wantKind("publication", err, errdefs.NotFound)
		}
	}
	disk := w.make(s, key, nodeName, 1<<20)
	if !tried {
		t.Error("nothing was swept")
	}
	if strings.Contains(disk.Path, idA) {
		t.Errorf("the disk is %s", disk.Path)
	}
	w.remove(key)
}

func TestADiskThatWasWithdrawnIsOnlyPublishedAgainIfItIsWhole(t *testing.T) {
	t.Parallel()
	for _, lost := range []bool{false, true} {
		w := newWorld(t, vchsim.Options{})
		s, key := w.plain, testKey("a", 64)
		disk := w.make(s, key, nodeName, 1<<20)
		dir := path.Dir(w.relative(disk.Path))
		if err := s.files.Move(t.Context(), s.layout.record(key), path.Join(dir, withdrawnFile(newID()))); err != nil {
			t.Fatal(err)
		}
		if lost {
			w.Lose(disk.Path)
		}
		var calls atomic.Int32
		again, err := s.Ensure(t.Context(), key, nodeName, source(&calls, 1<<20), nil)
		if err != nil {
			t.Fatal(err)
		}
		w.wantContent(again, 1<<20)
		if made := calls.Load() > 0; made != lost {
			t.Errorf("its files were lost: %v; it was made again: %v", lost, made)
		}
		// The name led to what is no more.
		if found, err := s.Lookup(t.Context(), nodeName, key.Size); err != nil || found.Path != again.Path {
			t.Errorf("lookup: %v, %v, want %s", found, err, again.Path)
		}
		w.clean()
		w.remove(key)
	}
}

func TestTheSameDiskOfAnotherStoreIsAnother(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	host := *w.host
	host.ImageStore.Path = "vch-2"
	key := testKey("a", 64)
	other := New(Options{Client: w.client, Host: &host, Clock: w.clock})
	user := w.Attach(w.make(other, key, nodeName, 1<<20).Path)
	w.make(w.plain, key, nodeName, 1<<20)
	for s, want := range map[*Store]map[image.Key][]image.User{other: {key: {user}}, w.plain: {}} {
		users, err := s.Users(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, users); diff != "" {
			t.Errorf("%s (-want +got):\n%s", s, diff)
		}
	}
	var err error
	w.passing(func() { _, err = w.plain.Remove(t.Context(), key) })
	if err != nil {
		t.Error(err)
	}
}

func TestUploadsThatGoWrongLeaveNothingUnderFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	key := testKey("a", 64)
	for kind, want := range map[string]errdefs.Kind{
		vchsim.KindHTTP403:         errdefs.PermissionDenied,
		vchsim.KindHTTP503:         errdefs.Unavailable,
		vchsim.KindHTTP507:         errdefs.ResourceExhausted,
		vchsim.KindHalf:            errdefs.Unavailable,
		vchsim.KindConnectionReset: errdefs.Unavailable,
		vchsim.KindResponseLost:    errdefs.Unavailable,
	} {
		for nth := 1; nth <= 5; nth++ {
			w.sim.ClearFaults()
			if err := w.sim.SetFault(vchsim.FaultRule{Method: "PUT /folder", Kind: kind, NthCall: nth}); err != nil {
				t.Fatal(err)
			}
			var calls atomic.Int32
			s, _ := w.store(imagetest.Fault{})
			_, err := s.Ensure(t.Context(), key, nodeName, source(&calls, 2<<20), nil)
			w.sim.ClearFaults()
			w.wantKind(fmt.Sprintf("%s at write %d", kind, nth), err, want, s.String(), "sha256:aaaaaaaaaaaa")
			if _, err := s.Find(t.Context(), key); err == nil != (nth == 5) { // the last one is of the name
				t.Errorf("%s at write %d: find: %v", kind, nth, err)
			}
			if left := w.Files(); nth < 5 && len(left) != 0 {
				t.Errorf("%s at write %d leaves %q", kind, nth, left)
			}
			w.make(s, key, nodeName, 2<<20)
			w.remove(key)
		}
	}
}

// short is a datastore that keeps less of extents than it was sent.
type short struct{ virtualdisk.Files }

func (s short) Write(ctx context.Context, p string, r io.ReaderAt, size int64, progress func(int64)) error {
	if strings.HasSuffix(p, flatFile) {
		size -= 512
	}
	return s.Files.Write(ctx, p, r, size, progress)
}

func TestAnUploadThatArrivedInPartIsNotPublished(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	s, m := w.store(imagetest.Fault{})
	s.disks = virtualdisk.New(virtualdisk.Options{Client: w.client, Host: w.host, Files: short{m}, Datastore: s.datastore, Kind: diskKind})
	var calls atomic.Int32
	_, err := s.Ensure(t.Context(), testKey("a", 64), nodeName, source(&calls, 1<<20), nil)
	w.wantKind("ensure", err, errdefs.Unavailable, "1048064 bytes", "1048576")
	if left := w.Files(); len(left) != 0 {
		t.Errorf("left are %q", left)
	}
}

func TestASessionThatExpiresMeanwhileDoesNotMatter(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	key := testKey("a", 64)
	_, err := w.plain.Ensure(t.Context(), key, nodeName, func(context.Context, image.Key, image.Report) (image.Content, error) {
		w.sim.ExpireSessions()
		return rawContent{rawOf(1 << 20)}, nil
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	w.sim.ExpireSessions()
	if _, err := w.plain.Users(t.Context(), key); err != nil {
		t.Error(err)
	}
	w.remove(key)
}

// write puts a file where the store has its own.
func (w *world) write(p, text string) {
	w.Helper()
	if err := w.plain.files.MakeDirectory(w.Context(), path.Dir(p), true); err != nil {
		w.Fatal(err)
	}
	if err := w.plain.files.Write(w.Context(), p, strings.NewReader(text), int64(len(text)), nil); err != nil {
		w.Fatal(err)
	}
}

func TestASpoiltRecordCountsAsAbsent(t *testing.T) {
	t.Parallel()
	other, err := testRecord(testKey("b", 64), idA).encode()
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"empty": "", "half": string(other[:len(other)/2]), "of another disk": string(other), "large": strings.Repeat(" ", recordLimit+1),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, vchsim.Options{})
			s, key := w.plain, testKey("a", 64)
			w.write(s.layout.record(key), text)
			w.write(s.layout.name(nodeName, key.Size), text)
			_, err := s.Find(t.Context(), key)
			w.wantKind("find", err, errdefs.NotFound, "sha256:aaaaaaaaaaaa")
			_, err = s.Lookup(t.Context(), nodeName, key.Size)
			w.wantKind("lookup", err, errdefs.NotFound, nodeName)
			if list, err := s.List(t.Context()); err != nil || len(list) != 0 {
				t.Errorf("list: %v, %v", list, err)
			}
			w.make(s, key, nodeName, 1<<20)
			if found, err := s.Lookup(t.Context(), nodeName, key.Size); err != nil || found.Key != key {
				t.Errorf("lookup: %v, %v", found, err)
			}
			w.remove(key)
			// What nobody makes anew is cleaned away.
			w.write(s.layout.record(key), text)
			w.write(s.layout.name(nodeName, key.Size), text)
			w.clean()
			if left := w.Files(); len(left) != 0 {
				t.Errorf("left are %q", left)
			}
		})
	}
}

func TestWhatALaterReleaseWroteIsLeftAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	s, key := w.plain, testKey("a", 64)
	newer := `{"format": 2, "more": 1}`
	w.write(s.layout.record(key), newer)
	w.write(s.layout.name(nodeName, key.Size), newer)
	w.write(path.Join(s.layout.upload(key, idA), diskFile), "x")
	before := w.Files()
	var calls atomic.Int32
	for what, call := range map[string]func() error{
		"find":   func() error { _, err := s.Find(t.Context(), key); return err },
		"lookup": func() error { _, err := s.Lookup(t.Context(), nodeName, key.Size); return err },
		"ensure": func() error {
			_, err := s.Ensure(t.Context(), key, nodeName, source(&calls, 1<<20), nil)
			return err
		},
		"remove": func() error { _, err := s.Remove(t.Context(), key); return err },
	} {
		w.wantKind(what, call(), errdefs.FailedPrecondition, "newer version", "update this program")
	}
	if list, err := s.List(t.Context()); err != nil || len(list) != 0 {
		t.Errorf("list: %v, %v", list, err)
	}
	w.clean()
	if diff := cmp.Diff(before, w.Files()); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func TestWhatOthersPutBelowIsNeitherTouchedNorInTheWay(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	s, key := w.plain, testKey("a", 64)
	for _, p := range []string{
		path.Join(s.layout.root, "readme"), path.Join(s.layout.root, "other/x"),
		path.Join(s.layout.disks(), "readme.txt"), path.Join(s.layout.disks(), "backup", base(key)+"."+idA, "x"), path.Join(s.layout.disks(), base(key)+".old", "x"),
		path.Join(s.layout.names(), "readme.json"), path.Join(s.layout.locks(), "x", "owner.json"), path.Join(s.layout.locks(), base(key)+".x", "owner.json"),
	} {
		w.write(p, "somebody else's")
	}
	before := w.Files()
	w.make(s, key, nodeName, 1<<20)
	if list, err := s.List(t.Context()); err != nil || len(list) != 1 {
		t.Errorf("list: %v, %v", list, err)
	}
	w.Advance(time.Hour)
	if left, err := s.Leftovers(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("leftovers: %v, %v", left, err)
	}
	var err error
	w.passing(func() { _, err = s.Remove(t.Context(), key) })
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, w.Files()); diff != "" {
		t.Errorf("(-before +after):\n%s", diff)
	}
}

func TestVMsOfAllKindsAreUsers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	key := testKey("a", 64)
	disk := w.make(w.plain, key, nodeName, 1<<20)
	child := w.Attach(disk.Path)
	var chain []string
	for _, vm := range w.sim.VMs() {
		if vm.Ref.Value == child.VM {
			chain = vm.Disks
		}
	}
	grandchild := w.attach(chain...)
	w.machine() // nobody's
	users, err := w.plain.Users(t.Context(), key, testKey("b", 64))
	if err != nil {
		t.Fatal(err)
	}
	want := []image.User{child, grandchild}
	slices.SortFunc(want, func(a, b image.User) int { return strings.Compare(a.VM, b.VM) })
	if diff := cmp.Diff(map[image.Key][]image.User{key: want}, users); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	_, err = w.plain.Remove(t.Context(), key)
	w.wantKind("remove", err, errdefs.FailedPrecondition, child.Name, grandchild.Name, w.plain.String())
}

func TestADatastoreThatCannotBeUsedIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	key := testKey("a", 64)
	for name, tc := range map[string]struct {
		change func(h *vch.Config)
		want   errdefs.Kind
	}{
		"inaccessible": {func(h *vch.Config) {
			ds := h.Datastores[vchsim.Datastore]
			ds.Accessible = false
			h.Datastores = map[string]vch.Datastore{vchsim.Datastore: ds}
		}, errdefs.Unavailable},
		"missing": {func(h *vch.Config) { h.Datastores = nil }, errdefs.FailedPrecondition},
	} {
		host := *w.host
		tc.change(&host)
		s := New(Options{Client: w.client, Host: &host, Clock: w.clock})
		w.sim.ResetCounters()
		for what, call := range map[string]func() error{
			"lookup":    func() error { _, err := s.Lookup(t.Context(), nodeName, key.Size); return err },
			"find":      func() error { _, err := s.Find(t.Context(), key); return err },
			"verify":    func() error { _, err := s.Verify(t.Context(), key); return err },
			"ensure":    func() error { _, err := s.Ensure(t.Context(), key, "", w.noSource(), nil); return err },
			"list":      func() error { _, err := s.List(t.Context()); return err },
			"users":     func() error { _, err := s.Users(t.Context(), key); return err },
			"remove":    func() error { _, err := s.Remove(t.Context(), key); return err },
			"leftovers": func() error { _, err := s.Leftovers(t.Context()); return err },
			"clean":     func() error { return s.Clean(t.Context(), image.Leftover{ID: "x"}) },
		} {
			w.wantKind(name+": "+what, call(), tc.want, `"`+vchsim.Datastore+`"`)
		}
		if n := w.sim.Requests(); n != 0 {
			t.Errorf("%s: %d requests were sent", name, n)
		}
	}
}

func TestTheImageStoreMayBeTheRootAndMayMove(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	key := testKey("a", 64)
	at := func(p string) *Store {
		host := *w.host
		host.ImageStore.Path = p
		return New(Options{Client: w.client, Host: &host, Clock: w.clock})
	}
	disk := w.make(at(""), key, nodeName, 1<<20)
	if want := "[" + vchsim.Datastore + "] mcm-images/disks/"; !strings.HasPrefix(disk.Path, want) {
		t.Errorf("the disk is in %s, want it below %s", disk.Path, want)
	}
	user := w.Attach(disk.Path)
	if users, err := at("").Users(t.Context(), key); err != nil || !slices.Contains(users[key], user) {
		t.Errorf("users: %v, %v", users, err)
	}
	w.Detach(user)
	// Somebody moves it: records hold no path of the store.
	if err := w.plain.files.MakeDirectory(t.Context(), "new place", false); err != nil {
		t.Fatal(err)
	}
	if err := w.plain.files.Move(t.Context(), "mcm-images", "new place/mcm-images"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"new place", "/new place/", "./new place"} {
		s := at(p)
		found, err := s.Lookup(t.Context(), nodeName, key.Size)
		if err != nil {
			t.Fatal(err)
		}
		w.wantContent(found, 1<<20)
		if want := "[" + vchsim.Datastore + "] new place/mcm-images/disks/"; !strings.HasPrefix(found.Path, want) {
			t.Errorf("the disk is in %s, want it below %s", found.Path, want)
		}
	}
	var err error
	w.passing(func() { _, err = at("new place").Remove(t.Context(), key) })
	if err != nil {
		t.Error(err)
	}
}

func TestStoresOfDifferentPlacesHaveDifferentNames(t *testing.T) {
	t.Parallel()
	a, b := newWorld(t, vchsim.Options{}), newWorld(t, vchsim.Options{})
	host := *a.host
	host.ImageStore.Path = "elsewhere"
	names := map[string]bool{}
	for _, s := range []*Store{a.plain, b.plain, New(Options{Client: a.client, Host: &host})} {
		names[s.String()] = true
	}
	if len(names) != 3 {
		t.Errorf("three places have the names %v", names)
	}
}

func TestALeftoverIsJudgedByTheTimesOfTheDatastore(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	// Nothing stands between this store and the simulator.
	s, key := w.plain, testKey("a", 64)
	w.write(path.Join(s.layout.lock(key, 1), ownerFile), "{}")
	w.write(path.Join(s.layout.upload(key, idA), pendingFile), "{}")
	if left, err := s.Leftovers(t.Context()); err != nil || len(left) != 0 {
		t.Errorf("leftovers: %v, %v", left, err)
	}
	root := filepath.Join(w.sim.Dir(), "datastores", vchsim.Datastore, filepath.FromSlash(s.layout.root))
	past := time.Now().Add(-time.Hour)
	err := filepath.WalkDir(root, func(p string, _ os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Chtimes(p, past, past)
	})
	if err != nil {
		t.Fatal(err)
	}
	left, err := s.Leftovers(t.Context())
	if err != nil || len(left) != 2 {
		t.Fatalf("leftovers: %v, %v; want the lock and the upload", left, err)
	}
	w.passing(func() { err = s.Clean(t.Context(), left...) })
	if files := w.Files(); err != nil || len(files) != 0 {
		t.Errorf("left are %v, %v", files, err)
	}
}

func TestCleanBelievesItsOwnEyesAndNoClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	key := testKey("a", 64)
	release, begun := make(chan struct{}), make(chan struct{})
	maker, _ := w.store(imagetest.Fault{})
	ended := make(chan struct{})
	var disk *image.Disk
	var err error
	go func() {
		defer close(ended)
		disk, err = maker.Ensure(t.Context(), key, nodeName, func(context.Context, image.Key, image.Report) (image.Content, error) {
			close(begun)
			<-release
			return rawContent{rawOf(1 << 20)}, nil
		}, nil)
	}()
	<-begun
	// To this one everything looks a day old.
	s, m := w.store(imagetest.Fault{})
	m.skew = 24 * time.Hour
	left, failed := s.Leftovers(t.Context())
	if failed != nil || len(left) != 1 {
		t.Fatalf("leftovers: %v, %v; want the lock", left, failed)
	}
	w.passing(func() { failed = s.Clean(t.Context(), left...) })
	if failed != nil {
		t.Error(failed)
	}
	close(release)
	w.passUntil(ended)
	if err != nil {
		t.Fatal(err)
	}
	w.wantContent(disk, 1<<20)
	w.remove(key)
}

func TestANameThatIsWrittenDuringARemovalTakesItBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{})
	s, key := w.plain, testKey("a", 64)
	disk := w.make(s, key, nodeName, 1<<20)
	r, err := s.find(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, err = s.Remove(t.Context(), key)
	}()
	poll(t, "the disk to be withdrawn", func() bool {
		_, err := s.find(t.Context(), key)
		return err != nil
	})
	named := *r
	named.Name = "late"
	if err := s.writeName(t.Context(), named); err != nil {
		t.Fatal(err)
	}
	w.passUntil(ended)
	w.wantKind("remove", err, errdefs.Aborted, "late")
	found, err := s.Find(t.Context(), key)
	if err != nil || found.Path != disk.Path {
		t.Fatalf("find: %v, %v", found, err)
	}
	if diff := cmp.Diff([]string{"late", nodeName}, found.Names); diff != "" {
		t.Errorf("names (-want +got):\n%s", diff)
	}
	w.remove(key)
}

func TestTheRecordLooksAsDocumented(t *testing.T) {
	t.Parallel()
	r := testRecord(testKey("a", 64), idA)
	r.Name = nodeName
	b, err := r.encode()
	if err != nil {
		t.Fatal(err)
	}
	want := `{
  "format": 1,
  "digest": "sha256:` + strings.Repeat("a", 64) + `",
  "size": 67108864,
  "upload": "` + idA + `",
  "name": "registry.example.com/node:v1",
  "created": "2026-01-02T03:04:05.000000678Z",
  "description": {
    "configDigest": "sha256:` + strings.Repeat("c", 64) + `",
    "config": {
      "entrypoint": [
        "/bin/a",
        ""
      ],
      "env": [
        "A=\"ü\"\n"
      ],
      "volumes": [
        "/x"
      ]
    },
    "usedBytes": 12345
  }
}
`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

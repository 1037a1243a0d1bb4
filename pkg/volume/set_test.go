// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/fake"
)

// world is a VCH with two stores, and a set of them as one process has it.
type world struct {
	*testing.T
	// stores are those of the set, by label; others share only their volumes.
	stores map[string]*fake.Store
	set    *volume.Set
}

// newWorld has the stores default (VMDK) and shared (NFS).
func newWorld(t *testing.T) *world {
	t.Helper()
	return (&world{T: t, stores: map[string]*fake.Store{
		"default": fake.New("vch-1", "default", volume.VMDK),
		"shared":  fake.New("vch-1", "shared", volume.NFS),
	}}).another()
}

// another is the same VCH as another process has it.
func (w *world) another() *world {
	o := &world{T: w.T, stores: map[string]*fake.Store{}}
	all := map[string]volume.Store{}
	for label, s := range w.stores {
		o.stores[label] = s.Another()
		all[label] = o.stores[label]
	}
	o.set = volume.NewSet("vch-1", all)
	return o
}

// fail lets all steps of a store fail.
func (w *world) fail(label string, kind errdefs.Kind) {
	w.stores[label].Intercept(func(context.Context, string, func() error) error {
		return errdefs.New(kind, "%s does not answer", label)
	})
}

// before calls do before the nth step of a kind.
func (w *world) before(label, step string, n int, do func()) {
	var mu sync.Mutex
	w.stores[label].Intercept(func(_ context.Context, s string, carryOut func() error) error {
		mu.Lock()
		now := false
		if s == step {
			n--
			now = n == 0
		}
		mu.Unlock()
		if now {
			do()
		}
		return carryOut()
	})
}

// make has another process make a volume.
func (w *world) make(label, name string) {
	w.Helper()
	if _, err := w.stores[label].Another().Create(w.Context(), volume.Request{Name: name}); err != nil {
		w.Fatal(err)
	}
}

// wantFiles fails the test unless the stores have just these volumes and nothing else.
func (w *world) wantFiles(want ...string) {
	w.Helper()
	var got []string
	for _, label := range slices.Sorted(maps.Keys(w.stores)) {
		got = append(got, w.stores[label].Files()...)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		w.Errorf("what there is (-want +got):\n%s", diff)
	}
}

// wantNoSteps fails the test if any store is asked from now on.
func (w *world) wantNoSteps() {
	for label, s := range w.stores {
		s.Intercept(func(_ context.Context, step string, do func() error) error {
			w.Errorf("store %s was asked: %s", label, step)
			return do()
		})
	}
}

func (w *world) wantError(err error, kind errdefs.Kind, parts ...string) {
	w.Helper()
	if !errdefs.Is(err, kind) {
		w.Errorf("got error %v of kind %q, want %s", err, errdefs.KindOf(err), kind)
	}
	for _, part := range parts {
		if err != nil && !strings.Contains(err.Error(), part) {
			w.Errorf("the error %q does not say %q", err, part)
		}
	}
}

const (
	inDefault = "[default] VIC/volumes/data/data.vmdk"
	inShared  = "nfs://nfs.example/shared/volumes/data"
)

func TestAStoreThatIsMissingIsAnErrorThatSaysWhatThereIs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for label, want := range map[string]string{"": "default", "default": "default", "shared": "shared"} {
		if s, err := w.set.Store(label); err != nil || s != w.stores[want] {
			t.Errorf("store %q is %v, %v", label, s, err)
		}
	}
	if got := w.set.Labels(); !slices.Equal(got, []string{"default", "shared"}) {
		t.Errorf("the labels are %q", got)
	}
	_, err := w.set.Store("fast")
	w.wantError(err, errdefs.FailedPrecondition, `no volume store named "fast" exists in VCH vch-1, which has default, shared`, "vic-machine configure --volume-store")
	if strings.Contains(err.Error(), "anonymous") {
		t.Errorf("%v speaks of the default store", err)
	}

	some := volume.NewSet("vch-1", map[string]volume.Store{"shared": w.stores["shared"], "fast": w.stores["default"]})
	for _, label := range []string{"", "default"} {
		_, err := some.Store(label)
		w.wantError(err, errdefs.FailedPrecondition, `no volume store named "default" exists in VCH vch-1, which has fast, shared`,
			"anonymous volumes and volumes without a store are refused until one is labelled default (vic-machine configure --volume-store)")
		_, err = some.Create(t.Context(), label, volume.Request{Name: "data"})
		w.wantError(err, errdefs.FailedPrecondition, `no volume store named "default"`)
		_, _, err = some.Ensure(t.Context(), label, volume.Request{Name: "data"})
		w.wantError(err, errdefs.FailedPrecondition, `no volume store named "default"`)
	}
}

func TestAVCHWithoutStoresHasNoVolumes(t *testing.T) {
	t.Parallel()
	w := &world{T: t}
	for _, s := range []*volume.Set{volume.NewSet("vch-1", nil), volume.NewSet("vch-1", map[string]volume.Store{})} {
		_, err := s.Store("")
		w.wantError(err, errdefs.FailedPrecondition, "VCH vch-1, which has no volume store at all")
		_, err = s.Get(t.Context(), "data")
		w.wantError(err, errdefs.NotFound, "VCH vch-1 has no volume data", "no volume store at all")
		w.wantError(s.Remove(t.Context(), "", "data"), errdefs.NotFound)
		w.wantError(s.Remove(t.Context(), "default", "data"), errdefs.FailedPrecondition)
		_, err = s.Create(t.Context(), "", volume.Request{Name: "data"})
		w.wantError(err, errdefs.FailedPrecondition)
		list, err := s.List(t.Context())
		left, err2 := s.Leftovers(t.Context())
		users, err3 := s.Users(t.Context(), "data")
		if len(list)+len(left)+len(users)+len(s.Labels()) != 0 || err != nil || err2 != nil || err3 != nil {
			t.Errorf("it has %v, %v, %v: %v, %v, %v", list, left, users, err, err2, err3)
		}
		if err := s.Clean(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

func TestASetKeepsItsStores(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	given := map[string]volume.Store{"default": w.stores["default"]}
	s := volume.NewSet("vch-1", given)
	delete(given, "default")
	if _, err := s.Store(""); err != nil {
		t.Error(err)
	}
}

func TestAVolumeIsFoundWhicheverStoreHasIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.make("default", "a")
	w.make("shared", "b")
	for name, label := range map[string]string{"a": "default", "b": "shared"} {
		v, err := w.set.Get(t.Context(), name)
		if err != nil || v.Name != name || v.Store != label {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
	_, err := w.set.Get(t.Context(), "c")
	w.wantError(err, errdefs.NotFound, "VCH vch-1 has no volume c", "default, shared")
	w.wantNoSteps()
	_, err = w.set.Get(t.Context(), "../c")
	w.wantError(err, errdefs.InvalidArgument)
}

func TestAStoreThatDoesNotAnswerIsPassedOverIfAnotherHasTheVolume(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.make("default", "data")
	w.fail("shared", errdefs.Unavailable)
	var log bytes.Buffer
	logger := textlogger.NewLogger(textlogger.NewConfig(textlogger.Verbosity(2), textlogger.Output(&log)))
	v, err := w.set.Get(klog.NewContext(t.Context(), logger), "data")
	if err != nil || v.Store != "default" {
		t.Errorf("%+v, %v", v, err)
	}
	if !strings.Contains(log.String(), "shared does not answer") {
		t.Errorf("the log is %q", log.String())
	}
	_, err = w.set.Get(t.Context(), "other") // it may have that
	w.wantError(err, errdefs.Unavailable, "look for volume other in VCH vch-1", "shared does not answer")
}

func TestTwoVolumesOfOneNameAreShownAndNoneIsTakenByChance(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.make("default", "data")
	w.make("shared", "data")
	w.make("shared", "log")
	w.stores["shared"].Damage("data", "it is strange")
	both := []string{"data", "default (" + inDefault + ")", "shared (" + inShared + ")"}
	_, err := w.set.Get(t.Context(), "data")
	w.wantError(err, errdefs.FailedPrecondition, both...)
	_, _, err = w.set.Ensure(t.Context(), "default", volume.Request{Name: "data"})
	w.wantError(err, errdefs.FailedPrecondition, both...)
	_, err = w.set.Create(t.Context(), "default", volume.Request{Name: "data"})
	w.wantError(err, errdefs.AlreadyExists, both...)
	w.wantError(w.set.Remove(t.Context(), "", "data"), errdefs.FailedPrecondition, both...)

	list, err := w.set.List(t.Context())
	if err != nil || len(list) != 3 {
		t.Fatalf("the list is %v, %v", list, err)
	}
	for i, store := range []string{"default", "shared", "shared"} {
		if list[i].Store != store {
			t.Errorf("volume %d of the list is in %s", i, list[i].Store)
		}
		for _, part := range both {
			if strings.Contains(list[i].Damage, part) != (i < 2) {
				t.Errorf("damage of %s in %s is %q", list[i].Name, store, list[i].Damage)
			}
		}
	}
	if !strings.HasPrefix(list[1].Damage, "it is strange; ") || strings.Contains(list[0].Damage, "strange") {
		t.Errorf("damages are %q and %q", list[0].Damage, list[1].Damage)
	}

	if err := w.set.Remove(t.Context(), "shared", "data"); err != nil {
		t.Error(err)
	}
	if v, err := w.set.Get(t.Context(), "data"); err != nil || v.Store != "default" || v.Damage != "" {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestAListIsSortedAndHasWhatOtherStoresHaveAlsoWithAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, name := range []string{"b", "a1", "d"} {
		w.make("default", name)
	}
	for _, name := range []string{"c", "a"} {
		w.make("shared", name)
	}
	names := func(list []volume.Volume) string {
		var all []string
		for _, v := range list {
			all = append(all, v.Name+" in "+v.Store)
		}
		return strings.Join(all, ", ")
	}
	list, err := w.set.List(t.Context())
	if got := names(list); err != nil || got != "a in shared, a1 in default, b in default, c in shared, d in default" {
		t.Errorf("the list is %s, %v", got, err)
	}
	w.fail("default", errdefs.Unavailable)
	list, err = w.set.List(t.Context())
	w.wantError(err, errdefs.Unavailable, "list the volumes of VCH vch-1", "default does not answer")
	if got := names(list); got != "a in shared, c in shared" {
		t.Errorf("the list is %s", got)
	}
}

func TestTheErrorOfSeveralStoresNamesAllAndIsOfTheKindThatWaitingHelpsLeast(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ a, b, want errdefs.Kind }{
		{errdefs.Unavailable, errdefs.PermissionDenied, errdefs.PermissionDenied},
		{errdefs.PermissionDenied, errdefs.Unavailable, errdefs.PermissionDenied},
		{errdefs.PermissionDenied, errdefs.Internal, errdefs.PermissionDenied},
		{errdefs.Unavailable, errdefs.DeadlineExceeded, errdefs.Unavailable},
		{errdefs.DeadlineExceeded, errdefs.Unavailable, errdefs.Unavailable},
		{errdefs.Unavailable, errdefs.ResourceExhausted, errdefs.ResourceExhausted},
		{errdefs.Canceled, errdefs.Canceled, errdefs.Canceled},
	} {
		w := newWorld(t)
		w.fail("default", test.a)
		w.fail("shared", test.b)
		_, err := w.set.Get(t.Context(), "data")
		w.wantError(err, test.want, "default does not answer", "shared does not answer")
		if strings.Contains(err.Error(), "\n") {
			t.Errorf("the error has lines: %q", err)
		}
	}
}

func TestAllStoresAreAskedAtTheSameTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		for _, s := range w.stores {
			s.Intercept(func(_ context.Context, _ string, do func() error) error {
				<-time.After(time.Second)
				return do()
			})
		}
		for what, call := range map[string]func() error{
			"get":       func() error { _, err := w.set.Get(t.Context(), "data"); return notFound(err) },
			"list":      func() error { _, err := w.set.List(t.Context()); return err },
			"users":     func() error { _, err := w.set.Users(t.Context(), "data"); return err },
			"leftovers": func() error { _, err := w.set.Leftovers(t.Context()); return err },
		} {
			begin := time.Now()
			if err := call(); err != nil || time.Since(begin) != time.Second {
				t.Errorf("%s took %v, %v", what, time.Since(begin), err)
			}
		}
	})
}

// notFound takes away the error that is expected.
func notFound(err error) error {
	if errdefs.Is(err, errdefs.NotFound) {
		return nil
	}
	return err
}

func TestUsersAreThoseOfAllStores(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.make("default", "a")
	w.make("shared", "b")
	w.make("default", "twice")
	w.make("shared", "twice")
	one, two, hidden := volume.User{Name: "one", VM: "vm-1"}, volume.User{Name: "two", VM: "vm-2"}, volume.User{Name: "x", VM: "vm-0", Unproven: true}
	w.stores["default"].Attach(two, "a", "twice")
	w.stores["shared"].Attach(one, "b", "twice")
	w.stores["shared"].Attach(two, "twice")
	got, err := w.set.Users(t.Context(), "a", "b", "twice", "none")
	want := map[string][]volume.User{"a": {two}, "b": {one}, "twice": {one, two}}
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	w.stores["default"].Attach(hidden)
	got, err = w.set.Users(t.Context(), "b")
	if diff := cmp.Diff(map[string][]volume.User{"b": {hidden, one}}, got); err != nil || diff != "" {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	w.fail("shared", errdefs.PermissionDenied)
	got, err = w.set.Users(t.Context(), "a")
	w.wantError(err, errdefs.PermissionDenied, "shared does not answer")
	if got != nil {
		t.Errorf("the error comes with %v", got)
	}
	w.wantNoSteps()
	if got, err := w.set.Users(t.Context()); err != nil || len(got) != 0 {
		t.Errorf("of no names: %v, %v", got, err)
	}
	_, err = w.set.Users(t.Context(), "a", "")
	w.wantError(err, errdefs.InvalidArgument)
}

func TestARemovalIsOfTheStoreThatIsMeant(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.make("default", "data")
	w.wantError(w.set.Remove(t.Context(), "shared", "data"), errdefs.FailedPrecondition, "volume data of VCH vch-1 is not in volume store shared", "default ("+inDefault+")")
	w.wantError(w.set.Remove(t.Context(), "fast", "data"), errdefs.FailedPrecondition, `no volume store named "fast"`)
	w.wantError(w.set.Remove(t.Context(), "", "other"), errdefs.NotFound, "other")
	w.wantError(w.set.Remove(t.Context(), "shared", "other"), errdefs.NotFound, "other")
	w.wantError(w.set.Remove(t.Context(), "", ""), errdefs.InvalidArgument)
	w.wantFiles(inDefault)
	w.stores["default"].Attach(volume.User{Name: "worker-1", VM: "vm-1"}, "data")
	w.wantError(w.set.Remove(t.Context(), "", "data"), errdefs.FailedPrecondition, "worker-1")
	w.wantError(w.set.Remove(t.Context(), "default", "data", "vm-2"), errdefs.FailedPrecondition, "worker-1")
	if err := w.set.Remove(t.Context(), "", "data", "vm-1"); err != nil {
		t.Error(err)
	}
	w.wantFiles()
}

func TestARemovalWithoutAStoreNeedsAllToAnswer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	id := volume.AnonymousName("4213", "/data")
	w.make("default", "data")
	w.make("default", "other")
	w.make("default", id)
	w.fail("shared", errdefs.Unavailable)
	w.wantError(w.set.Remove(t.Context(), "", "data"), errdefs.Unavailable, "volume data is in volume store default", "say which store is meant", "shared does not answer")
	w.wantError(w.set.Remove(t.Context(), "", "absent"), errdefs.Unavailable)
	w.wantError(w.set.Remove(t.Context(), "shared", "absent"), errdefs.Unavailable)
	for name, label := range map[string]string{"data": "default", id: ""} {
		if err := w.set.Remove(t.Context(), label, name); err != nil {
			t.Errorf("remove %s of %q: %v", name, label, err)
		}
	}
	w.wantFiles("[default] VIC/volumes/other/other.vmdk")
}

func TestAVolumeIsJoinedByItsStore(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.make("default", "a")
	w.make("shared", "b")
	for name, scheme := range map[string]string{"a": "label", "b": "nfs"} {
		v, err := w.set.Get(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		w.wantNoSteps()
		joint, err := w.set.Join(v, volume.Mount{Path: "/data"})
		if err != nil || joint.Volume != name || joint.Spec.Source.Scheme != scheme {
			t.Errorf("%s: %+v, %v", name, joint, err)
		}
		w = w.another()
	}
	_, err := w.set.Join(&volume.Volume{Name: "c", Store: "gone"}, volume.Mount{Path: "/data"})
	w.wantError(err, errdefs.FailedPrecondition, "join volume c", `no volume store "gone" any more`, "default, shared")
}

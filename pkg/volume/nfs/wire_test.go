// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/nfs"
)

func request(name string) volume.Request {
	return volume.Request{Name: name, Metadata: volume.Metadata{Labels: map[string]string{"a": "b"}, Image: "i"}}
}

func (w *world) create(name string) {
	w.Helper()
	if _, err := w.store().Create(w.Context(), request(name)); err != nil {
		w.Fatal(err)
	}
}

// wantWhole fails the test unless VIC finds nothing wrong, and reports whether the
// volume is there.
func (w *world) wantWhole(name string) bool {
	w.Helper()
	all, err := w.Listed()
	if err != nil {
		w.Errorf("VIC stumbles: %v", err)
	}
	for _, e := range all {
		if e.Name == name {
			return true
		}
	}
	return false
}

func (w *world) clean() {
	w.Helper()
	w.Advance(time.Hour)
	s := w.store()
	left, err := s.Leftovers(w.Context())
	if err == nil {
		err = s.Clean(w.Context(), left...)
	}
	if err != nil {
		w.Error(err)
	}
}

// The suite lets steps go wrong; here it is the connection.
func TestWhateverCallTheConnectionEndsInNothingIsLostUnderFaults(t *testing.T) {
	t.Parallel()
	for how, action := range map[string]nfs.Action{"cut": nfs.Cut(), "lost": nfs.Lose(), "failed": nfs.Answer(nfs.SERVERFAULT)} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			w := newServed(t, nfs.Options{Fragment: 20})
			for n, struck := 1, true; struck; n++ {
				was := w.server.Count()
				w.server.SetFault(nfs.At(n, action))
				_, err := w.store().Create(t.Context(), request("data"))
				struck = w.server.Count()-was >= n
				w.server.SetFault(nil)
				there := w.wantWhole("data")
				if err == nil && !there || err != nil && !errdefs.Is(err, errdefs.Unavailable) {
					t.Fatalf("create with call %d %s: %v, and there is a volume: %v", n, how, err, there)
				}
				if !there {
					w.create("data")
				}
				w.Write("data", "kept")
				w.clean()
				was = w.server.Count()
				w.server.SetFault(nfs.At(n, action))
				err = w.store().Remove(t.Context(), "data")
				struck = struck || w.server.Count()-was >= n
				w.server.SetFault(nil)
				there = w.wantWhole("data")
				if err == nil && there || err != nil && !errdefs.Is(err, errdefs.Unavailable) {
					t.Fatalf("remove with call %d %s: %v, and there is a volume: %v", n, how, err, there)
				}
				if there {
					if got := w.Read("data"); got != "kept" {
						t.Fatalf("remove with call %d %s left %q", n, how, got)
					}
					if err := w.store().Remove(t.Context(), "data"); err != nil {
						t.Fatal(err)
					}
				}
				w.clean()
				if files := w.Files(); len(files) != 0 {
					t.Fatalf("after call %d %s there is %q", n, how, files)
				}
			}
			if n := w.server.Connections(); n > 1 {
				t.Errorf("%d connections are open", n)
			}
		})
	}
}

func TestWhatAServerAnswersIsToldByKind(t *testing.T) {
	t.Parallel()
	for status, want := range map[nfs.Status]struct {
		kind errdefs.Kind
		text string
	}{
		nfs.NOSPC:        {errdefs.ResourceExhausted, "full"},
		nfs.DQUOT:        {errdefs.ResourceExhausted, "quota"},
		nfs.ACCES:        {errdefs.PermissionDenied, "uid 1000 and gid 1000"},
		nfs.PERM:         {errdefs.PermissionDenied, "root_squash"},
		nfs.ROFS:         {errdefs.FailedPrecondition, "only be read"},
		nfs.STALE:        {errdefs.Aborted, "STALE"},
		nfs.BADHANDLE:    {errdefs.Aborted, "BADHANDLE"},
		nfs.IO:           {errdefs.Unavailable, "NFS3ERR_IO"},
		nfs.JUKEBOX:      {errdefs.Unavailable, "JUKEBOX"},
		nfs.NAMETOOLONG:  {errdefs.FailedPrecondition, "NAMETOOLONG"},
		nfs.NOTSUPP:      {errdefs.FailedPrecondition, "NOTSUPP"},
		nfs.Status(4711): {errdefs.Unavailable, "4711"},
	} {
		t.Run(want.text, func(t *testing.T) {
			t.Parallel()
			w := newServed(t, nfs.Options{})
			w.server.SetFault(nfs.On(nfs.Answer(status), "MKDIR"))
			_, err := w.store().Create(t.Context(), request("data"))
			if !errdefs.Is(err, want.kind) || !strings.Contains(err.Error(), want.text) || !strings.Contains(err.Error(), "create volume data") {
				t.Errorf("error %v of kind %s, want %s and %q", err, errdefs.KindOf(err), want.kind, want.text)
			}
		})
	}
}

func TestAMountThatIsRefusedNamesTheExport(t *testing.T) {
	t.Parallel()
	for status, want := range map[nfs.Status]errdefs.Kind{
		nfs.ACCES: errdefs.PermissionDenied, nfs.PERM: errdefs.PermissionDenied, nfs.NOENT: errdefs.FailedPrecondition, nfs.NOTDIR: errdefs.FailedPrecondition,
		nfs.SERVERFAULT: errdefs.Unavailable,
	} {
		w := newServed(t, nfs.Options{Export: "/srv/volumes"})
		w.server.SetFault(nfs.On(nfs.Answer(status), "MNT"))
		_, err := w.store().List(t.Context())
		if !errdefs.Is(err, want) || !strings.Contains(err.Error(), "/srv/volumes") {
			t.Errorf("with %d: %v of kind %s, want %s", status, err, errdefs.KindOf(err), want)
		}
	}
}

func TestAServerThatIsGoneIsUnavailable(t *testing.T) {
	t.Parallel()
	w := newServed(t, nfs.Options{})
	w.create("data")
	w.server.Refuse(true)
	if _, err := w.store().List(t.Context()); !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("a server that resets connections: %v", err)
	}
	if err := w.server.Close(); err != nil {
		t.Fatal(err)
	}
	s := w.store()
	for what, call := range map[string]func() error{
		"create":    func() error { _, err := s.Create(t.Context(), request("data")); return err },
		"get":       func() error { _, err := s.Get(t.Context(), "data"); return err },
		"list":      func() error { _, err := s.List(t.Context()); return err },
		"remove":    func() error { return s.Remove(t.Context(), "data") },
		"leftovers": func() error { _, err := s.Leftovers(t.Context()); return err },
	} {
		if err := call(); !errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), s.String()) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAServerThatStallsEndsWithTheContext(t *testing.T) {
	t.Parallel()
	w := newServed(t, nfs.Options{})
	arrived := make(chan struct{}, 10)
	w.server.SetFault(func(nfs.Call) nfs.Action { arrived <- struct{}{}; return nfs.Stall() })
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	_, err := w.store().List(ctx)
	if !errdefs.Is(err, errdefs.Canceled) || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v of kind %s", err, errdefs.KindOf(err))
	}
	ctx, cancel = context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err = w.store().List(ctx); !errdefs.Is(err, errdefs.DeadlineExceeded) {
		t.Errorf("late: %v of kind %s", err, errdefs.KindOf(err))
	}
}

func TestThePortMapperIsAskedForPortsThatTheLocationDoesNotHave(t *testing.T) {
	t.Parallel()
	w := newServed(t, nfs.Options{Listen: "[::1]:0"})
	for query, ports := range map[string]int{"": 2, "port=%d": 1, "mountport=%d": 1, "port=%[1]d&mountport=%[1]d": 0} {
		if strings.Contains(query, "%") {
			query = fmt.Sprintf(query, w.server.Port())
		}
		w.location.RawQuery = query
		s := w.store()
		s.dialPlain = func(ctx context.Context, network, address string) (net.Conn, error) {
			if address != "[::1]:111" {
				t.Errorf("the port mapper is looked for at %s", address)
			}
			return dialPlain(ctx, network, w.server.Addr())
		}
		before := w.server.Count("GETPORT")
		if _, err := s.List(t.Context()); err != nil {
			t.Errorf("with %q: %v", query, err)
		}
		if n := w.server.Count("GETPORT") - before; n != ports {
			t.Errorf("with %q the port mapper was asked %d times, want %d", query, n, ports)
		}
	}
	w.location.RawQuery = ""
	s := w.store()
	s.dialPlain = func(ctx context.Context, network, _ string) (net.Conn, error) {
		return dialPlain(ctx, network, w.server.Addr())
	}
	w.server.SetFault(func(c nfs.Call) nfs.Action {
		if c.Procedure == "GETPORT" {
			return nfs.Raw(nfs.Marked(c.Accepted(make([]byte, 4))))
		}
		return nfs.Pass()
	})
	if _, err := s.List(t.Context()); !errdefs.Is(err, errdefs.FailedPrecondition) {
		t.Errorf("without the service: %v of kind %s", err, errdefs.KindOf(err))
	}
}

func TestCallsAreMadeAsTheLocationSays(t *testing.T) {
	t.Parallel()
	for query, want := range map[string][2]uint32{"": {1000, 1000}, "uid=7": {7, 7}, "uid=7&gid=8": {7, 8}, "gid=8": {1000, 8}, "uid=0": {0, 0}, "x=y": {1000, 1000}} {
		w := newServed(t, nfs.Options{})
		w.location.RawQuery += "&" + query
		w.create("data")
		for _, c := range w.server.Calls() {
			if !c.Unix || c.UID != want[0] || c.GID != want[1] || c.Machine != "vic" {
				t.Errorf("with %q: call %+v", query, c)
			}
		}
	}
}

func TestAPrivilegedPortIsUsedIfTheProcessMay(t *testing.T) {
	t.Parallel()
	w := newServed(t, nfs.Options{Secure: true})
	s := w.store()
	if _, err := s.List(t.Context()); !errdefs.Is(err, errdefs.PermissionDenied) || !strings.Contains(err.Error(), "insecure") {
		t.Errorf("from any port: %v", err)
	}
	s.dial = dialPrivileged
	_, err := s.List(t.Context())
	may := os.Geteuid() == 0
	if may && err != nil || !may && err != nil && !errdefs.Is(err, errdefs.PermissionDenied) {
		t.Error(err)
	}
}

// One operation after another must not run out of ports of which there are few.
func TestManyOperationsFromPrivilegedPorts(t *testing.T) {
	t.Parallel()
	w := newServed(t, nfs.Options{})
	s := w.store()
	s.dial = dialPrivileged
	for i := range 2 * (lastPrivileged - firstPrivileged) {
		if _, err := s.List(t.Context()); err != nil {
			t.Fatalf("operation %d: %v", i, err)
		}
	}
	if os.Geteuid() != 0 {
		return
	}
	for _, c := range w.server.Calls() {
		if !c.Privileged {
			t.Fatalf("call %d came from another port", c.N)
		}
	}
}

func TestTheTreeIsAsVICHasIt(t *testing.T) {
	t.Parallel()
	w := newServed(t, nfs.Options{})
	w.create("data")
	want := map[string]string{
		"volumes": "drwxr-xr-x", "volumes/data": "drwxr-xr-x",
		"volumes_metadata": "drwxr-xr-x", "volumes_metadata/data": "drwxr-xr-x", "volumes_metadata/data/DockerMetaData": "-rw-r--r--",
		"mcm-volumes": "drwxr-xr-x", "mcm-volumes/new": "drwxr-xr-x", "mcm-volumes/removed": "drwxr-xr-x", "mcm-volumes/metadata": "drwxr-xr-x",
	}
	n := 0
	w.walk(func(path string) {
		n++
		info, err := os.Stat(w.path(path))
		if err != nil || want[path] != info.Mode().String() {
			t.Errorf("%s is %v, want %q", path, info.Mode(), want[path])
		}
	})
	if n != len(want) {
		t.Errorf("there are %d, want %d", n, len(want))
	}
	content, err := os.ReadFile(w.path("volumes_metadata/data/DockerMetaData"))
	if err != nil || string(content) != `{"Driver":"vsphere","DriverOpts":null,"Name":"data","Labels":{"a":"b"},"AttachHistory":null,"Image":"i"}` {
		t.Errorf("the metadata are %s, %v", content, err)
	}
	if n, _ := strconv.Atoi(w.location.Query().Get("port")); n != w.server.Port() {
		t.Errorf("port %d", n)
	}
}

func TestAnyNumberOfVolumesIsListed(t *testing.T) {
	t.Parallel()
	w := newServed(t, nfs.Options{})
	const many = 400 // several pages
	for i := range many {
		name := fmt.Sprintf("v%04d", i)
		for _, dir := range []string{volumesDir, metadataDir} {
			if err := os.MkdirAll(w.path(dir, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.WriteFile(w.path(metadataDir, name, volume.MetadataKey), []byte("{}"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, err := w.store().List(t.Context())
	if err != nil || len(all) != many || all[many-1].Name != "v0399" || all[many-1].Damage != "" {
		t.Errorf("%d volumes, %v", len(all), err)
	}
	if w.server.Count("READDIRPLUS") < 3 {
		t.Errorf("%d pages", w.server.Count("READDIRPLUS"))
	}
}

func TestDeepAndLargeVolumesAreRemoved(t *testing.T) {
	t.Parallel()
	w := newServed(t, nfs.Options{})
	w.create("data")
	deep := w.path(volumesDir, "data") + strings.Repeat("/d", 40)
	if err := os.MkdirAll(deep, 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range 300 {
		for _, dir := range []string{w.path(volumesDir, "data"), deep} {
			if err := os.WriteFile(fmt.Sprintf("%s/f%d", dir, i), []byte("x"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	outside := t.TempDir()
	for _, link := range []string{"/l", "/d/l"} {
		if err := os.Symlink(outside, w.path(volumesDir, "data")+link); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.store().Remove(t.Context(), "data"); err != nil {
		t.Fatal(err)
	}
	if files := w.Files(); len(files) != 0 {
		t.Errorf("left is %q", files)
	}
	if _, err := os.Stat(outside); err != nil {
		t.Errorf("where a link led to: %v", err)
	}
	if w.server.Count("SETATTR") < 3 {
		t.Error("it does not say that it is under way")
	}
}

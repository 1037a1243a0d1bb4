// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func TestAnImportedDiskHasTheContentAndNothingElseIsLeft(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]vchsim.Options{
		"VMFS":                    {},
		"vSAN":                    {VSAN: true},
		"host that is no address": {ImportHost: "*"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newImportWorld(t, options)
			c := newImportContent(t, 64<<20, 5<<20+512)
			var told []string
			w.sim.ResetCounters()
			if err := w.importDisk(t.Context(), w.dir+"/disk.vmdk", c.content(), c.mark("up1"), func(done, total int64) { told = append(told, fmt.Sprintf("%d of %d", done, total)) }); err != nil {
				t.Fatal(err)
			}
			calls := w.sim.Calls()
			w.same(w.dir+"/disk.vmdk", c)
			want := []string{w.files.Path(w.dir + "/disk-flat.vmdk"), w.files.Path(w.dir + "/disk.vmdk")}
			if diff := cmp.Diff(want, w.added()); diff != "" {
				t.Errorf("left (-want +got):\n%s", diff)
			}
			if len(told) == 0 || told[len(told)-1] != fmt.Sprintf("%d of %d", c.size, c.size) {
				t.Errorf("progress ended with %v", told[max(0, len(told)-1):])
			}
			if n := w.sim.BytesReceived(); n != c.size || calls["POST /nfc"] != 1 {
				t.Errorf("%d bytes were sent for %d; %v", n, c.size, calls)
			}
			// How often a wait polls is a matter of luck.
			if n := w.sim.Requests() - calls["WaitForUpdatesEx"]; n > 22 {
				t.Errorf("%d requests: %v", n, calls)
			}
		})
	}
}

func TestAHolderSaysWhatItIs(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	c := newImportContent(t, 64<<20, 1<<20)
	mark := c.mark("up1")
	l, err := w.open(t.Context(), mark)
	if err != nil {
		t.Fatal(err)
	}
	found, err := w.Holders(t.Context())
	if err != nil || len(found) != 1 || found[0].Mark != mark || found[0].Name != "mcm-image-0123456789ab-"+mark.Attempt || found[0].Ref != l.info.Entity {
		t.Fatalf("%+v, %v", found, err)
	}
	if _, err := object.NewVirtualMachine(w.o.Client.Vim(), l.info.Entity).PowerOn(t.Context()); err == nil {
		t.Error("the simulator starts a VM that is being imported")
	}
	if vm := w.sim.VMs()[slices.IndexFunc(w.sim.VMs(), func(vm vchsim.VM) bool { return vm.Name == mark.name() })]; vm.Folder != w.sim.VCHName {
		t.Errorf("it stands in %s", vm.Folder)
	}
	w.abandon(t.Context(), l, mark)
	w.clean("after abandon")
}

func TestAnImportThatFailsLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	c := newImportContent(t, 64<<20, 5<<20)
	for name, tc := range map[string]struct {
		rule vchsim.FaultRule
		kind errdefs.Kind
	}{
		"import refused":            {vchsim.FaultRule{Method: "ImportVApp", Kind: "NoPermission"}, errdefs.PermissionDenied},
		"import unreachable":        {vchsim.FaultRule{Method: "ImportVApp", Kind: vchsim.KindHTTP503}, errdefs.Unavailable},
		"lease cannot be waited on": {vchsim.FaultRule{Method: "WaitForUpdatesEx", Kind: vchsim.KindHTTP503, Count: 3}, errdefs.Unavailable},
		"host busy":                 {vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindHTTP503}, errdefs.Unavailable},
		"host full":                 {vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindHTTP507}, errdefs.ResourceExhausted},
		"transfer cut":              {vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindHalf}, errdefs.Unavailable},
		"connection reset":          {vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindConnectionReset}, errdefs.Unavailable},
		"answer lost":               {vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindResponseLost}, errdefs.Unavailable},
		"arrived damaged":           {vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindCorrupt}, errdefs.Unavailable},
		"no manifest":               {vchsim.FaultRule{Method: "HttpNfcLeaseGetManifest", Kind: "NoPermission"}, errdefs.PermissionDenied},
		"not completed":             {vchsim.FaultRule{Method: "HttpNfcLeaseComplete", Kind: vchsim.KindHTTP503}, errdefs.Unavailable},
		"completed, answer lost":    {vchsim.FaultRule{Method: "HttpNfcLeaseComplete", Kind: vchsim.KindResponseLost}, errdefs.Unavailable},
		"holder unreadable":         {vchsim.FaultRule{Method: "RetrievePropertiesEx", Kind: vchsim.KindHTTP503, Count: 3}, errdefs.Unavailable}, // and its repetitions
		"copy refused":              {vchsim.FaultRule{Method: "CopyVirtualDisk_Task", Kind: "NoPermission"}, errdefs.PermissionDenied},
		"copy fails":                {vchsim.FaultRule{Method: "CopyVirtualDisk_Task", Kind: "task:NoDiskSpace"}, errdefs.ResourceExhausted},
		"copied, answer lost":       {vchsim.FaultRule{Method: "CopyVirtualDisk_Task", Kind: vchsim.KindResponseLost}, errdefs.Unavailable},
	} {
		w.fault(tc.rule)
		err := w.importDisk(t.Context(), w.dir+"/disk.vmdk", c.content(), c.mark("up1"), quiet)
		if !errdefs.Is(err, tc.kind) {
			t.Errorf("%s: %v (%s), want %s", name, err, errdefs.KindOf(err), tc.kind)
		}
		w.clean(name)
	}
	// A holder that could not be made says why.
	w.sim.ClearFaults()
	host := *w.o.Host
	host.Folder.Value = "group-v999"
	broken := *w.Maker
	broken.o.Host = &host
	if err := broken.importDisk(t.Context(), w.dir+"/disk.vmdk", c.content(), c.mark("up1"), quiet); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("no folder: %v", err)
	}
	w.clean("no folder")
	if err := w.importDisk(t.Context(), w.dir+"/disk.vmdk", c.content(), c.mark("up1"), quiet); err != nil {
		t.Error(err)
	}
	w.same(w.dir+"/disk.vmdk", c)
}

func TestAnImportLeavesNothingWhereverItsContextEnds(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	c := newImportContent(t, 64<<20, 2<<20)
	for _, method := range []string{"ImportVApp", "WaitForUpdatesEx", "POST /nfc", "HttpNfcLeaseGetManifest", "HttpNfcLeaseComplete", "RetrievePropertiesEx", "CopyVirtualDisk_Task"} {
		ctx, cancel := context.WithCancel(t.Context())
		broken := *w.Maker
		stop := w.sim.OnCall(method, cancel)
		w.sim.ResetCounters()
		err := broken.importDisk(ctx, w.dir+"/disk.vmdk", c.content(), c.mark("up1"), quiet)
		stop()
		cancel()
		if !errdefs.Is(err, errdefs.Canceled) {
			t.Errorf("%s: %v (%s), want Canceled", method, err, errdefs.KindOf(err))
		}
		w.clean("cancelled at " + method)
		// The lease is known even if its answer came after the end.
		calls := w.sim.Calls()
		if calls["HttpNfcLeaseAbort"]+calls["Destroy_Task"] == 0 {
			t.Errorf("cancelled at %s: nobody ended the lease: %v", method, calls)
		}
	}
}

func TestADiskThatIsThereIsNotTouched(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	first, second := newImportContent(t, 64<<20, 1<<20), newImportContent(t, 64<<20, 2<<20)
	if err := w.importDisk(t.Context(), w.dir+"/disk.vmdk", first.content(), first.mark("up1"), quiet); err != nil {
		t.Fatal(err)
	}
	w.foreign = w.present()
	if err := w.importDisk(t.Context(), w.dir+"/disk.vmdk", second.content(), second.mark("up2"), quiet); !errdefs.Is(err, errdefs.AlreadyExists) {
		t.Errorf("%v, want AlreadyExists", err)
	}
	w.same(w.dir+"/disk.vmdk", first)
	w.clean("after the second")
}

func TestALeaseIsKeptWhileContentIsSent(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{LeaseTimeout: 6 * time.Second})
	c := newImportContent(t, 64<<20, 5<<20)
	heard := func(context.Context) (bool, error) { return w.sim.Calls()["HttpNfcLeaseProgress"] >= 4, nil }
	begin := time.Now()
	// The content comes so slowly that the lease would have ended meanwhile.
	slow := c.content()
	slow.Stream = func(context.Context) (io.ReaderAt, int64, error) {
		return &slowReader{c.packed, func() {
			if err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, heard); err != nil {
				t.Errorf("the lease heard %d times: %v", w.sim.Calls()["HttpNfcLeaseProgress"], err)
			}
		}}, c.size, nil
	}
	if err := w.importDisk(t.Context(), w.dir+"/disk.vmdk", slow, c.mark("up1"), quiet); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(begin); took < 6*time.Second {
		t.Errorf("it took %s only", took)
	}
	w.same(w.dir+"/disk.vmdk", c)
}

// slowReader waits before each piece.
type slowReader struct {
	io.ReaderAt
	wait func()
}

func (s *slowReader) ReadAt(p []byte, at int64) (int, error) {
	s.wait()
	return s.ReaderAt.ReadAt(p, at)
}

func TestALeaseThatIsLostEndsTheTransfer(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{LeaseTimeout: time.Second})
	c := newImportContent(t, 64<<20, 5<<20)
	w.fault(vchsim.FaultRule{Method: "HttpNfcLeaseProgress", Kind: "Timedout"})
	if err := w.sim.SetFault(vchsim.FaultRule{Method: "POST /nfc", Kind: vchsim.KindStall}); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	err := w.importDisk(t.Context(), w.dir+"/disk.vmdk", c.content(), c.mark("up1"), quiet)
	if took := time.Since(begin); took > 30*time.Second {
		t.Errorf("it took %s: the transfer was not ended", took)
	}
	if !errdefs.Is(err, errdefs.DeadlineExceeded) || !strings.Contains(err.Error(), "keep the lease") {
		t.Errorf("%v (%s)", err, errdefs.KindOf(err))
	}
	w.clean("lost lease")
}

func TestAHostIsBelievedByTheThumbprintThatVCenterKnows(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	c := newImportContent(t, 64<<20, 1<<20)
	l, err := w.open(t.Context(), c.mark("up1"))
	if err != nil {
		t.Fatal(err)
	}
	defer w.abandon(t.Context(), l, c.mark("up1"))
	good := l.info.DeviceUrl[0].SslThumbprint
	for name, tc := range map[string]struct {
		thumbprint, address string
		kind                errdefs.Kind
	}{
		"another certificate":             {strings.Repeat("AB:", 19) + "AB", "", errdefs.FailedPrecondition},
		"no thumbprint, vCenter's trust":  {"", "", errdefs.FailedPrecondition},
		"a thumbprint that is none":       {"xyz", "", errdefs.Internal},
		"an address that is no https one": {good, "http://127.0.0.1/nfc/x", errdefs.Internal},
		"no address":                      {good, "::", errdefs.Internal},
	} {
		l.info.DeviceUrl = slices.Clone(l.info.DeviceUrl)
		d := l.info.DeviceUrl[0]
		d.SslThumbprint = tc.thumbprint
		if tc.address != "" {
			d.Url = tc.address
		}
		bad := &lease{ref: l.ref, info: l.info}
		bad.info.DeviceUrl = []types.HttpNfcLeaseDeviceUrl{d}
		err := w.fill(t.Context(), bad, newSummed(c.packed), c.size, quiet)
		if !errdefs.Is(err, tc.kind) {
			t.Errorf("%s: %v (%s), want %s", name, err, errdefs.KindOf(err), tc.kind)
		}
	}
	if n := w.sim.BytesReceived(); n != 0 {
		t.Errorf("%d bytes were sent to a host that is not believed", n)
	}
	if err := w.fill(t.Context(), l, newSummed(c.packed), c.size, quiet); err != nil {
		t.Error(err)
	}
}

func TestTheStarInAnAddressIsVCenter(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{})
	own := w.o.Client.Vim().URL()
	for in, want := range map[string]string{
		"https://*/nfc/a/disk.vmdk":           "https://" + own.Host + "/nfc/a/disk.vmdk",
		"https://*:902/nfc/a/disk.vmdk":       "https://" + own.Hostname() + ":902/nfc/a/disk.vmdk",
		"https://esx1:443/nfc/a/disk.vmdk":    "https://esx1:443/nfc/a/disk.vmdk",
		"https://[2001:db8::1]/nfc/disk.vmdk": "https://[2001:db8::1]/nfc/disk.vmdk",
	} {
		got, done, err := w.address(types.HttpNfcLeaseDeviceUrl{Url: in})
		if err != nil || got.URL != want {
			t.Errorf("%s: %q, %v, want %q", in, got.URL, err, want)
			continue
		}
		done()
	}
}

func TestOtherChecksumsAndNoneAreUnderstood(t *testing.T) {
	t.Parallel()
	content := []byte("content")
	s := newSummed(bytes.NewReader(content))
	part := make([]byte, 4)
	for _, at := range []int64{0, 4, 0, 4} { // the second attempt counts
		if _, err := s.ReadAt(part[:min(4, 7-at)], at); err != nil && !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	if got := s.sha1(); got != "040f06fd774092478d450774f5ba30c5da78acc8" {
		t.Errorf("SHA-1 %s", got)
	}
	if got, err := s.sha256(7); err != nil || got != "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73" {
		t.Errorf("SHA-256 %s, %v", got, err)
	}
}

func TestAProcessThatEndsLeavesNothingButHoldersThatAreFound(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{LeaseTimeout: 2 * time.Second})
	c := newImportContent(t, 64<<20, 2<<20)
	for n, method := range []string{"ImportVApp", "WaitForUpdatesEx", "POST /nfc", "HttpNfcLeaseGetManifest", "HttpNfcLeaseComplete", "RetrievePropertiesEx", "CopyVirtualDisk_Task", "Destroy_Task"} {
		for _, executed := range []string{vchsim.KindConnectionReset, vchsim.KindResponseLost} {
			upload := "up" + strconv.Itoa(n) + strings.ToLower(executed)
			// Whoever looks afterwards is another process, whose circuit breaker knows nothing of this one's end.
			dying, _ := w.process(vcenter.NewPool(vcenter.Options{}))
			// From this call on the process is heard of no more.
			stop := w.sim.OnCall(method, func() {
				if err := errors.Join(w.sim.SetFault(vchsim.FaultRule{Method: method, Kind: executed, Count: 1}),
					w.sim.SetFault(vchsim.FaultRule{Method: "*", Kind: vchsim.KindConnectionReset})); err != nil {
					t.Error(err)
				}
			})
			err := dying.importDisk(t.Context(), w.dir+"/"+upload+".vmdk", c.content(), c.mark(upload), quiet)
			stop()
			w.sim.ClearFaults()
			if method != "Destroy_Task" && err == nil {
				t.Errorf("%s: the import succeeded", upload)
			}
			// The disk is for whoever looks into the directory of the upload.
			for _, file := range []string{upload + ".vmdk", upload + "-flat.vmdk"} {
				if err := w.files.Delete(t.Context(), w.dir+"/"+file); err != nil {
					t.Error(err)
				}
			}
			deadline := time.Now().Add(30 * time.Second)
			for len(w.added()) > 0 {
				if time.Now().After(deadline) {
					t.Fatalf("%s: left %v", upload, w.added())
				}
				found, err := w.Holders(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				for _, h := range found {
					// One that is still lent out goes when its lease ends.
					if err := w.DestroyHolder(t.Context(), h.Ref, h.Mark); err != nil && !errdefs.Is(err, errdefs.Aborted) {
						t.Errorf("%s: %v", upload, err)
					}
				}
				<-time.After(20 * time.Millisecond)
			}
		}
	}
}

func TestMakeImportsWhereDisksAreObjects(t *testing.T) {
	t.Parallel()
	for what, vsan := range map[string]bool{"VMFS": false, "vSAN": true} {
		w := newImportWorld(t, vchsim.Options{VSAN: vsan})
		c := newImportContent(t, 64<<20, 5<<20)
		if w.Imports() != vsan {
			t.Errorf("%s: imports: %v", what, w.Imports())
		}
		to := w.dir + "/data.vmdk"
		// What the caller says of kind, size and place does not count.
		mark := Mark{Kind: "other", Subject: "data", Attempt: attemptOf("up1"), Owner: "me", Size: 1, To: "elsewhere"}
		var during []Holder
		stop := w.sim.OnCall("POST /nfc", func() {
			var err error
			if during, err = w.Holders(w.Context()); err != nil {
				t.Error(err)
			}
		})
		if err := w.Make(t.Context(), to, c.content(), mark, nil); err != nil {
			t.Fatal(err)
		}
		stop()
		w.same(to, c)
		if !vsan {
			continue
		}
		want := Mark{Kind: "image", Subject: "data", Attempt: mark.Attempt, Owner: "me", Size: 64 << 20, To: w.files.Path(to)}
		if len(during) != 1 || during[0].Mark != want || during[0].Name != want.name() {
			t.Errorf("holders during the import: %+v, want %+v", during, want)
		}
		if left, err := w.Holders(t.Context()); err != nil || len(left) != 0 {
			t.Errorf("holders afterwards: %v, %v", left, err)
		}
	}
}

func TestContentThatCannotBeStreamedMakesNoHolder(t *testing.T) {
	t.Parallel()
	w := newImportWorld(t, vchsim.Options{VSAN: true})
	c := newImportContent(t, 64<<20, 1<<20)
	content := c.content()
	content.Stream = func(context.Context) (io.ReaderAt, int64, error) {
		return nil, 0, errdefs.New(errdefs.ResourceExhausted, "no room for temporary files")
	}
	w.sim.ResetCounters()
	if err := w.Make(t.Context(), w.dir+"/data.vmdk", content, c.mark("up1"), nil); !errdefs.Is(err, errdefs.ResourceExhausted) {
		t.Error(err)
	}
	if n := w.sim.Requests(); n != 0 {
		t.Errorf("%d requests: %v", n, w.sim.Calls())
	}
}

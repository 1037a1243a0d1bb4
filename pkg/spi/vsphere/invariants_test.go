// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
	"golang.org/x/sync/errgroup"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

func TestFiftyAtOnceLoseNothingAndShareOneSession(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	s, spec, secret := w.SPI(), w.Spec(), w.Secret()
	const n = 50
	var group errgroup.Group
	for i := range n {
		name := fmt.Sprintf("machine-%d", i)
		group.Go(func() error {
			if _, err := s.CreateMachine(t.Context(), name, spec, secret); err != nil {
				return err
			}
			if _, err := s.ListMachines(t.Context(), spec, secret); err != nil {
				return err
			}
			_, _, err := s.InitializeMachine(t.Context(), name, "", spec, secret)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	got := map[string]int{}
	for _, m := range w.Machines() {
		got[m.Name]++
		if !m.Running {
			t.Errorf("%s does not run", m.Name)
		}
	}
	for i := range n {
		if c := got[fmt.Sprintf("machine-%d", i)]; c != 1 {
			t.Errorf("machine-%d is there %d times", i, c)
		}
	}
	for i := range n {
		group.Go(func() error {
			_, err := s.DeleteMachine(t.Context(), fmt.Sprintf("machine-%d", i), "", spec, secret)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if left := append(w.Leftovers(), fmt.Sprint(w.Machines())); len(left) != 1 || left[0] != "[]" {
		t.Errorf("left: %v", left)
	}
	if got := w.Sim.Logins(); got != 2 { // one is the test's own
		t.Errorf("%d logins, want one", got-1)
	}
}

func TestTheIdentitySurvivesRenameAndMove(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	id := w.start("machine-x")
	task, err := w.VMOf("machine-x").Rename(t.Context(), "somebody renamed this")
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if got, _, err := w.SPI().GetMachineStatus(t.Context(), "machine-x", id, w.Spec(), w.Secret()); err != nil || got != id {
		t.Errorf("status after a rename = %q, %v; want %q", got, err, id)
	}
	if again, err := w.SPI().CreateMachine(t.Context(), "machine-x", w.Spec(), w.Secret()); err != nil || again != id || len(w.Machines()) != 1 {
		t.Errorf("create after a rename = %q, %v, %v", again, err, w.Machines())
	}
	if _, err := w.SPI().DeleteMachine(t.Context(), "machine-x", id, w.Spec(), w.Secret()); err != nil {
		t.Fatal(err)
	}
	if left := w.Leftovers(); len(left) > 0 || len(w.Machines()) > 0 {
		t.Errorf("left: %v %v", left, w.Machines())
	}
}

func TestAVMOutsideTheVCHIsForeignEvenWithOurMark(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	id := w.start("machine-x")
	task, err := object.NewFolder(w.Admin, w.RootFolder()).MoveInto(t.Context(), []types.ManagedObjectReference{w.VMOf("machine-x").Reference()})
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.SPI().DeleteMachine(t.Context(), "machine-x", id, w.Spec(), w.Secret()); !errdefs.Is(err, errdefs.FailedPrecondition) {
		t.Errorf("delete = %v, want FailedPrecondition", err)
	}
	if got, err := w.SPI().ListMachines(t.Context(), w.Spec(), w.Secret()); err != nil || len(got) != 0 {
		t.Errorf("list = %v, %v", got, err)
	}
	if got := w.Machines(); len(got) != 1 || !got[0].Running {
		t.Errorf("the VM was touched: %v", got)
	}
}

func TestTheImageDiskSurvivesItsMachines(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	w.start("machine-1")
	w.start("machine-2")
	if _, err := w.SPI().DeleteMachine(t.Context(), "machine-1", "", w.Spec(), w.Secret()); err != nil {
		t.Fatal(err)
	}
	w.start("machine-3") // needs the image disk
	// The simulator does as vCenter: a VM destroyed with its disks takes the parents along.
	vm := w.VMOf("machine-2")
	task, err := vm.PowerOff(t.Context())
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err == nil {
		if task, err = vm.Destroy(t.Context()); err == nil {
			err = task.Wait(t.Context())
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.SPI().CreateMachine(t.Context(), "machine-4", w.Spec(), w.Secret()); !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), "rootDisk") {
		t.Errorf("create without the image disk = %v: either the simulator is too kind for this test, or the error does not name the field", err)
	}
}

func TestAVCHThatIsBeingUpgradedPostponesChanges(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	id := w.start("machine-x")
	w.Sim.ApplianceSetUpdateInProgress(true)
	s, spec, secret := w.SPI(), w.Spec(), w.Secret()
	_, createErr := s.CreateMachine(t.Context(), "machine-y", spec, secret)
	_, deleteErr := s.DeleteMachine(t.Context(), "machine-x", id, spec, secret)
	_, stopErr := s.ShutDownMachine(t.Context(), "machine-x", id, spec, secret)
	for what, err := range map[string]error{"create": createErr, "delete": deleteErr, "shutdown": stopErr} {
		if !errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), "UpdateInProgress") {
			t.Errorf("%s = %v, want Unavailable that says why", what, err)
		}
	}
	if _, _, err := s.GetMachineStatus(t.Context(), "machine-x", id, spec, secret); err != nil {
		t.Errorf("status = %v: reading does no harm", err)
	}
	w.Sim.ApplianceSetUpdateInProgress(false)
	if _, err := s.CreateMachine(t.Context(), "machine-y", spec, secret); err != nil {
		t.Errorf("create afterwards: %v", err)
	}
}

func TestAChangeBySomebodyElseIsMetByAFreshRead(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	w.start("machine-x")
	for _, kind := range []string{"ConcurrentAccess", "task:ConcurrentAccess", "InvalidState", "TaskInProgress"} {
		w.Sim.ClearFaults()
		if err := w.Sim.SetFault(vchsim.FaultRule{Method: "ReconfigVM_Task", Kind: kind, Count: 1}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.SPI().ShutDownMachine(t.Context(), "machine-x", "", w.Spec(), w.Secret()); err != nil {
			t.Errorf("shutdown with one %s: %v", kind, err)
		}
		if _, _, err := w.SPI().InitializeMachine(t.Context(), "machine-x", "", w.Spec(), w.Secret()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestAForeignVMOfTheMachinesDisplayNameStopsCreateAndDelete(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	id, err := identity.New(w.VCH(), vchsim.Cluster, "machine-x")
	if err != nil {
		t.Fatal(err)
	}
	spec := types.VirtualMachineConfigSpec{
		Name:  containervm.DisplayName(w.Host.NameConvention, "machine-x", id.ContainerID),
		Files: &types.VirtualMachineFileInfo{VmPathName: "[" + vchsim.Datastore + "]"},
	}
	w.PlantVM(&spec)
	before := w.Foreigners()
	if _, err := w.SPI().CreateMachine(t.Context(), "machine-x", w.Spec(), w.Secret()); !errdefs.Is(err, errdefs.AlreadyExists) {
		t.Errorf("create = %v, want AlreadyExists", err)
	}
	if _, err := w.SPI().DeleteMachine(t.Context(), "machine-x", "", w.Spec(), w.Secret()); !errdefs.Is(err, errdefs.FailedPrecondition) {
		t.Errorf("delete = %v, want FailedPrecondition", err)
	}
	if fmt.Sprint(before) != fmt.Sprint(w.Foreigners()) {
		t.Error("the foreign VM was touched")
	}
}

func TestAVCHThatIsNotThereIsNeverNotFound(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	{
		spec := w.Spec()
		spec.VCH.Name = "no-such-vch"
		if _, _, err := w.SPI().GetMachineStatus(t.Context(), "machine-x", "", spec, w.Secret()); !errdefs.Is(err, errdefs.FailedPrecondition) {
			t.Errorf("status = %v: NotFound would make MCM create a second VM", err)
		}
		if _, err := w.SPI().DeleteMachine(t.Context(), "machine-x", "", spec, w.Secret()); !errdefs.Is(err, errdefs.FailedPrecondition) {
			t.Errorf("delete = %v: success would lose the VM", err)
		}
	}
	spec := w.Spec()
	spec.VCH.Datacenter = "no-such-dc"
	if _, _, err := w.SPI().GetMachineStatus(t.Context(), "machine-x", "", spec, w.Secret()); !errdefs.Is(err, errdefs.FailedPrecondition) {
		t.Errorf("status in an unknown datacenter = %v", err)
	}
}

func TestVICCanReadOurVMs(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	w.start("machine-x")
	vm := w.VMs()[w.VMOf("machine-x").Reference()]
	cfg, err := guestinfo.DecodeExecutor(guestinfo.FromOptionValues(vch.Keys(vm.Config.ExtraConfig)))
	if err != nil {
		t.Fatal(err)
	}
	session := cfg.Sessions[cfg.ID]
	if session == nil || session.Started != "true" || session.Detail.StartTime == 0 || cfg.Version == nil || len(cfg.Networks) == 0 {
		t.Errorf("configuration = %+v", cfg)
	}
}

// hangingVCenter accepts connections and never answers.
func hangingVCenter(t *testing.T) (host string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var held []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			held = append(held, c)
		}
	}()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		<-done
		for _, c := range held {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return l.Addr().String()
}

func TestEveryCallEndsWithAVCenterThatHangs(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	const limit = 300 * time.Millisecond
	s := vsphere.New(vsphere.Options{Pool: w.Pool(), HostKey: world.HostKey, Limits: vsphere.Limits{Read: limit, Change: limit}})
	secret, spec := w.Secret(), w.Spec()
	secret.Data[v1alpha1.SecretHost] = []byte(hangingVCenter(t))
	spec.StartTimeoutSeconds, spec.StopGracePeriodSeconds = ptr.To[int64](0), ptr.To[int64](0)
	for name, call := range map[string]func() error{
		"create":     func() error { _, err := s.CreateMachine(t.Context(), "machine-x", spec, secret); return err },
		"initialize": func() error { _, _, err := s.InitializeMachine(t.Context(), "machine-x", "", spec, secret); return err },
		"status":     func() error { _, _, err := s.GetMachineStatus(t.Context(), "machine-x", "", spec, secret); return err },
		"list":       func() error { _, err := s.ListMachines(t.Context(), spec, secret); return err },
		"shutdown":   func() error { _, err := s.ShutDownMachine(t.Context(), "machine-x", "", spec, secret); return err },
		"delete":     func() error { _, err := s.DeleteMachine(t.Context(), "machine-x", "", spec, secret); return err },
	} {
		if err := call(); !errdefs.Is(err, errdefs.DeadlineExceeded) {
			t.Errorf("%s = %v, want DeadlineExceeded", name, err)
		}
	}
}

func TestAChangedSecretTakesEffectAtTheNextCall(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	w.start("machine-x")
	wrong := w.Secret()
	wrong.Data[v1alpha1.SecretPassword] = []byte("rotated away")
	if _, err := w.SPI().ListMachines(t.Context(), w.Spec(), wrong); !errdefs.Is(err, errdefs.Unauthenticated) {
		t.Errorf("list with a wrong password = %v: a warm session of another secret served it", err)
	}
	if got, err := w.SPI().ListMachines(t.Context(), w.Spec(), w.Secret()); err != nil || len(got) != 1 {
		t.Errorf("list with the right password = %v, %v", got, err)
	}
}

func TestADirectoryThatHoldsWhatIsSharedIsNotDeleted(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	w.start("machine-x")
	id, err := identity.New(w.VCH(), vchsim.Cluster, "machine-x")
	if err != nil {
		t.Fatal(err)
	}
	spec := w.Spec()
	spec.RootDisk.VMDK = "[" + vchsim.Datastore + "] " + id.ContainerID + "/image.vmdk"
	if _, err := w.SPI().DeleteMachine(t.Context(), "machine-x", "", spec, w.Secret()); !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), "shared") {
		t.Errorf("delete = %v, want FailedPrecondition that names what is shared", err)
	}
	if len(w.Machines()) != 1 {
		t.Error("the VM was destroyed before the check")
	}
	// The same without a VM, as after a removal that was cut off.
	if _, err := w.SPI().DeleteMachine(t.Context(), "machine-x", "", w.Spec(), w.Secret()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.SPI().DeleteMachine(t.Context(), "machine-x", "", spec, w.Secret()); !errdefs.Is(err, errdefs.FailedPrecondition) {
		t.Errorf("delete of leftovers = %v, want FailedPrecondition", err)
	}
}

func TestTheWordsOfAnEarlierStartAreNotTakenForAnAnswer(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	if _, err := w.SPI().CreateMachine(t.Context(), "machine-x", w.Spec(), w.Secret()); err != nil {
		t.Fatal(err)
	}
	w.Sim.SetGuest(vchsim.GuestOptions{Fail: "words of the first start"})
	if _, _, err := w.SPI().InitializeMachine(t.Context(), "machine-x", "", w.Spec(), w.Secret()); !errdefs.Is(err, errdefs.Internal) {
		t.Fatalf("a start that fails = %v", err)
	}
	// Slow enough for the wait to see what is there before the guest says anything.
	w.Sim.SetGuest(vchsim.GuestOptions{Delay: 500 * time.Millisecond})
	if _, _, err := w.SPI().InitializeMachine(t.Context(), "machine-x", "", w.Spec(), w.Secret()); err != nil {
		t.Errorf("the next start = %v", err)
	}
}

func TestAMachineIsStoppedAsHardAsItNeeds(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		guest              vchsim.GuestOptions
		programs, powerOff int
	}{
		"a good guest gets its signal":             {vchsim.GuestOptions{}, 1, 0},
		"one that ignores it gets KILL":            {vchsim.GuestOptions{IgnoreTerm: true}, 2, 0},
		"one that ignores both is powered off":     {vchsim.GuestOptions{IgnoreStop: true}, 2, 1},
		"one without grace is powered off at once": {vchsim.GuestOptions{}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSite(t, vchsim.Options{})
			w.Sim.SetGuest(tc.guest)
			w.start("machine-x")
			spec := w.Spec()
			spec.StopGracePeriodSeconds = ptr.To[int64](2)
			if tc.programs == 0 {
				spec.StopGracePeriodSeconds = ptr.To[int64](0)
			}
			w.TakeCalls()
			if _, err := w.SPI().DeleteMachine(t.Context(), "machine-x", "", spec, w.Secret()); err != nil {
				t.Fatal(err)
			}
			_, calls := w.TakeCalls()
			if calls["StartProgramInGuest"] != tc.programs || calls["PowerOffVM_Task"] != tc.powerOff {
				t.Errorf("calls = %v, want %d programs and %d power-offs", calls, tc.programs, tc.powerOff)
			}
			if left := w.Leftovers(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
		})
	}
}

func TestAVCHWithoutAFolderOfItsOwnKnowsItsMachinesByThePool(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{OtherVMs: 20})
	task, err := object.NewFolder(w.Admin, w.RootFolder()).MoveInto(t.Context(), []types.ManagedObjectReference{w.Sim.ApplianceRef()})
	if err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	// The empty folder has the VCH's name, which is in the way of the look-up.
	if task, err = object.NewFolder(w.Admin, w.Host.Folder).Rename(t.Context(), "former"); err == nil {
		err = task.Wait(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	s, spec, secret := w.SPI(), w.Spec(), w.Secret() // found by name, in the other place
	id, err := s.CreateMachine(t.Context(), "machine-x", spec, secret)
	if err != nil {
		t.Fatal(err)
	}
	if parent := w.VMs()[w.VMOf("machine-x").Reference()].Parent; *parent != w.RootFolder() {
		t.Errorf("the VM stands in %s", parent)
	}
	if _, _, err := s.InitializeMachine(t.Context(), "machine-x", id, spec, secret); err != nil {
		t.Error(err)
	}
	if got, err := s.ListMachines(t.Context(), spec, secret); err != nil || len(got) != 1 || got[id] != "machine-x" {
		t.Errorf("list = %v, %v", got, err)
	}
	if _, err := s.DeleteMachine(t.Context(), "machine-x", id, spec, secret); err != nil {
		t.Error(err)
	}
	if left := w.Leftovers(); len(left) > 0 || len(w.Machines()) > 0 {
		t.Errorf("left: %v %v", left, w.Machines())
	}
}

func TestOnVSANAMachineLivesAndLeavesNothing(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{VSAN: true})
	w.start("machine-x")
	w.start("machine-y")
	if _, err := w.SPI().DeleteMachine(t.Context(), "machine-x", "", w.Spec(), w.Secret()); err != nil {
		t.Fatal(err)
	}
	if left := w.Leftovers(); len(left) > 0 || len(w.Machines()) != 1 {
		t.Errorf("left: %v, machines: %v", left, w.Machines())
	}
}

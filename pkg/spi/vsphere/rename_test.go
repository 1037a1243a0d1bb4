// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// operator is what a person at vchctl has: another process on the same VCH, as it is configured now.
func (w site) operator() *containervm.Operator {
	w.Helper()
	cfg, err := vcenter.ConfigFromSecret(w.Sim.Secret())
	if err != nil {
		w.Fatal(err)
	}
	client, err := w.Pool().Client(w.Context(), cfg)
	if err != nil {
		w.Fatal(err)
	}
	host, err := vch.Find(w.Context(), client, w.Sim.ProviderSpec().VCH)
	if err != nil {
		w.Fatal(err)
	}
	return containervm.NewOperator(client, host, plugins.Shipped())
}

// read returns the VM of a machine of ours.
func (w site) read(o *containervm.Operator, machine string) *containervm.VM {
	w.Helper()
	ref := w.VMOf(machine).Reference()
	vms, err := o.ReadWhole(w.Context(), ref)
	if err != nil || vms[ref] == nil {
		w.Fatalf("read machine %s: %v, %v", machine, vms, err)
	}
	return vms[ref]
}

// rename gives the VM of a machine another name, which must succeed.
func (w site) rename(machine, name string) {
	w.Helper()
	o := w.operator()
	if _, err := o.Rename(w.Context(), w.read(o, machine), name, containervm.Machines); err != nil {
		w.Fatal(err)
	}
}

// called sets the VCH's name convention, before the backend reads it.
func (w site) called(convention string) {
	w.Helper()
	if err := w.Sim.SetKeys(vchsim.DefaultVCH, map[string]string{"guestinfo.vice./container/ContainerNameConvention": convention}); err != nil {
		w.Fatal(err)
	}
}

// gone fails the test if anything of machines is left.
func (w site) gone() {
	w.Helper()
	if left := w.Leftovers(); len(left) > 0 || len(w.Machines()) > 0 {
		w.Errorf("left: %v %v", left, w.Machines())
	}
}

func TestARenamedMachineIsTheSameMachine(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]vchsim.Options{"VMFS": {}, "vSAN": {VSAN: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSite(t, o)
			w.PlantVolume("data", spitest.Volume{})
			spec := w.with(mounted("data", "/data"), mounted("", "/cache"))
			s, secret := w.SPI(), w.Secret()
			w.create("machine-x", spec)
			id, addresses, err := s.InitializeMachine(t.Context(), "machine-x", "", spec, secret)
			if err != nil {
				t.Fatal(err)
			}
			ref := w.VMOf("machine-x").Reference()
			for _, name := range []string{"db-1", "db-2"} { // running
				w.rename("machine-x", name)
				if got := w.VMs()[ref].Name; !strings.HasPrefix(got, name+"-") {
					t.Errorf("the VM is called %q", got)
				}
			}
			if got, now, err := s.GetMachineStatus(t.Context(), "machine-x", id, spec, secret); err != nil || got != id || !cmp.Equal(now, addresses) {
				t.Errorf("status = %q, %v, %v; want %q, %v", got, now, err, id, addresses)
			}
			if got, err := s.ListMachines(t.Context(), spec, secret); err != nil || len(got) != 1 || got[id] != "machine-x" {
				t.Errorf("list = %v, %v", got, err)
			}
			if got, err := s.CreateMachine(t.Context(), "machine-x", spec, secret); err != nil || got != id || len(w.Machines()) != 1 {
				t.Errorf("create again = %q, %v; machines: %v", got, err, w.Machines())
			}
			if got, err := s.ShutDownMachine(t.Context(), "machine-x", id, spec, secret); err != nil || got != id {
				t.Errorf("shut down = %q, %v", got, err)
			}
			w.rename("machine-x", "db-3") // stopped
			if got, _, err := s.InitializeMachine(t.Context(), "machine-x", id, spec, secret); err != nil || got != id || w.VMOf("machine-x").Reference() != ref {
				t.Errorf("initialize = %q, %v; the VM is %v", got, err, w.VMOf("machine-x"))
			}
			w.refused("create of another spec", func() error {
				_, err := s.CreateMachine(t.Context(), "machine-x", w.Spec(), secret)
				return err
			}(), errdefs.AlreadyExists, "db-3-")
			if got, err := s.DeleteMachine(t.Context(), "machine-x", id, spec, secret); err != nil || got != id {
				t.Errorf("delete = %q, %v", got, err)
			}
			w.gone()
			if got := slices.Sorted(maps.Keys(w.Volumes())); !slices.Equal(got, []string{"data"}) {
				t.Errorf("volumes: %v, want the named one alone", got)
			}
		})
	}
}

func TestARenamedVMThatHasTheNameOfAnotherMachinesVMIsLeftAlone(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		vsan       bool
		convention string
		refused    bool
	}{
		"with ids in the names":          {},
		"without them":                   {convention: "{name}", refused: true},
		"with ids in the names, on vSAN": {vsan: true},
		"without them, on vSAN":          {vsan: true, convention: "{name}", refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSite(t, vchsim.Options{VSAN: tc.vsan})
			w.called(tc.convention)
			id := w.start("machine-a")
			w.rename("machine-a", "machine-b")
			renamed := w.read(w.operator(), "machine-a")
			other, err := w.SPI().CreateMachine(t.Context(), "machine-b", w.Spec(), w.Secret())
			if tc.refused {
				w.refused("create", err, errdefs.AlreadyExists, `is to be called "machine-b"`, "vchctl rename")
			} else if err != nil || other == id {
				t.Errorf("create = %q, %v", other, err)
			}
			if _, err := w.SPI().DeleteMachine(t.Context(), "machine-b", "", w.Spec(), w.Secret()); err != nil {
				t.Errorf("delete = %v", err)
			}
			now := w.read(w.operator(), "machine-a")
			if !now.Running() || now.Name != renamed.Name || now.ChangeVersion != renamed.ChangeVersion || len(w.Machines()) != 1 {
				t.Errorf("the renamed VM %q was touched: %q, %s; machines: %v", renamed.Name, now.Name, now.PowerState, w.Machines())
			}
			if left := w.Leftovers(); len(left) > 0 {
				t.Errorf("left: %v", left)
			}
			// The other one's name is free again.
			w.rename("machine-a", "machine-c")
			w.create("machine-b", w.Spec())
			w.remove("machine-b", w.Spec())
			w.remove("machine-a", w.Spec())
			w.gone()
		})
	}
}

func TestARemovalThatWasCutOffIsFinishedAfterARename(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]string{"before the VM is destroyed": "Destroy_Task", "before its directory is deleted": "DeleteDatastoreFile_Task"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newSite(t, vchsim.Options{})
			w.start("machine-x")
			w.rename("machine-x", "db-1")
			if err := w.Sim.SetFault(vchsim.FaultRule{Method: cut, Kind: "HTTP503", Count: 1}); err != nil {
				t.Fatal(err)
			}
			_, err := w.SPI().DeleteMachine(t.Context(), "machine-x", "", w.Spec(), w.Secret())
			w.refused("delete", err, errdefs.Unavailable)
			if cut == "Destroy_Task" {
				w.rename("machine-x", "db-2")
			} else if len(w.Leftovers()) == 0 {
				t.Error("nothing is left: this shows nothing")
			}
			w.remove("machine-x", w.Spec())
			w.gone()
		})
	}
}

func TestARenameNeverKeepsAMachineFromBeingDeletedUnderFaults(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true, DockerContainers: -1})
	o := w.operator()
	allowed := []errdefs.Kind{"", errdefs.Aborted, errdefs.FailedPrecondition}
	// Whoever begins second has done all his work when the first one's n-th request arrives.
	for first, begin := range map[string]func(rename, remove func() error) (one, two func() error){
		"the removal": func(rename, remove func() error) (one, two func() error) { return remove, rename },
		"the rename":  func(rename, remove func() error) (one, two func() error) { return rename, remove },
	} {
		for n := 1; ; n++ {
			machine := fmt.Sprintf("m-%d", n)
			w.create(machine, w.Spec())
			vm := w.read(o, machine)
			var renameErr, removeErr error
			one, two := begin(
				func() error {
					_, renameErr = o.Rename(t.Context(), vm, machine+"-renamed", containervm.Machines)
					return renameErr
				},
				func() error {
					_, removeErr = w.SPI().DeleteMachine(t.Context(), machine, "", w.Spec(), w.Secret())
					return removeErr
				})
			var begun atomic.Bool
			stop, _ := w.Sim.OnRequest(n, func() {
				begun.Store(true)
				_ = two() // kept above
			})
			_ = one() // kept above
			stop()
			met := begun.Load()
			w.Settle()
			if !slices.Contains(allowed, errdefs.KindOf(renameErr)) {
				t.Errorf("%s first, request %d: rename = %v (%s)", first, n, renameErr, errdefs.KindOf(renameErr))
			}
			if removeErr != nil {
				if !errdefs.Is(removeErr, errdefs.Aborted) { // MCM repeats it
					t.Errorf("%s first, request %d: delete = %v (%s)", first, n, removeErr, errdefs.KindOf(removeErr))
				}
				w.remove(machine, w.Spec())
			}
			if !met {
				w.remove(machine, w.Spec())
				t.Logf("%s first: %d requests", first, n-1)
				if n < 5 {
					t.Errorf("%s first: only %d requests were met", first, n-1)
				}
				break
			}
			w.gone()
		}
	}
	w.gone()
}

// names are what a rename changes of a VM.
type names struct{ VM, Container, Aliases string }

func namesOf(vm *containervm.VM) names {
	return names{vm.Name, vm.Stored[guestinfo.NameKey], vm.Stored[guestinfo.AliasesKey(vchsim.ExternalNetwork)]}
}

// walk lets each request of an operation go wrong once, before and after it did its work, and
// calls check each time.
func (w site) walk(what string, prepare func(machine string) func() error, check func(machine string, err error)) {
	w.Helper()
	for _, kind := range []string{"HTTP503", "ConnectionReset", "ResponseLost", "ConcurrentAccess"} {
		for n := 1; ; n++ {
			machine := fmt.Sprintf("%s-%s-%d", what, strings.ToLower(kind), n)
			w.create(machine, w.Spec())
			do := prepare(machine)
			w.Sim.ResetCounters()
			if err := w.Sim.SetFault(vchsim.FaultRule{Method: "*", Kind: kind, NthCall: n}); err != nil {
				w.Fatal(err)
			}
			err := do()
			w.Sim.ClearFaults()
			requests := w.Sim.Requests()
			w.Settle()
			check(machine, err)
			if _, _, err := w.SPI().InitializeMachine(w.Context(), machine, "", w.Spec(), w.Secret()); err != nil {
				w.Errorf("%s does not start: %v", machine, err)
			}
			w.remove(machine, w.Spec())
			if requests < n {
				w.Logf("%s: %d requests with %s", what, n-1, kind)
				if n < 4 {
					w.Errorf("%s: only %d requests with %s", what, n-1, kind)
				}
				break
			}
		}
	}
	w.gone()
}

func TestARenameIsWholeOrNotAtAllUnderFaults(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true, DockerContainers: -1})
	o := w.operator()
	before, outcomes := map[string]names{}, map[bool]int{}
	prepare := func(machine string) func() error {
		key := guestinfo.AliasesKey(vchsim.ExternalNetwork)
		if err := w.Sim.SetKeys(w.read(o, machine).Name, map[string]string{key: ":" + machine, strings.TrimSuffix(key, "~"): "0"}); err != nil {
			t.Fatal(err)
		}
		vm := w.read(o, machine)
		before[machine] = namesOf(vm)
		fresh := w.operator() // one that made its collector has fewer requests
		return func() error {
			_, err := fresh.Rename(t.Context(), vm, "new-"+machine, containervm.Machines)
			return err
		}
	}
	w.walk("rename", prepare, func(machine string, err error) {
		vm := w.read(o, machine)
		is, was := namesOf(vm), before[machine]
		renamed := names{"new-" + was.VM, "new-" + machine, ":new-" + machine}
		switch {
		case is == renamed:
		case is == was && err != nil:
		default:
			t.Errorf("%s: %v (%s) left %+v of %+v", machine, err, errdefs.KindOf(err), is, was)
		}
		outcomes[is == renamed]++
		// Whatever it was, a second one ends it.
		if _, err := o.Rename(t.Context(), vm, "new-"+machine, containervm.Machines); err != nil || namesOf(w.read(o, machine)) != renamed {
			t.Errorf("%s, again: %v, %+v", machine, err, namesOf(w.read(o, machine)))
		}
	})
	t.Logf("renamed or not: %v", outcomes)
	if outcomes[true] == 0 || outcomes[false] == 0 {
		t.Errorf("renamed or not: %v; this shows half of it", outcomes)
	}
}

func TestAMigrationIsWholeOrNotAtAllUnderFaults(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{NoForeign: true, DockerContainers: -1})
	o := w.operator()
	before, outcomes := map[string]*containervm.VM{}, map[bool]int{}
	noBackup := func(*containervm.VM, containervm.MigrationPlan) error { return nil }
	prepare := func(machine string) func() error {
		if err := w.Sim.Age(w.read(o, machine).Name, 1); err != nil {
			t.Fatal(err)
		}
		vm := w.read(o, machine)
		before[machine] = vm
		fresh := w.operator()
		return func() error {
			_, err := fresh.ApplyMigration(t.Context(), vm, containervm.Machines, noBackup)
			return err
		}
	}
	w.walk("apply", prepare, func(machine string, err error) {
		vm, was := w.read(o, machine), before[machine]
		migrated := maps.Equal(vm.Stored, was.Keys)
		if !migrated && (err == nil || !maps.Equal(vm.Stored, was.Stored)) {
			t.Errorf("%s: %v (%s) left, of what was read:\n%s", machine, err, errdefs.KindOf(err), cmp.Diff(was.Keys, vm.Stored))
		}
		outcomes[migrated]++
		if _, err := o.ApplyMigration(t.Context(), vm, containervm.Machines, noBackup); err != nil || !maps.Equal(w.read(o, machine).Stored, was.Keys) {
			t.Errorf("%s, again: %v", machine, err)
		}
	})
	t.Logf("migrated or not: %v", outcomes)
	if outcomes[true] == 0 || outcomes[false] == 0 {
		t.Errorf("migrated or not: %v; this shows half of it", outcomes)
	}
}

func TestDigestsOfAnotherSchemeSayNothing(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	w.create("machine-x", w.Spec())
	o := w.operator()
	vm := w.read(o, "machine-x")
	for scheme, kind := range map[int]errdefs.Kind{identity.DigestScheme: errdefs.AlreadyExists, identity.DigestScheme + 1: ""} {
		mark := *vm.Mark()
		mark.Digest, mark.Spec = scheme, "0123"
		encoded, err := mark.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Sim.SetKeys(vm.Name, map[string]string{guestinfo.AnnotationKey(identity.MarkAnnotation): encoded}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.SPI().CreateMachine(t.Context(), "machine-x", w.Spec(), w.Secret()); errdefs.KindOf(err) != kind {
			t.Errorf("scheme %d: %v (%s), want %s", scheme, err, errdefs.KindOf(err), kind)
		}
	}
}

func TestAVMThatIsNotOursIsNeverSaidToBeTooNew(t *testing.T) {
	t.Parallel()
	w := newSite(t, vchsim.Options{})
	w.Plant(spitest.HalfMarked, "machine-x")
	name := ""
	for _, vm := range w.VMs() {
		if strings.Contains(vm.Name, "machine-x") {
			name = vm.Name
		}
	}
	if err := w.Sim.SetKeys(name, map[string]string{guestinfo.PluginVersionKey: "99"}); err != nil {
		t.Fatal(err)
	}
	_, err := w.SPI().DeleteMachine(t.Context(), "machine-x", "", w.Spec(), w.Secret())
	w.refused("delete", err, errdefs.FailedPrecondition, "it has no mark of this provider")
}

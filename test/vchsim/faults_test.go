// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/fault"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

func TestEachVSphereFaultCanBeAMethodsAnswer(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	for kind, newFault := range vimFaults() {
		if kind == "NotAuthenticated" {
			continue // ends the session: below
		}
		must(t, sim.SetFault(FaultRule{Method: "CurrentTime", Kind: kind}))
		_, err := methods.GetCurrentTime(t.Context(), client)
		if !soap.IsSoapFault(err) || reflect.TypeOf(soap.ToSoapFault(err).VimFault()).Name() != kind {
			t.Errorf("%s: %v (%T)", kind, err, newFault(client.ServiceContent.RootFolder))
		}
		sim.ClearFaults()
	}
	must(t, sim.SetFault(FaultRule{Method: "CurrentTime", Kind: "NotAuthenticated", Count: 1}))
	for range 2 {
		if _, err := methods.GetCurrentTime(t.Context(), client); !fault.Is(err, &types.NotAuthenticated{}) {
			t.Errorf("NotAuthenticated: %v", err)
		}
	}
}

func TestEachTaskCanBeMadeToFail(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	vm := mustCreate(t, sim, client, "a")
	for method, f := range map[string]starter{"PowerOnVM_Task": vm.PowerOn, "PowerOffVM_Task": vm.PowerOff, "Destroy_Task": vm.Destroy} {
		for _, kind := range []string{"NoDiskSpace", "HostCommunication", "InsufficientMemoryResourcesFault"} {
			must(t, sim.SetFault(FaultRule{Method: method, Kind: "task:" + kind, Count: 1}))
			task, err := f(t.Context())
			if err != nil {
				t.Errorf("%s: the method itself failed: %v", method, err)
				continue
			}
			if err := task.Wait(t.Context()); err == nil || !strings.Contains(kindOf(err), kind) {
				t.Errorf("%s: task ended with %v, want %s", method, err, kind)
			}
		}
	}
	must(t, sim.SetFault(FaultRule{Method: "CreateVM_Task", Kind: "task:FileLocked", Count: 1}))
	if _, err := create(t.Context(), sim, client, machineSpec(t, sim, "b")); !fault.Is(err, &types.FileLocked{}) {
		t.Errorf("create: %v", err)
	}
	if got := len(sim.Machines()); got != 1 {
		t.Errorf("%d machines", got)
	}
}

func kindOf(err error) string {
	kind := ""
	fault.In(err, func(f types.BaseMethodFault, _ string, _ []types.LocalizableMessage) bool {
		kind = reflect.TypeOf(f).Elem().Name()
		return true
	})
	return kind
}

func TestConnectionsBreakBeforeAndAfterTheCall(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	for kind, executed := range map[string]bool{KindHTTP503: false, KindConnectionReset: false, KindResponseLost: true} {
		must(t, sim.SetFault(FaultRule{Method: "CreateVM_Task", Kind: kind}))
		_, err := create(t.Context(), sim, client, machineSpec(t, sim, strings.ToLower(kind)))
		if err == nil || soap.IsSoapFault(err) || soap.IsVimFault(err) {
			t.Errorf("%s: %v", kind, err)
		}
		sim.ClearFaults()
		deadline := time.Now().Add(10 * time.Second)
		for executed && time.Now().Before(deadline) {
			if _, made := sim.Machine("responselost"); made {
				break
			}
		}
		if _, made := sim.Machine(strings.ToLower(kind)); made != executed {
			t.Errorf("%s: executed %v, want %v", kind, made, executed)
		}
	}
}

func TestFaultsStrikeWhenTheyAreTold(t *testing.T) {
	t.Parallel()
	var i injector
	must(t, i.add(FaultRule{Method: "A", Kind: "NotFound", NthCall: 3}))
	must(t, i.add(FaultRule{Method: "B", Count: 2}))
	must(t, i.add(FaultRule{Method: "*", Kind: KindHTTP503, NthCall: 2}))
	strikes := func(method string, transport bool, n int) (got []string) {
		for range n {
			got = append(got, i.strike(method, transport))
		}
		return got
	}
	if diff := cmp.Diff([]string{"", "", "NotFound", ""}, strikes("A", false, 4)); diff != "" {
		t.Errorf("third call: %s", diff)
	}
	if diff := cmp.Diff([]string{"InvalidState", "InvalidState", ""}, strikes("B", false, 3)); diff != "" {
		t.Errorf("twice: %s", diff)
	}
	if diff := cmp.Diff([]string{"", KindHTTP503, ""}, strikes("C", true, 3)); diff != "" {
		t.Errorf("any method: %s", diff)
	}
	i.clear()
	must(t, i.add(FaultRule{Method: "A", Probability: 0.5}))
	struck := 0
	for _, kind := range strikes("A", false, 1000) {
		if kind != "" {
			struck++
		}
	}
	if struck < 300 || struck > 700 {
		t.Errorf("probability one half struck %d of 1000", struck)
	}
}

func TestFaultRulesAreReadAndRefused(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]FaultRule{
		"CreateVM_Task=1":                      {Method: "CreateVM_Task", Probability: 1},
		"*=0.25:HTTP503":                       {Method: "*", Probability: 0.25, Kind: "HTTP503"},
		"Destroy_Task=0.5:task:TaskInProgress": {Method: "Destroy_Task", Probability: 0.5, Kind: "task:TaskInProgress"},
	} {
		got, err := ParseFaultRule(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v %s", text, err, diff)
		}
	}
	for _, text := range []string{"", "A", "A=", "A=x", "A=0", "A=2", "A=-1", "A=1:Nonsense", "=1", "A=1:task:NotFound", "Other_Task=1:task:NotFound"} {
		if _, err := ParseFaultRule(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
	sim := start(t, Options{NoForeign: true})
	if err := sim.SetFault(FaultRule{Method: "A", Kind: "Nonsense"}); err == nil {
		t.Error("an unknown kind was accepted")
	}
	if _, err := Start(t.Context(), Options{Faults: []FaultRule{{}}}); err == nil {
		t.Error("a rule without method was accepted")
	}
	for _, kind := range FaultKinds() {
		if err := (FaultRule{Method: "CreateVM_Task", Kind: kind}).validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestCallsAndLatencyAreCountedAtTheServer(t *testing.T) {
	t.Parallel()
	const latency = 30 * time.Millisecond
	sim := start(t, Options{NoForeign: true, Latency: latency})
	client := login(t, sim)
	sim.ResetCounters()
	begin := time.Now()
	for range 3 {
		_, err := methods.GetCurrentTime(t.Context(), client)
		must(t, err)
	}
	if took := time.Since(begin); took < 3*latency {
		t.Errorf("3 calls took %v", took)
	}
	if diff := cmp.Diff(map[string]int{"CurrentTime": 3}, sim.Calls()); diff != "" || sim.Requests() != 3 || sim.Logins() != 0 || sim.BytesSent() == 0 {
		t.Errorf("%d requests, %d bytes, %s", sim.Requests(), sim.BytesSent(), diff)
	}
	must(t, sim.SetFault(FaultRule{Method: "CurrentTime", Kind: KindConnectionReset}))
	if _, err := methods.GetCurrentTime(t.Context(), client); err == nil || errors.Is(err, t.Context().Err()) {
		t.Errorf("reset: %v", err)
	}
	if sim.Calls()["CurrentTime"] < 4 {
		t.Error("a call that was cut off is not counted")
	}
}

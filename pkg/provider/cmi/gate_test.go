// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	testclock "k8s.io/utils/clock/testing"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
)

// inCluster is the spec of a machine in another cluster of the same VCH.
func inCluster(name string) []byte {
	return []byte(strings.ReplaceAll(rigSpec, "kubernetes.io/cluster/one", "kubernetes.io/cluster/"+name))
}

func TestOneCallForAMachineAtATime(t *testing.T) {
	t.Parallel()
	clock := testclock.NewFakePassiveClock(time.Unix(1_000_000, 0))
	held := newOccupied("CreateMachine")
	d := &stub{hook: held.hook}
	r := newRig(t, d, ServerOptions{Clock: clock})
	client := r.machines()
	ctx := rigContext(t)
	ended := make(chan error, 1)
	go func() {
		_, err := client.CreateMachine(ctx, &cmiv1.CreateMachineRequest{MachineName: rigMachine, ProviderSpec: []byte(rigSpec)})
		ended <- err
	}()
	held.await(t)
	clock.SetTime(time.Unix(1_000_042, 0))

	for name, err := range secondCalls(ctx, client) {
		s := status.Convert(err)
		if s.Code() != codes.Aborted || infoOf(s) == nil {
			t.Errorf("%s is answered %v", name, err)
		}
		for _, want := range []string{name, rigMachine, "CreateMachine is under way", "42s"} {
			if !strings.Contains(s.Message(), want) {
				t.Errorf("%s: the text lacks %q: %s", name, want, s.Message())
			}
		}
	}
	for name, err := range otherCalls(ctx, r) {
		if err != nil {
			t.Errorf("%s is disturbed: %v", name, err)
		}
	}
	close(held.release)
	if err := <-ended; err != nil {
		t.Errorf("the first call: %v", err)
	}
	if _, err := rigStatus(ctx, client, rigMachine); err != nil {
		t.Errorf("the machine is not free again: %v", err)
	}
}

// secondCalls are those for the machine that has one under way. The class's name,
// other settings and metadata do not make it another machine.
func secondCalls(ctx context.Context, client cmiv1.MachineClient) map[string]error {
	elsewhere := metadata.AppendToOutgoingContext(ctx, keyNamespace, "another", keyClassName, "another")
	other := []byte(strings.ReplaceAll(rigSpec, `"stopGracePeriodSeconds": 33`, `"stopGracePeriodSeconds": 1`))
	results := map[string]error{}
	_, results["CreateMachine"] = client.CreateMachine(elsewhere, &cmiv1.CreateMachineRequest{MachineName: rigMachine, ProviderSpec: []byte(rigSpec)})
	_, results["DeleteMachine"] = client.DeleteMachine(ctx, &cmiv1.DeleteMachineRequest{MachineName: rigMachine, ProviderSpec: other})
	_, results["GetMachineStatus"] = rigStatus(ctx, client, rigMachine)
	_, results["ShutDownMachine"] = client.ShutDownMachine(ctx, &cmiv1.ShutDownMachineRequest{MachineName: rigMachine, ProviderSpec: []byte(rigSpec)})
	return results
}

// otherCalls are those that have nothing to do with it.
func otherCalls(ctx context.Context, r *rig) map[string]error {
	client, identity := r.machines(), cmiv1.NewIdentityClient(r.conn())
	results := map[string]error{}
	_, results["another machine"] = rigStatus(ctx, client, "machine-2")
	_, results["the same name in another cluster"] = client.GetMachineStatus(ctx, &cmiv1.GetMachineStatusRequest{MachineName: rigMachine, ProviderSpec: inCluster("two")})
	_, results["ListMachines"] = client.ListMachines(ctx, &cmiv1.ListMachinesRequest{ProviderSpec: []byte(rigSpec)})
	_, results["GetVolumeIDs"] = client.GetVolumeIDs(ctx, &cmiv1.GetVolumeIDsRequest{})
	_, results["Probe"] = identity.Probe(ctx, &cmiv1.ProbeRequest{})
	_, results["GetPluginInfo"] = identity.GetPluginInfo(ctx, &cmiv1.GetPluginInfoRequest{})
	_, results["GetPluginCapabilities"] = identity.GetPluginCapabilities(ctx, &cmiv1.GetPluginCapabilitiesRequest{})
	return results
}

func TestListsDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	held := newOccupied("ListMachines")
	client := newRig(t, &stub{hook: held.hook}, ServerOptions{}).machines()
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if _, err := client.ListMachines(rigContext(t), &cmiv1.ListMachinesRequest{ProviderSpec: []byte(rigSpec)}); err != nil {
				t.Error(err)
			}
		})
	}
	for range 3 {
		held.await(t)
	}
	close(held.release)
	wg.Wait()
}

func TestAMachineIsFreeAgainHoweverItsCallEnded(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testing.T, *rig, *occupied){
		"the client cancels": func(t *testing.T, r *rig, held *occupied) {
			ctx, cancel := context.WithCancel(rigContext(t))
			ended := make(chan error, 1)
			client := r.machines()
			go func() {
				_, err := client.DeleteMachine(ctx, &cmiv1.DeleteMachineRequest{MachineName: rigMachine, ProviderSpec: []byte(rigSpec)})
				ended <- err
			}()
			held.await(t)
			cancel()
			if err := <-ended; status.Code(err) != codes.Canceled {
				t.Errorf("got %v", err)
			}
		},
		"the client's time is over": func(t *testing.T, r *rig, held *occupied) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			_, err := r.machines().DeleteMachine(ctx, &cmiv1.DeleteMachineRequest{MachineName: rigMachine, ProviderSpec: []byte(rigSpec)})
			if status.Code(err) != codes.DeadlineExceeded {
				t.Errorf("got %v", err)
			}
			held.await(t)
		},
		"the client vanishes": func(t *testing.T, r *rig, held *occupied) {
			conn := r.conn()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = cmiv1.NewMachineClient(conn).DeleteMachine(rigContext(t), &cmiv1.DeleteMachineRequest{MachineName: rigMachine, ProviderSpec: []byte(rigSpec)})
			}()
			held.await(t)
			conn.Close()
			awaitEnd(t, "the call", rigLimit, ended)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			held := newOccupied("DeleteMachine")
			r := newRig(t, &stub{hook: held.hook}, ServerOptions{})
			end(t, r, held)
			client := r.machines()
			rigEventually(t, func() error {
				_, err := rigStatus(rigContext(t), client, rigMachine)
				return err
			})
			r.server.gate.wantEmpty(t)
		})
	}
}

func (g *gate) wantEmpty(t testing.TB) {
	t.Helper()
	rigEventually(t, func() error {
		g.mu.Lock()
		defer g.mu.Unlock()
		if g.calls != 0 || len(g.busy) != 0 {
			return fmt.Errorf("the gate still counts %d calls and has %v", g.calls, g.busy)
		}
		return nil
	})
}

func TestAPanicIsInternalTellsNothingAndFreesTheMachine(t *testing.T) {
	t.Parallel()
	const planted = "planted-secret-in-a-panic"
	for name, cause := range map[string]any{"a text": planted, "an error": errors.New(planted), "a nil pointer": nil} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var panics atomic.Bool
			panics.Store(true)
			log := &logged{}
			r := newRig(t, &stub{hook: func(context.Context, string, string) error {
				if !panics.Load() {
					return nil
				}
				if cause == nil { // a fault of the program itself
					var none *stub
					none.calls = append(none.calls, planted)
				}
				panic(cause)
			}}, ServerOptions{Logger: log.logger(10)})
			d := r.driver()
			for _, c := range rigCalls() {
				answered, err := c.call(rigContext(t), d, rigMachine)
				if code, text := rigCode(err); code.String() != "Internal" || strings.Contains(text, planted) || answered {
					t.Errorf("%s: %v", c.name, err)
				}
			}
			panics.Store(false)
			for _, c := range rigCalls() {
				if _, err := c.call(rigContext(t), d, rigMachine); err != nil {
					t.Errorf("%s afterwards: %v", c.name, err)
				}
			}
			r.server.gate.wantEmpty(t)
			if text := log.String(); strings.Contains(text, planted) || !strings.Contains(text, "Panic in a call") || !strings.Contains(text, "gate_test.go") {
				t.Errorf("the log must have the stack and not the value:\n%.2000s", text)
			}
		})
	}
}

func TestMoreCallsThanTheLimitAreUnavailable(t *testing.T) {
	t.Parallel()
	held := newOccupied("DeleteMachine", "ListMachines")
	r := newRig(t, &stub{hook: held.hook}, ServerOptions{MaxConcurrentCalls: 3})
	client := r.machines()
	ctx := rigContext(t)
	var wg sync.WaitGroup
	for i := range 2 {
		wg.Go(func() {
			if _, err := client.DeleteMachine(ctx, &cmiv1.DeleteMachineRequest{MachineName: fmt.Sprint("m-", i)}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		if _, err := client.ListMachines(ctx, &cmiv1.ListMachinesRequest{}); err != nil {
			t.Error(err)
		}
	})
	for range 3 {
		held.await(t)
	}
	_, err := rigStatus(ctx, client, rigMachine)
	if s := status.Convert(err); s.Code() != codes.Unavailable || !strings.Contains(s.Message(), "--max-concurrent-calls") || infoOf(s) == nil {
		t.Errorf("one more call is answered %v", err)
	}
	if _, err := cmiv1.NewIdentityClient(r.conn()).Probe(ctx, &cmiv1.ProbeRequest{}); err != nil {
		t.Errorf("a busy driver is not healthy: %v", err)
	}
	close(held.release)
	wg.Wait()
	if _, err := rigStatus(ctx, client, rigMachine); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

func TestTheGateHoldsUnderLoad(t *testing.T) {
	t.Parallel()
	var inside sync.Map
	d := &stub{hook: func(_ context.Context, _, machine string) error {
		if _, busy := inside.LoadOrStore(machine, true); busy {
			return errors.New("two calls for " + machine)
		}
		inside.Delete(machine)
		return nil
	}}
	r := newRig(t, d, ServerOptions{MaxConcurrentCalls: 8})
	var wg sync.WaitGroup
	for i := range 8 {
		client := r.machines()
		wg.Go(func() {
			for j := range 40 {
				_, err := rigStatus(rigContext(t), client, fmt.Sprint("m-", (i+j)%4))
				if code := status.Code(err); code != codes.OK && code != codes.Aborted && code != codes.Unavailable {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r.server.gate.wantEmpty(t)
}

func TestARequestSaysHowLongItMayTakeAndForWhichMachine(t *testing.T) {
	t.Parallel()
	const timeout = time.Minute
	key := func(spec, machine string) string {
		return extentOf(&cmiv1.DeleteMachineRequest{MachineName: machine, ProviderSpec: []byte(spec)}, "ns", timeout).machine
	}
	if key(rigSpec, "a") == key(rigSpec, "b") || key(rigSpec, "a") == key(string(inCluster("two")), "a") || key(rigSpec, "a") == "" {
		t.Error("different machines have one key")
	}
	if key("{", "a") == "" || key("{", "a") == key("{", "b") {
		t.Error("calls with a spec that cannot be read are not kept apart by machine")
	}
	if got := extentOf(&cmiv1.ListMachinesRequest{ProviderSpec: []byte(rigSpec)}, "ns", timeout).machine; got != "" {
		t.Errorf("a list has the key %q", got)
	}
	huge := []byte(`{"startTimeoutSeconds":9223372036854775807,"stopGracePeriodSeconds":-9223372036854775808}`)
	for name, tc := range map[string]struct {
		request any
		want    time.Duration
	}{
		"create":                {&cmiv1.CreateMachineRequest{ProviderSpec: []byte(rigSpec)}, 2*timeout + 77*time.Second},
		"delete":                {&cmiv1.DeleteMachineRequest{ProviderSpec: []byte(rigSpec)}, timeout + 33*time.Second},
		"shut down":             {&cmiv1.ShutDownMachineRequest{ProviderSpec: []byte(rigSpec)}, timeout + 33*time.Second},
		"defaults":              {&cmiv1.CreateMachineRequest{ProviderSpec: []byte("{}")}, 2*timeout + time.Duration(v1alpha1.DefaultStartTimeoutSeconds)*time.Second},
		"a start without limit": {&cmiv1.CreateMachineRequest{ProviderSpec: huge}, 2*timeout + v1alpha1.MaxStartTimeoutSeconds*time.Second},
		"a stop below zero":     {&cmiv1.DeleteMachineRequest{ProviderSpec: huge}, timeout},
	} {
		// A call must never be cut off before the driver's own limit.
		if got := extentOf(tc.request, "ns", timeout).limit; got < tc.want || got > tc.want+timeout+v1alpha1.MaxStartTimeoutSeconds*time.Second {
			t.Errorf("%s has %s, want at least %s", name, got, tc.want)
		}
	}
}

func TestADriverThatHangsIsEndedByTheServer(t *testing.T) {
	t.Parallel()
	held := newOccupied("GetMachineStatus", "ListMachines")
	r := newRig(t, &stub{hook: held.hook}, ServerOptions{CallTimeout: 50 * time.Millisecond})
	client := r.machines()
	for name, call := range map[string]func() error{
		"GetMachineStatus": func() error {
			_, err := client.GetMachineStatus(rigContext(t), &cmiv1.GetMachineStatusRequest{MachineName: rigMachine})
			return err
		},
		"ListMachines": func() error {
			_, err := client.ListMachines(rigContext(t), &cmiv1.ListMachinesRequest{})
			return err
		},
	} {
		began := time.Now()
		err := call()
		if s := status.Convert(err); s.Code() != codes.DeadlineExceeded || infoOf(s) == nil {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("%s took %s", name, took)
		}
	}
	r.server.gate.wantEmpty(t)
}

func TestAMachineStaysBusyWhileItsDriverDoesNotListen(t *testing.T) {
	t.Parallel()
	held := newOccupied("DeleteMachine")
	held.deaf = true
	r := newRig(t, &stub{hook: held.hook}, ServerOptions{})
	client := r.machines()
	ctx, cancel := context.WithCancel(rigContext(t))
	ended := make(chan error, 1)
	go func() {
		_, err := client.DeleteMachine(ctx, &cmiv1.DeleteMachineRequest{MachineName: rigMachine, ProviderSpec: []byte(rigSpec)})
		ended <- err
	}()
	held.await(t)
	cancel()
	if err := <-ended; status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	}
	if _, err := rigStatus(rigContext(t), client, rigMachine); status.Code(err) != codes.Aborted {
		t.Errorf("a second call beside the one that goes on: %v", err)
	}
	close(held.release)
	r.server.gate.wantEmpty(t)
}

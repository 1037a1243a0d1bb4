// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mcmdriver "github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	mcmcodes "github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/fake"
)

func TestWaitEndsWhenAServerAppearsAndIsReady(t *testing.T) {
	t.Parallel()
	e := rigSocket(t)
	d := rigDriver(t, DriverOptions{Endpoint: e})
	ended := make(chan error, 1)
	go func() { ended <- d.Wait(rigContext(t)) }()
	notYet := func(when string) {
		t.Helper()
		select {
		case err := <-ended:
			t.Fatalf("%s: Wait has ended with %v", when, err)
		case <-time.After(2 * probeInterval):
		}
	}
	notYet("nobody serves")
	r := newRigAt(t, e, &stub{}, ServerOptions{})
	notYet("the server is not ready")
	r.server.Ready()
	if err := <-ended; err != nil {
		t.Errorf("Wait: %v", err)
	}
	if err := d.Wait(rigContext(t)); err != nil {
		t.Errorf("a second Wait: %v", err)
	}
}

func TestWaitHoldsTheLastAnswerWhenItsTimeIsOver(t *testing.T) {
	t.Parallel()
	failed := newRig(t, &stub{}, ServerOptions{})
	failed.server.Fail(errors.New("the vault is gone"))
	for name, tc := range map[string]struct {
		endpoint Endpoint
		want     string
	}{
		"nobody serves": {rigSocket(t), "no such file"},
		"not ready":     {newRigAt(t, rigSocket(t), &stub{}, ServerOptions{}).endpoint, errNotReady.Error()},
		"failed":        {failed.endpoint, "the vault is gone"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 10*probeInterval) // ends during a probe
			defer cancel()
			err := rigDriver(t, DriverOptions{Endpoint: tc.endpoint}).Wait(ctx)
			if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), tc.endpoint.String()) {
				t.Errorf("got %v, want the endpoint and %q", err, tc.want)
			}
		})
	}
}

// picky is an Identity with a choice of capabilities.
type picky struct {
	foreign

	can   []cmiv1.PluginCapability_RPC_Type
	asked atomic.Int32
}

func (p *picky) Probe(context.Context, *cmiv1.ProbeRequest) (*cmiv1.ProbeResponse, error) {
	return &cmiv1.ProbeResponse{}, nil // absent means ready
}

func (p *picky) GetPluginInfo(context.Context, *cmiv1.GetPluginInfoRequest) (*cmiv1.GetPluginInfoResponse, error) {
	return &cmiv1.GetPluginInfoResponse{Name: "picky.example.org", Version: "v9"}, nil
}

func (p *picky) GetPluginCapabilities(context.Context, *cmiv1.GetPluginCapabilitiesRequest) (*cmiv1.GetPluginCapabilitiesResponse, error) {
	p.asked.Add(1)
	response := &cmiv1.GetPluginCapabilitiesResponse{Capabilities: []*cmiv1.PluginCapability{{}, nil}} // what we do not know
	for _, capability := range p.can {
		response.Capabilities = append(response.Capabilities, &cmiv1.PluginCapability{
			Type: &cmiv1.PluginCapability_Rpc{Rpc: &cmiv1.PluginCapability_RPC{Type: capability}},
		})
	}
	return response, nil
}

func (p *picky) register(s *grpc.Server) {
	cmiv1.RegisterIdentityServer(s, p)
	cmiv1.RegisterMachineServer(s, p)
}

func TestWaitRefusesWhatIsNoDriverAtOnce(t *testing.T) {
	t.Parallel()
	incapable := &picky{can: []cmiv1.PluginCapability_RPC_Type{cmiv1.PluginCapability_RPC_DELETE_MACHINE, 99}}
	for name, tc := range map[string]struct {
		register func(*grpc.Server)
		want     []string
	}{
		"another service":  {func(s *grpc.Server) { grpc_health_v1.RegisterHealthServer(s, health.NewServer()) }, []string{"no CMI driver"}},
		"no CreateMachine": {incapable.register, []string{"picky.example.org", "v9", "CREATE_MACHINE"}},
		"nothing at all":   {(&picky{}).register, []string{"CREATE_MACHINE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := rigSocket(t)
			serveForeign(t, e, tc.register)
			ctx := rigContext(t)
			err := rigDriver(t, DriverOptions{Endpoint: e}).Wait(ctx)
			if err == nil || ctx.Err() != nil {
				t.Fatalf("got %v, %v", err, ctx.Err())
			}
			for _, want := range append(tc.want, e.String()) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v lacks %q", err, want)
				}
			}
		})
	}
}

func TestWaitIsEndedByItsCaller(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := rigDriver(t, DriverOptions{Endpoint: rigSocket(t)}).Wait(ctx); err == nil {
		t.Error("it succeeded")
	}
}

func TestCapabilitiesAreThoseOfTheServerThatIsConnected(t *testing.T) {
	t.Parallel()
	e := rigSocket(t)
	r := newRigAt(t, e, &stub{}, ServerOptions{})
	d := r.driver()
	for _, c := range rigCalls() {
		if _, err := c.call(rigContext(t), d, rigMachine); err != nil {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	r.stop(rigLimit)
	small := &picky{can: []cmiv1.PluginCapability_RPC_Type{cmiv1.PluginCapability_RPC_CREATE_MACHINE, cmiv1.PluginCapability_RPC_DELETE_MACHINE}}
	var calls atomic.Int32
	serveForeign(t, e, small.register, grpc.UnaryInterceptor(func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if strings.HasPrefix(info.FullMethod, "/cmi.v1.Machine/") {
			calls.Add(1)
		}
		return handler(ctx, req)
	}))
	// A call may be on its way while the connection changes; then the server says it itself.
	rigEventually(t, func() error {
		_, err := rigCalls()[5].call(rigContext(t), d, rigMachine)
		if code, text := rigCode(err); code != mcmcodes.Unimplemented || !strings.Contains(text, "capability") {
			return fmt.Errorf("the client does not know yet what the server can: %w", err)
		}
		return nil
	})
	calls.Store(0)
	for _, c := range rigCalls()[3:] {
		answered, err := c.call(rigContext(t), d, rigMachine)
		if code, text := rigCode(err); code != mcmcodes.Unimplemented || !strings.Contains(text, e.String()) || !strings.Contains(text, "capability") || answered {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	if calls.Load() > 0 {
		t.Errorf("%d calls were made that the server does not have", calls.Load())
	}
	if asked := small.asked.Load(); asked > 2 {
		t.Errorf("in one connection the server was asked %d times", asked)
	}
}

func TestTheClientConnectsAgain(t *testing.T) {
	t.Parallel()
	e := rigSocket(t)
	var d *Driver
	for range 3 {
		r := newRigAt(t, e, &stub{}, ServerOptions{})
		if d == nil {
			d = r.driver()
		}
		rigEventually(t, func() error {
			_, err := rigCalls()[3].call(rigContext(t), d, rigMachine)
			return err
		})
		r.stop(rigLimit)
		rigEventually(t, func() error {
			_, err := rigCalls()[3].call(rigContext(t), d, rigMachine)
			if code, text := rigCode(err); code != mcmcodes.Unavailable || !strings.Contains(text, e.String()) {
				return errors.New("a call without a server is answered " + text)
			}
			return nil
		})
	}
}

func TestACallDuringAKillIsUnavailable(t *testing.T) {
	t.Parallel()
	held := newOccupied("DeleteMachine")
	r := newRig(t, &stub{hook: held.hook}, ServerOptions{})
	d := r.driver()
	ended := make(chan error, 1)
	go func() {
		_, err := rigCalls()[2].call(rigContext(t), d, rigMachine)
		ended <- err
	}()
	held.await(t)
	r.server.grpc.Stop() // connections are cut, as by a kill
	if code, text := rigCode(<-ended); code != mcmcodes.Unavailable || !strings.Contains(text, r.endpoint.String()) {
		t.Errorf("got %s %q", code, text)
	}
}

func TestARequestThatIsTooLargeIsNotSent(t *testing.T) {
	t.Parallel()
	d := &stub{}
	c := newRig(t, d, ServerOptions{}).driver()
	machine, class, secret := rigInput(rigMachine)
	secret.Data["large"] = make([]byte, MaxMessageBytes)
	_, err := c.CreateMachine(rigContext(t), &mcmdriver.CreateMachineRequest{Machine: machine, MachineClass: class, Secret: secret})
	if code, text := rigCode(err); code != mcmcodes.InvalidArgument || !strings.Contains(text, "4194304") {
		t.Errorf("got %v", err)
	}
	secret.Data["large"] = make([]byte, MaxMessageBytes-4096)
	if _, err := c.CreateMachine(rigContext(t), &mcmdriver.CreateMachineRequest{Machine: machine, MachineClass: class, Secret: secret}); err != nil {
		t.Errorf("a request that just fits: %v", err)
	}
	if diff := cmp.Diff([]string{"CreateMachine"}, d.noted()); diff != "" {
		t.Error(diff)
	}
}

func TestRequestsThatLackPartsAreAnsweredAsInProcess(t *testing.T) {
	t.Parallel()
	plugin := provider.NewMachinePlugin(fake.New(), provider.Options{})
	c := newRig(t, plugin, ServerOptions{}).driver()
	machine, class, secret := rigInput(rigMachine)
	for name, request := range map[string]*mcmdriver.DeleteMachineRequest{
		"nothing":         nil,
		"an empty one":    {},
		"no class":        {Machine: machine, Secret: secret},
		"no machine":      {MachineClass: class, Secret: secret},
		"no Secret":       {Machine: machine, MachineClass: class},
		"all that it has": {Machine: machine, MachineClass: class, Secret: secret},
	} {
		_, want := plugin.DeleteMachine(rigContext(t), request)
		_, got := c.DeleteMachine(rigContext(t), request)
		if (want == nil) != (got == nil) || want != nil && want.Error() != got.Error() {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

// silence is a listener that takes connections and never answers.
func silence(t *testing.T) Endpoint {
	t.Helper()
	e := rigSocket(t)
	listener, err := Listen(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
		}
	}()
	t.Cleanup(func() { listener.Close() })
	return e
}

// freezing is a relay to a server that stops to pass on anything, as a process
// that got SIGSTOP does.
func freezing(t *testing.T, to Endpoint) (e Endpoint, freeze func()) {
	t.Helper()
	e = rigSocket(t)
	listener, err := Listen(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	var frozen sync.RWMutex
	relay := func(from, to net.Conn) {
		buffer := make([]byte, 4096)
		for {
			n, err := from.Read(buffer)
			frozen.RLock()
			frozen.RUnlock() //nolint:staticcheck // a gate, which stays shut
			if n > 0 {
				_, _ = to.Write(buffer[:n])
			}
			if err != nil {
				return
			}
		}
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial(to.Network(), to.Address())
			if err != nil {
				conn.Close()
				return
			}
			t.Cleanup(func() { errors.Join(conn.Close(), server.Close()) })
			go relay(conn, server)
			go relay(server, conn)
		}
	}()
	t.Cleanup(func() { listener.Close() })
	return e, func() {
		frozen.Lock()
		t.Cleanup(frozen.Unlock)
	}
}

func TestASilentServerIsGivenUpByTheClientsLimit(t *testing.T) {
	t.Parallel()
	working := newRig(t, &stub{}, ServerOptions{})
	relayed, freeze := freezing(t, working.endpoint)
	for name, endpoint := range map[string]Endpoint{"never a word": silence(t), "frozen": relayed} {
		d := rigDriver(t, DriverOptions{Endpoint: endpoint, CallTimeout: 100 * time.Millisecond})
		d.margin = 200 * time.Millisecond
		if name == "frozen" {
			rigEventually(t, func() error { // the first call can be slow: it connects
				_, err := rigCalls()[5].call(rigContext(t), d, rigMachine)
				return err
			})
			freeze()
		}
		for _, c := range []rigCall{rigCalls()[3], rigCalls()[5]} { // the others have longer limits
			began := time.Now()
			_, err := c.call(t.Context(), d, rigMachine)
			if code, text := rigCode(err); code != mcmcodes.DeadlineExceeded || !strings.Contains(text, endpoint.String()) {
				t.Errorf("%s, %s: %v", name, c.name, err)
			}
			if took := time.Since(began); took > 5*time.Second {
				t.Errorf("%s, %s took %s", name, c.name, took)
			}
		}
	}
}

func TestADeafDriverIsGivenUpByTheClientsLimit(t *testing.T) {
	t.Parallel()
	held := newOccupied("GetMachineStatus")
	held.deaf = true
	r := newRig(t, &stub{hook: held.hook}, ServerOptions{CallTimeout: 50 * time.Millisecond})
	t.Cleanup(func() { close(held.release) }) // before the server's end, which waits for it
	d := rigDriver(t, DriverOptions{Endpoint: r.endpoint, CallTimeout: 50 * time.Millisecond})
	d.margin = 100 * time.Millisecond
	_, err := rigCalls()[3].call(t.Context(), d, rigMachine)
	if code, text := rigCode(err); code != mcmcodes.DeadlineExceeded || !strings.Contains(text, r.endpoint.String()) {
		t.Errorf("got %v", err)
	}
}

func TestTheClientWaitsLongerThanTheServer(t *testing.T) {
	t.Parallel()
	held := newOccupied("GetMachineStatus")
	r := newRig(t, &stub{hook: held.hook}, ServerOptions{CallTimeout: 100 * time.Millisecond})
	_, err := rigCalls()[3].call(rigContext(t), rigDriver(t, DriverOptions{Endpoint: r.endpoint, CallTimeout: 100 * time.Millisecond}), rigMachine)
	if code, text := rigCode(err); code != mcmcodes.DeadlineExceeded || strings.Contains(text, r.endpoint.String()) {
		t.Errorf("the server's own answer did not arrive: %v", err)
	}
}

func TestAfterCloseCallsFailAndNothingHangs(t *testing.T) {
	t.Parallel()
	held := newOccupied("DeleteMachine")
	r := newRig(t, &stub{hook: held.hook}, ServerOptions{})
	d := r.driver()
	ended := make(chan error, 1)
	go func() {
		_, err := rigCalls()[2].call(rigContext(t), d, rigMachine)
		ended <- err
	}()
	held.await(t)
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	if code, _ := rigCode(<-ended); code != mcmcodes.Canceled && code != mcmcodes.Unavailable {
		t.Errorf("the call that was under way ends with %s", code)
	}
	for _, c := range rigCalls() {
		if _, err := c.call(rigContext(t), d, rigMachine); err == nil {
			t.Errorf("%s works after Close", c.name)
		}
	}
	r.server.gate.wantEmpty(t)
}

// plain drops everything that is not in CMI's messages, both ways.
func plain(calls *sync.Map) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		n, _ := calls.LoadOrStore(info.FullMethod, new(atomic.Int32))
		n.(*atomic.Int32).Add(1)
		ctx = metadata.NewIncomingContext(ctx, metadata.MD{})
		ctx = grpc.NewContextWithServerTransportStream(ctx, noTrailer{grpc.ServerTransportStreamFromContext(ctx)})
		response, err := handler(ctx, req)
		if s := status.Convert(err); err != nil {
			return nil, status.Error(s.Code(), s.Message())
		}
		return response, nil
	}
}

type noTrailer struct{ grpc.ServerTransportStream }

func (noTrailer) SetTrailer(metadata.MD) error { return nil }

func TestAPlainCMIServerLeadsAMachineThroughItsLife(t *testing.T) {
	t.Parallel()
	backend := fake.New()
	e := rigSocket(t)
	var calls sync.Map
	serveForeign(t, e, func(s *grpc.Server) {
		cmiv1.RegisterIdentityServer(s, &identityServer{state: newState()})
		cmiv1.RegisterMachineServer(s, &machineServer{driver: provider.NewMachinePlugin(backend, provider.Options{})})
	}, grpc.UnaryInterceptor(plain(&calls)))
	d := rigDriver(t, DriverOptions{Endpoint: e})
	ctx := rigContext(t)
	machine, class, secret := rigInput(rigMachine)
	looked := func() (*mcmdriver.GetMachineStatusResponse, error) {
		return d.GetMachineStatus(ctx, &mcmdriver.GetMachineStatusRequest{Machine: machine, MachineClass: class, Secret: secret})
	}
	_, err := looked()
	if code, _ := rigCode(err); code != mcmcodes.NotFound {
		t.Fatalf("before create: %v", err)
	}
	created, err := d.CreateMachine(ctx, &mcmdriver.CreateMachineRequest{Machine: machine, MachineClass: class, Secret: secret})
	if err != nil || created.ProviderID == "" || created.NodeName != rigMachine || created.LastKnownState == "" {
		t.Fatalf("create: %+v, %v", created, err)
	}
	machine.Spec.ProviderID = created.ProviderID
	initialized, err := d.InitializeMachine(ctx, &mcmdriver.InitializeMachineRequest{Machine: machine, MachineClass: class, Secret: secret})
	if err != nil || initialized.ProviderID != created.ProviderID {
		t.Fatalf("initialize: %+v, %v", initialized, err)
	}
	if n, _ := calls.Load("/cmi.v1.Machine/CreateMachine"); n.(*atomic.Int32).Load() != 2 {
		t.Errorf("InitializeMachine has not repeated CreateMachine")
	}
	if found, err := looked(); err != nil || found.ProviderID != created.ProviderID || len(found.Addresses) > 0 {
		t.Errorf("status: %+v, %v", found, err)
	}
	want := map[string]string{created.ProviderID: rigMachine}
	if listed, err := d.ListMachines(ctx, &mcmdriver.ListMachinesRequest{MachineClass: class, Secret: secret}); err != nil || !cmp.Equal(want, listed.MachineList) {
		t.Errorf("list: %v, %v", listed, err)
	}
	if _, err := d.ShutDownMachine(ctx, &provider.ShutDownMachineRequest{Machine: machine, MachineClass: class, Secret: secret}); err != nil {
		t.Errorf("shut down: %v", err)
	}
	_, err = looked()
	if code, text := rigCode(err); code != mcmcodes.FailedPrecondition || !strings.Contains(text, e.String()) {
		t.Errorf("a stopped machine: %v", err)
	}
	if _, err := d.InitializeMachine(ctx, &mcmdriver.InitializeMachineRequest{Machine: machine, MachineClass: class, Secret: secret}); err != nil {
		t.Errorf("start it again: %v", err)
	}
	if ids, err := d.GetVolumeIDs(ctx, &mcmdriver.GetVolumeIDsRequest{PVSpecs: []*corev1.PersistentVolumeSpec{{}}}); err != nil || ids.VolumeIDs == nil {
		t.Errorf("volumes: %v, %v", ids, err)
	}
	for range 2 {
		if _, err := d.DeleteMachine(ctx, &mcmdriver.DeleteMachineRequest{Machine: machine, MachineClass: class, Secret: secret}); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if listed, err := d.ListMachines(ctx, &mcmdriver.ListMachinesRequest{MachineClass: class, Secret: secret}); err != nil || listed.MachineList == nil || len(listed.MachineList) > 0 {
		t.Errorf("list in the end: %v, %v", listed, err)
	}
	if left := backend.VMs(); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestAddressesThatCannotBeReadAreAnError(t *testing.T) {
	t.Parallel()
	e := rigSocket(t)
	serveForeign(t, e, func(s *grpc.Server) {
		cmiv1.RegisterIdentityServer(s, &picky{can: []cmiv1.PluginCapability_RPC_Type{cmiv1.PluginCapability_RPC_GET_MACHINE_STATUS}})
		cmiv1.RegisterMachineServer(s, &machineServer{driver: &stub{}})
	}, grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
		if err := grpc.SetTrailer(ctx, metadata.Pairs(keyAddresses, "{")); err != nil {
			return nil, err
		}
		return handler(ctx, req)
	}))
	_, err := rigCalls()[3].call(rigContext(t), rigDriver(t, DriverOptions{Endpoint: e}), rigMachine)
	if code, text := rigCode(err); code != mcmcodes.Internal || !strings.Contains(text, e.String()) || !strings.Contains(text, keyAddresses) {
		t.Errorf("got %v", err)
	}
}

var _ io.Closer = (*Driver)(nil)

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	mcmdriver "github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	mcmcodes "github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	mcmstatus "github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/fake"
)

const (
	rigMachine = "machine-1"
	rigID      = "vch://4210c0de-0000-4000-8000-00000000cafe/machine-1"
	rigSpec    = `{
		"vch": {"datacenter": "DC0", "name": "vch-1"},
		"tags": {"kubernetes.io/cluster/one": "1", "kubernetes.io/role/worker": "1"},
		"rootDisk": {"vmdk": "[LocalDS_0] images/node.vmdk"},
		"command": ["/bin/sleep", "infinity"],
		"networks": [{"name": "net"}],
		"startTimeoutSeconds": 77,
		"stopGracePeriodSeconds": 33
	}`
	// rigLimit ends tests that hang.
	rigLimit = 30 * time.Second
)

func rigSecret() map[string][]byte {
	return map[string][]byte{
		v1alpha1.SecretHost:     []byte("vcenter.example.org"),
		v1alpha1.SecretUsername: []byte(fake.Username),
		v1alpha1.SecretPassword: []byte(fake.Password),
		v1alpha1.SecretUserData: []byte("#!/bin/sh\nTOKEN=planted-token-of-userdata exec node\n"),
	}
}

// rigAddresses are what stubs answer.
func rigAddresses() []corev1.NodeAddress {
	return []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.7"}, {Type: corev1.NodeHostName, Address: "mäschine"}}
}

// stub is a driver that notes its calls and answers with success, unless hook says
// something else.
type stub struct {
	hook func(ctx context.Context, method, machine string) error

	mu      sync.Mutex
	calls   []string
	secrets []*corev1.Secret
	classes []*mcmv1alpha1.MachineClass
}

var _ provider.Driver = (*stub)(nil)

func (s *stub) note(ctx context.Context, method string, machine *mcmv1alpha1.Machine, class *mcmv1alpha1.MachineClass, secret *corev1.Secret) error {
	name := ""
	if machine != nil {
		name = machine.Name
	}
	s.mu.Lock()
	s.calls, s.secrets, s.classes = append(s.calls, method), append(s.secrets, secret), append(s.classes, class)
	s.mu.Unlock()
	if s.hook == nil {
		return nil
	}
	return s.hook(ctx, method, name)
}

func (s *stub) noted() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.calls)
}

func (s *stub) lastSecret() *corev1.Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.secrets) == 0 {
		return nil
	}
	return s.secrets[len(s.secrets)-1]
}

func (s *stub) CreateMachine(ctx context.Context, r *mcmdriver.CreateMachineRequest) (*mcmdriver.CreateMachineResponse, error) {
	if err := s.note(ctx, "CreateMachine", r.Machine, r.MachineClass, r.Secret); err != nil {
		return nil, err
	}
	return &mcmdriver.CreateMachineResponse{ProviderID: rigID, NodeName: r.Machine.Name, LastKnownState: "Created"}, nil
}

func (s *stub) InitializeMachine(ctx context.Context, r *mcmdriver.InitializeMachineRequest) (*mcmdriver.InitializeMachineResponse, error) {
	if err := s.note(ctx, "InitializeMachine", r.Machine, r.MachineClass, r.Secret); err != nil {
		return nil, err
	}
	return &mcmdriver.InitializeMachineResponse{ProviderID: rigID, NodeName: r.Machine.Name, Addresses: rigAddresses()}, nil
}

func (s *stub) DeleteMachine(ctx context.Context, r *mcmdriver.DeleteMachineRequest) (*mcmdriver.DeleteMachineResponse, error) {
	if err := s.note(ctx, "DeleteMachine", r.Machine, r.MachineClass, r.Secret); err != nil {
		return nil, err
	}
	return &mcmdriver.DeleteMachineResponse{LastKnownState: "Deleted"}, nil
}

func (s *stub) GetMachineStatus(ctx context.Context, r *mcmdriver.GetMachineStatusRequest) (*mcmdriver.GetMachineStatusResponse, error) {
	response := &mcmdriver.GetMachineStatusResponse{ProviderID: rigID, NodeName: r.Machine.Name, Addresses: rigAddresses()}
	err := s.note(ctx, "GetMachineStatus", r.Machine, r.MachineClass, r.Secret)
	if code, _ := rigCode(err); err != nil && code != mcmcodes.Uninitialized {
		return nil, err
	}
	return response, err
}

func (s *stub) ListMachines(ctx context.Context, r *mcmdriver.ListMachinesRequest) (*mcmdriver.ListMachinesResponse, error) {
	if err := s.note(ctx, "ListMachines", nil, r.MachineClass, r.Secret); err != nil {
		return nil, err
	}
	return &mcmdriver.ListMachinesResponse{MachineList: map[string]string{rigID: rigMachine}}, nil
}

func (s *stub) ShutDownMachine(ctx context.Context, r *provider.ShutDownMachineRequest) (*provider.ShutDownMachineResponse, error) {
	if err := s.note(ctx, "ShutDownMachine", r.Machine, r.MachineClass, r.Secret); err != nil {
		return nil, err
	}
	return &provider.ShutDownMachineResponse{LastKnownState: "Stopped"}, nil
}

func (s *stub) GetVolumeIDs(ctx context.Context, r *mcmdriver.GetVolumeIDsRequest) (*mcmdriver.GetVolumeIDsResponse, error) {
	if err := s.note(ctx, "GetVolumeIDs", nil, nil, nil); err != nil {
		return nil, err
	}
	response := &mcmdriver.GetVolumeIDsResponse{VolumeIDs: []string{}}
	for range r.PVSpecs {
		response.VolumeIDs = append(response.VolumeIDs, "volume")
	}
	return response, nil
}

// occupied is a stub's hook that holds calls of the given methods until release is
// closed or, unless deaf, their context ends. entered gets each call's machine.
type occupied struct {
	methods []string
	deaf    bool
	entered chan string
	release chan struct{}
}

func newOccupied(methods ...string) *occupied {
	return &occupied{methods: methods, entered: make(chan string, 64), release: make(chan struct{})}
}

func (o *occupied) hook(ctx context.Context, method, machine string) error {
	if !slices.Contains(o.methods, method) {
		return nil
	}
	ended := ctx.Done()
	if o.deaf {
		ended = nil
	}
	o.entered <- machine
	select {
	case <-o.release:
		return nil
	case <-ended:
		return ctx.Err()
	}
}

// await waits until a call is held.
func (o *occupied) await(t testing.TB) {
	t.Helper()
	select {
	case <-o.entered:
	case <-time.After(rigLimit):
		t.Fatal("no call has reached the driver")
	}
}

// rig is a server on a socket of its own. It ends with its test.
type rig struct {
	testing.TB

	endpoint Endpoint
	server   *Server
	served   chan error
}

func rigSocket(t testing.TB) Endpoint {
	t.Helper()
	dir, err := os.MkdirTemp("", "cmi") //nolint:usetesting // a test's own directory has too long a name for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	e, err := ParseEndpoint("unix://" + filepath.Join(dir, "cmi.sock"))
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// newRig serves d and is ready.
func newRig(t testing.TB, d provider.Driver, options ServerOptions) *rig {
	t.Helper()
	r := newRigAt(t, rigSocket(t), d, options)
	r.server.Ready()
	return r
}

// newRigAt serves d at an endpoint and is not ready.
func newRigAt(t testing.TB, e Endpoint, d provider.Driver, options ServerOptions) *rig {
	t.Helper()
	listener, err := Listen(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	if e.Network() == networkTCP {
		if e, err = ParseEndpoint("tcp://" + listener.Addr().String()); err != nil {
			t.Fatal(err)
		}
	}
	server, err := NewServer(d, options)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{TB: t, endpoint: e, server: server, served: make(chan error, 1)}
	go func() { r.served <- server.Serve(listener) }()
	t.Cleanup(func() {
		r.stop(0)
		if err := <-r.served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return r
}

// stop stops the server; calls that are under way have some time.
func (r *rig) stop(limit time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	r.server.Stop(ctx)
}

// conn is a client of no kind, over a connection of its own.
func (r *rig) conn(options ...grpc.DialOption) *grpc.ClientConn {
	r.Helper()
	return rigConn(r.TB, r.endpoint, options...)
}

func rigConn(t testing.TB, e Endpoint, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	options = append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithNoProxy()}, options...)
	conn, err := grpc.NewClient(e.Target(), options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (r *rig) machines() cmiv1.MachineClient { return cmiv1.NewMachineClient(r.conn()) }

// driver is our client.
func (r *rig) driver() *Driver {
	r.Helper()
	return rigDriver(r.TB, DriverOptions{Endpoint: r.endpoint})
}

func rigDriver(t testing.TB, options DriverOptions) *Driver {
	t.Helper()
	d, err := NewDriver(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d
}

// dial opens a connection that says nothing.
func (r *rig) dial() net.Conn {
	r.Helper()
	conn, err := net.Dial(r.endpoint.Network(), r.endpoint.Address())
	if err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() { conn.Close() })
	return conn
}

// works checks that the server serves, over a new connection.
func (r *rig) works() {
	r.Helper()
	if _, err := rigStatus(rigContext(r.TB), r.machines(), "another-machine"); err != nil {
		r.Errorf("a normal call afterwards: %v", err)
	}
}

func rigContext(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), rigLimit)
	t.Cleanup(cancel)
	return ctx
}

func rigStatus(ctx context.Context, client cmiv1.MachineClient, machine string) (*cmiv1.GetMachineStatusResponse, error) {
	return client.GetMachineStatus(ctx, &cmiv1.GetMachineStatusRequest{MachineName: machine, ProviderSpec: []byte(rigSpec), Secrets: rigSecret()})
}

// rigInput is what MCM hands over.
func rigInput(machine string) (*mcmv1alpha1.Machine, *mcmv1alpha1.MachineClass, *corev1.Secret) {
	class := &mcmv1alpha1.MachineClass{
		ObjectMeta: metav1.ObjectMeta{Name: "class", Namespace: "ns"}, Provider: v1alpha1.Provider,
		ProviderSpec: runtime.RawExtension{Raw: []byte(rigSpec)},
	}
	return &mcmv1alpha1.Machine{ObjectMeta: metav1.ObjectMeta{Name: machine, Namespace: "ns"}}, class, &corev1.Secret{Data: rigSecret()}
}

// rigCode reads an error of MCM.
func rigCode(err error) (mcmcodes.Code, string) {
	var s *mcmstatus.Status
	if errors.As(err, &s) {
		return s.Code(), s.Message()
	}
	return mcmcodes.OK, ""
}

// rigCall is one method of a driver; answered says whether there was a response.
type rigCall struct {
	name string
	call func(ctx context.Context, d provider.Driver, machine string) (answered bool, err error)
}

func rigCalls() []rigCall {
	return []rigCall{
		{"CreateMachine", func(ctx context.Context, d provider.Driver, machine string) (bool, error) {
			m, c, s := rigInput(machine)
			r, err := d.CreateMachine(ctx, &mcmdriver.CreateMachineRequest{Machine: m, MachineClass: c, Secret: s})
			return r != nil, err
		}},
		{"InitializeMachine", func(ctx context.Context, d provider.Driver, machine string) (bool, error) {
			m, c, s := rigInput(machine)
			r, err := d.InitializeMachine(ctx, &mcmdriver.InitializeMachineRequest{Machine: m, MachineClass: c, Secret: s})
			return r != nil, err
		}},
		{"DeleteMachine", func(ctx context.Context, d provider.Driver, machine string) (bool, error) {
			m, c, s := rigInput(machine)
			r, err := d.DeleteMachine(ctx, &mcmdriver.DeleteMachineRequest{Machine: m, MachineClass: c, Secret: s})
			return r != nil, err
		}},
		{"GetMachineStatus", func(ctx context.Context, d provider.Driver, machine string) (bool, error) {
			m, c, s := rigInput(machine)
			r, err := d.GetMachineStatus(ctx, &mcmdriver.GetMachineStatusRequest{Machine: m, MachineClass: c, Secret: s})
			return r != nil, err
		}},
		{"ShutDownMachine", func(ctx context.Context, d provider.Driver, machine string) (bool, error) {
			m, c, s := rigInput(machine)
			r, err := d.ShutDownMachine(ctx, &provider.ShutDownMachineRequest{Machine: m, MachineClass: c, Secret: s})
			return r != nil, err
		}},
		{"ListMachines", func(ctx context.Context, d provider.Driver, _ string) (bool, error) {
			_, c, s := rigInput("")
			r, err := d.ListMachines(ctx, &mcmdriver.ListMachinesRequest{MachineClass: c, Secret: s})
			return r != nil, err
		}},
		{"GetVolumeIDs", func(ctx context.Context, d provider.Driver, _ string) (bool, error) {
			r, err := d.GetVolumeIDs(ctx, &mcmdriver.GetVolumeIDsRequest{PVSpecs: []*corev1.PersistentVolumeSpec{{}}})
			return r != nil, err
		}},
	}
}

// rigEventually repeats check until it is content.
func rigEventually(t testing.TB, check func() error) {
	t.Helper()
	ctx := rigContext(t)
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("still: %v", err)
		case <-ticker.C:
		}
	}
}

// callsWith are the calls that need a Secret, with one.
func callsWith(client cmiv1.MachineClient, secret map[string][]byte) []func(context.Context) error {
	spec := []byte(rigSpec)
	return []func(context.Context) error{
		func(ctx context.Context) error {
			_, err := client.CreateMachine(ctx, &cmiv1.CreateMachineRequest{MachineName: rigMachine, ProviderSpec: spec, Secrets: secret})
			return err
		},
		func(ctx context.Context) error {
			_, err := client.DeleteMachine(ctx, &cmiv1.DeleteMachineRequest{MachineName: rigMachine, ProviderSpec: spec, Secrets: secret})
			return err
		},
		func(ctx context.Context) error {
			_, err := client.GetMachineStatus(ctx, &cmiv1.GetMachineStatusRequest{MachineName: rigMachine, ProviderSpec: spec, Secrets: secret})
			return err
		},
		func(ctx context.Context) error {
			_, err := client.ShutDownMachine(ctx, &cmiv1.ShutDownMachineRequest{MachineName: rigMachine, ProviderSpec: spec, Secrets: secret})
			return err
		},
		func(ctx context.Context) error {
			_, err := client.ListMachines(ctx, &cmiv1.ListMachinesRequest{ProviderSpec: spec, Secrets: secret})
			return err
		},
	}
}

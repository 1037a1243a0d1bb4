// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/fake"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
)

func TestCreateMachineMakesAndStartsUnlessOneStepIsAskedFor(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		method    []string
		calls     []string
		addresses []corev1.NodeAddress
		state     string
	}{
		"a foreign client":    {nil, []string{"CreateMachine", "InitializeMachine"}, rigAddresses(), "Created"},
		"MCM's first step":    {[]string{keyMethod, "CreateMachine"}, []string{"CreateMachine"}, nil, "Created"},
		"MCM's second step":   {[]string{keyMethod, "InitializeMachine"}, []string{"InitializeMachine"}, rigAddresses(), ""},
		"an empty value":      {[]string{keyMethod, ""}, []string{"CreateMachine", "InitializeMachine"}, rigAddresses(), "Created"},
		"unrelated metadata":  {[]string{"x-other", "DeleteMachine"}, []string{"CreateMachine", "InitializeMachine"}, rigAddresses(), "Created"},
		"a class of the user": {[]string{keyClassName, "c", keyClassProvider, "p"}, []string{"CreateMachine", "InitializeMachine"}, rigAddresses(), "Created"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &stub{}
			r := newRig(t, d, ServerOptions{})
			var trailer metadata.MD
			response, err := r.machines().CreateMachine(metadata.AppendToOutgoingContext(rigContext(t), tc.method...), &cmiv1.CreateMachineRequest{
				MachineName: rigMachine, ProviderSpec: []byte(rigSpec), Secrets: rigSecret(),
			}, grpc.Trailer(&trailer))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.calls, d.noted()); diff != "" {
				t.Errorf("calls of the driver: %s", diff)
			}
			if response.GetProviderID() != rigID || response.GetNodeName() != rigMachine || string(response.GetLastKnownState()) != tc.state {
				t.Errorf("response: %v", response)
			}
			addresses, err := addressesOf(trailer)
			if diff := cmp.Diff(tc.addresses, addresses); diff != "" || err != nil {
				t.Errorf("addresses: %s, %v", diff, err)
			}
		})
	}
}

func TestAFailedFirstStepHasNoSecondOne(t *testing.T) {
	t.Parallel()
	d := &stub{hook: func(context.Context, string, string) error { return errors.New("no") }}
	if _, err := newRig(t, d, ServerOptions{}).machines().CreateMachine(rigContext(t), &cmiv1.CreateMachineRequest{}); err == nil {
		t.Error("it succeeded")
	}
	if diff := cmp.Diff([]string{"CreateMachine"}, d.noted()); diff != "" {
		t.Error(diff)
	}
}

func TestAnUnknownStepIsRefused(t *testing.T) {
	t.Parallel()
	d := &stub{}
	r := newRig(t, d, ServerOptions{})
	for _, method := range []string{"DeleteMachine", "createmachine", "both", strings.Repeat("x", 10_000)} {
		_, err := r.machines().CreateMachine(metadata.AppendToOutgoingContext(rigContext(t), keyMethod, method), &cmiv1.CreateMachineRequest{MachineName: rigMachine})
		s := status.Convert(err)
		if s.Code() != codes.InvalidArgument || !strings.Contains(s.Message(), keyMethod) || !strings.Contains(s.Message(), method[:4]) || infoOf(s) == nil {
			t.Errorf("%.20s: %.200v", method, err)
		}
		if len(s.Message()) > 1000 {
			t.Errorf("a name of %d bytes makes an error of %d", len(method), len(s.Message()))
		}
	}
	if calls := d.noted(); len(calls) > 0 {
		t.Errorf("the driver got %v", calls)
	}
}

func TestRequestsArriveAsMCMWouldSendThem(t *testing.T) {
	t.Parallel()
	d := &stub{}
	r := newRig(t, d, ServerOptions{})
	if _, err := rigStatus(rigContext(t), r.machines(), rigMachine); err != nil {
		t.Fatal(err)
	}
	foreign := d.classes[0]
	if foreign.Provider != v1alpha1.Provider || foreign.Name == "" || string(foreign.ProviderSpec.Raw) != rigSpec {
		t.Errorf("a class that nobody named: %+v", foreign)
	}
	machine, class, secret := rigInput(rigMachine)
	class.Provider = "äußerst/seltsam"
	got := make(chan string, 1)
	d.hook = func(context.Context, string, string) error { return nil }
	c := r.driver()
	if _, err := c.ShutDownMachine(rigContext(t), &provider.ShutDownMachineRequest{Machine: machine, MachineClass: class, Secret: secret}); err != nil {
		t.Fatal(err)
	}
	close(got)
	ours := d.classes[1]
	if ours.Name != class.Name || ours.Namespace != class.Namespace || ours.Provider != class.Provider {
		t.Errorf("our client's class arrives as %+v", ours)
	}
	if diff := cmp.Diff(secret.Data, d.lastSecret().Data); diff != "" {
		t.Errorf("the Secret: %s", diff)
	}
}

func TestProbeHasThreeAnswers(t *testing.T) {
	t.Parallel()
	var unreadable error
	own := func() (map[string][]byte, error) { return nil, unreadable }
	r := newRigAt(t, rigSocket(t), &stub{}, ServerOptions{Own: own})
	identity := cmiv1.NewIdentityClient(r.conn())
	ctx := rigContext(t)
	if response, err := identity.Probe(ctx, &cmiv1.ProbeRequest{}); err != nil || response.GetReady() == nil || response.GetReady().GetValue() {
		t.Errorf("before Ready: %v, %v", response, err)
	}
	r.server.Ready()
	if response, err := identity.Probe(ctx, &cmiv1.ProbeRequest{}); err != nil || !response.GetReady().GetValue() {
		t.Errorf("after Ready: %v, %v", response, err)
	}
	unreadable = errors.New("permission denied")
	refused := func(when, why string) {
		t.Helper()
		_, err := identity.Probe(ctx, &cmiv1.ProbeRequest{})
		if s := status.Convert(err); s.Code() != codes.FailedPrecondition || !strings.Contains(s.Message(), why) || infoOf(s) == nil {
			t.Errorf("%s: %v", when, err)
		}
	}
	refused("own credentials that cannot be read", "permission denied")
	unreadable = nil
	if response, err := identity.Probe(ctx, &cmiv1.ProbeRequest{}); err != nil || !response.GetReady().GetValue() {
		t.Errorf("credentials can be read again: %v, %v", response, err)
	}
	r.server.Fail(errors.New("the vault is gone"))
	refused("Fail", "the vault is gone")
	r.server.Fail(errors.New("another reason"))
	refused("a second Fail", "the vault is gone")
	r.server.Ready()
	refused("Ready after Fail", "the vault is gone")
	r.server.Fail(errStopping)
	refused("the end", "stopping")
}

func TestHealthFollowsTheServer(t *testing.T) {
	t.Parallel()
	r := newRigAt(t, rigSocket(t), &stub{}, ServerOptions{})
	client := grpc_health_v1.NewHealthClient(r.conn())
	ctx := rigContext(t)
	services := []string{"", "cmi.v1.Identity", "cmi.v1.Machine"}
	all := func(want grpc_health_v1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		for _, service := range services {
			response, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: service})
			if err != nil || response.GetStatus() != want {
				t.Errorf("%q: %v, %v, want %v", service, response, err, want)
			}
		}
	}
	all(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	watch, err := client.Watch(ctx, &grpc_health_v1.HealthCheckRequest{Service: services[2]})
	if err != nil {
		t.Fatal(err)
	}
	seen := func(want grpc_health_v1.HealthCheckResponse_ServingStatus) {
		t.Helper()
		if response, err := watch.Recv(); err != nil || response.GetStatus() != want {
			t.Fatalf("watch: %v, %v, want %v", response, err, want)
		}
	}
	seen(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	r.server.Ready()
	all(grpc_health_v1.HealthCheckResponse_SERVING)
	seen(grpc_health_v1.HealthCheckResponse_SERVING)
	if _, err := client.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: "unknown"}); status.Code(err) != codes.NotFound {
		t.Errorf("an unknown service: %v", err)
	}
	r.server.Fail(errors.New("no"))
	all(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	seen(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	r.server.Ready()
	all(grpc_health_v1.HealthCheckResponse_NOT_SERVING)

	returned := r.stopping(rigLimit)
	awaitEnd(t, "Stop with a client that watches", 5*time.Second, returned)
	for {
		if _, err := watch.Recv(); err != nil {
			break
		}
	}
}

func TestReflectionListsTheServices(t *testing.T) {
	t.Parallel()
	stream, err := grpc_reflection_v1.NewServerReflectionClient(newRig(t, &stub{}, ServerOptions{}).conn()).ServerReflectionInfo(rigContext(t))
	if err != nil {
		t.Fatal(err)
	}
	ask := func(request *grpc_reflection_v1.ServerReflectionRequest) *grpc_reflection_v1.ServerReflectionResponse {
		t.Helper()
		if err := stream.Send(request); err != nil {
			t.Fatal(err)
		}
		response, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return response
	}
	var found []string
	for _, service := range ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_ListServices{},
	}).GetListServicesResponse().GetService() {
		found = append(found, service.GetName())
	}
	slices.Sort(found)
	want := []string{"cmi.v1.Identity", "cmi.v1.Machine", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}
	if diff := cmp.Diff(want, found); diff != "" {
		t.Error(diff)
	}
	described := ask(&grpc_reflection_v1.ServerReflectionRequest{
		MessageRequest: &grpc_reflection_v1.ServerReflectionRequest_FileContainingSymbol{FileContainingSymbol: "cmi.v1.Machine"},
	})
	if len(described.GetFileDescriptorResponse().GetFileDescriptorProto()) == 0 {
		t.Errorf("the service cannot be described, so grpcurl cannot call it: %v", described)
	}
	if err := stream.CloseSend(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Errorf("the stream ends with %v", err)
	}
}

func TestThePluginSaysWhatItIs(t *testing.T) {
	t.Parallel()
	identity := cmiv1.NewIdentityClient(newRigAt(t, rigSocket(t), &stub{}, ServerOptions{}).conn())
	info, err := identity.GetPluginInfo(rigContext(t), &cmiv1.GetPluginInfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if name := info.GetName(); len(name) > 63 || !regexp.MustCompile(`^([a-z0-9]([a-z0-9-]*[a-z0-9])?\.)+[a-z]+$`).MatchString(name) {
		t.Errorf("the name %q is no domain of at most 63 characters", name)
	}
	if info.GetVersion() != version.Version() || info.GetManifest()["provider"] != v1alpha1.Provider {
		t.Errorf("got %v", info)
	}
	response, err := identity.GetPluginCapabilities(rigContext(t), &cmiv1.GetPluginCapabilitiesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	count := map[cmiv1.PluginCapability_RPC_Type]int{}
	for _, capability := range response.GetCapabilities() {
		count[capability.GetRpc().GetType()]++
	}
	want := map[cmiv1.PluginCapability_RPC_Type]int{}
	for number := range cmiv1.PluginCapability_RPC_Type_name {
		if number != int32(cmiv1.PluginCapability_RPC_UNKNOWN) {
			want[cmiv1.PluginCapability_RPC_Type(number)] = 1
		}
	}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Errorf("capabilities: %s", diff)
	}
}

func TestVolumesAreReadStrictlyEnough(t *testing.T) {
	t.Parallel()
	client := newRig(t, &stub{}, ServerOptions{}).machines()
	for text, want := range map[string]codes.Code{
		"": codes.OK, "[]": codes.OK, "null": codes.OK, "[{}, null]": codes.OK,
		"{": codes.InvalidArgument, "{}": codes.InvalidArgument, `"x"`: codes.InvalidArgument, "\x00\xff": codes.InvalidArgument,
		`[{"capacity": 7}]`: codes.InvalidArgument, strings.Repeat("[", 100_000): codes.InvalidArgument,
	} {
		response, err := client.GetVolumeIDs(rigContext(t), &cmiv1.GetVolumeIDsRequest{PVSpecList: []byte(text)})
		s := status.Convert(err)
		if s.Code() != want || want != codes.OK && (!strings.Contains(s.Message(), "PVSpecList") || infoOf(s) == nil) {
			t.Errorf("%.40q is answered %v, %.300v", text, response, err)
		}
	}
	// What is no volume of this world is passed over by the real driver.
	plugin := newRig(t, provider.NewMachinePlugin(fake.New(), provider.Options{}), ServerOptions{}).machines()
	encoded, err := json.Marshal([]*corev1.PersistentVolumeSpec{nil, {}})
	if err != nil {
		t.Fatal(err)
	}
	response, err := plugin.GetVolumeIDs(rigContext(t), &cmiv1.GetVolumeIDsRequest{PVSpecList: encoded})
	if err != nil || len(response.GetVolumeIDs()) > 0 {
		t.Errorf("got %v, %v", response, err)
	}
}

func TestAServerWithMetricsThatAreTakenIsRefused(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	if _, err := NewServer(&stub{}, ServerOptions{Registerer: registry}); err != nil {
		t.Fatal(err)
	}
	if _, err := NewServer(&stub{}, ServerOptions{Registerer: registry}); err == nil {
		t.Error("a second server counts in the same metrics")
	}
}

func TestMessagesOfAnyShapeAreAnswered(t *testing.T) {
	t.Parallel()
	client := newRig(t, provider.NewMachinePlugin(fake.New(), provider.Options{}), ServerOptions{}).machines()
	ctx := rigContext(t)
	wide := make(map[string][]byte)
	for i := range 2000 {
		wide[strings.Repeat("k", i%50)+string(rune('a'+i%26))] = []byte{0, 0xff}
	}
	for name, request := range map[string]*cmiv1.CreateMachineRequest{
		"empty":              {},
		"no spec":            {MachineName: rigMachine},
		"garbage":            {MachineName: "\x00\n/..", ProviderSpec: []byte{0xff, 0, '{'}, Secrets: wide, LastKnownState: []byte{0xff}},
		"deep":               {MachineName: rigMachine, ProviderSpec: []byte(strings.Repeat(`{"vch":`, 200_000))},
		"a long name":        {MachineName: strings.Repeat("n", 64<<10), ProviderSpec: []byte(rigSpec), Secrets: rigSecret()},
		"without Secret":     {MachineName: rigMachine, ProviderSpec: []byte(rigSpec)},
		"a huge spec":        {MachineName: rigMachine, ProviderSpec: []byte(`{"x":"` + strings.Repeat("y", 3<<20) + `"}`)},
		"a wrong vch":        {MachineName: rigMachine, ProviderSpec: []byte(`{"vch":7,"startTimeoutSeconds":1e300}`)},
		"a spec that is old": {MachineName: rigMachine, ProviderSpec: []byte(`null`)},
	} {
		_, err := client.CreateMachine(ctx, request)
		s := status.Convert(err)
		if s.Code() != codes.InvalidArgument && s.Code() != codes.Unauthenticated || infoOf(s) == nil || len(s.Message()) > 5000 {
			t.Errorf("%s: code %s, %d bytes: %.300s", name, s.Code(), len(s.Message()), s.Message())
		}
	}
}

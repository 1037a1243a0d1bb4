// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/wrapperspb"
	"k8s.io/utils/ptr"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/cmi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/fake"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
)

const machine = "machine-1"

// step is a call and what has to come of it.
type step struct {
	what, method string
	request      proto.Message
	// want is the response; nil for an error.
	want proto.Message
	// code and reason are those of an error.
	code   codes.Code
	reason string
	// info is the metadata of an error's ErrorInfo.
	info map[string]string
	// world is which machines there are afterwards, and whether they run.
	world map[string]bool
}

// take makes the call and judges what came of it.
func (s *served) take(c caller, st step) {
	s.t.Helper()
	response := st.want
	if response != nil {
		response = st.want.ProtoReflect().New().Interface()
	}
	o := c.call(st.method, st.request, response)
	reason, info := o.info.GetReason(), o.info.GetMetadata()
	switch {
	case o.code != st.code || reason != st.reason:
		s.t.Errorf("%s: %s answers %s (%s): %s; want %s (%s)", st.what, st.method, o.code, reason, o.message, st.code, st.reason)
	case o.code != codes.OK && (o.info.GetDomain() != cmi.PluginName || !maps.Equal(info, st.info)):
		s.t.Errorf("%s: %s has the ErrorInfo %v, want metadata %v of %s", st.what, st.method, o.info, st.info, cmi.PluginName)
	case o.code == codes.OK:
		if diff := cmp.Diff(st.want, response, protocmp.Transform()); diff != "" {
			s.t.Errorf("%s: response of %s (-want +got):\n%s", st.what, st.method, diff)
		}
	}
	if world := s.running(); !maps.Equal(world, st.world) {
		s.t.Errorf("%s: there are %v after %s, want %v", st.what, world, st.method, st.world)
	}
}

func TestAForeignClientCallsEveryMethod(t *testing.T) {
	t.Parallel()
	for network, endpoint := range endpoints(t) {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			s := serve(t, endpoint)
			c := s.client()
			for _, steps := range [][]step{s.starting(), s.before(), s.making(), s.stopping(), s.removing()} {
				for _, st := range steps {
					s.take(c, st)
				}
				s.Ready() // the first steps are for a server that is not
			}
			if len(s.world.VMs()) > 0 || len(s.world.Files()) > 0 {
				t.Errorf("there are still VMs %v and files %v", s.world.VMs(), s.world.Files())
			}
			if diff := cmp.Diff(methodsOfTheProtocol(t), slices.Sorted(maps.Keys(c.called))); diff != "" {
				t.Errorf("methods that were called (-want +got):\n%s", diff)
			}
		})
	}
}

// id is the provider id of the machine.
func (s *served) id() string {
	s.t.Helper()
	cluster, _, err := identity.Tags(s.world.Spec().Tags)
	if err != nil {
		s.t.Fatal(err)
	}
	id, err := identity.New(fake.VCH, cluster, machine)
	if err != nil {
		s.t.Fatal(err)
	}
	return id.ProviderID()
}

func (s *served) starting() []step {
	return []step{{
		what: "a server that starts", method: "Identity/Probe", request: &cmiv1.ProbeRequest{},
		want: &cmiv1.ProbeResponse{Ready: wrapperspb.Bool(false)},
	}}
}

func (s *served) before() []step {
	spec, secrets := s.spec(nil), s.secrets()
	var all []*cmiv1.PluginCapability
	for _, of := range []cmiv1.PluginCapability_RPC_Type{1, 2, 3, 4, 5, 6} {
		all = append(all, capability(of))
	}
	return []step{
		{
			what: "a server that is ready", method: "Identity/Probe", request: &cmiv1.ProbeRequest{},
			want: &cmiv1.ProbeResponse{Ready: wrapperspb.Bool(true)},
		},
		{
			what: "who it is", method: "Identity/GetPluginInfo", request: &cmiv1.GetPluginInfoRequest{},
			want: &cmiv1.GetPluginInfoResponse{
				Name: "vch.provider.machine.sapcloud.io", Version: version.Version(),
				Manifest: map[string]string{"provider": v1alpha1.Provider, "build": version.String()},
			},
		},
		{
			what: "what it can", method: "Identity/GetPluginCapabilities", request: &cmiv1.GetPluginCapabilitiesRequest{},
			want: &cmiv1.GetPluginCapabilitiesResponse{Capabilities: all},
		},
		{
			what: "volumes", method: "Machine/GetVolumeIDs",
			request: &cmiv1.GetVolumeIDsRequest{PVSpecList: []byte(`[
				{"csi": {"driver": "csi.vsphere.vmware.com", "volumeHandle": "volume-1"}},
				{"nfs": {"server": "nfs.example.org", "path": "/"}},
				{"csi": {"driver": "vch.provider.machine.sapcloud.io", "volumeHandle": "volume-2"}}]`)},
			want: &cmiv1.GetVolumeIDsResponse{VolumeIDs: []string{
				"^" + regexp.QuoteMeta("kubernetes.io/csi/csi.vsphere.vmware.com^volume-1") + "$",
				"^" + regexp.QuoteMeta("kubernetes.io/csi/vch.provider.machine.sapcloud.io^volume-2") + "$",
			}},
		},
		{
			what: "no volumes", method: "Machine/GetVolumeIDs", request: &cmiv1.GetVolumeIDsRequest{},
			want: &cmiv1.GetVolumeIDsResponse{},
		},
		{
			what: "no machines", method: "Machine/ListMachines", request: &cmiv1.ListMachinesRequest{ProviderSpec: spec, Secrets: secrets},
			want: &cmiv1.ListMachinesResponse{},
		},
		{
			what: "an absent machine", method: "Machine/GetMachineStatus",
			request: &cmiv1.GetMachineStatusRequest{MachineName: machine, ProviderSpec: spec, Secrets: secrets},
			code:    codes.NotFound, reason: "NOT_FOUND",
		},
		{
			what: "an absent machine", method: "Machine/ShutDownMachine",
			request: &cmiv1.ShutDownMachineRequest{MachineName: machine, ProviderSpec: spec, Secrets: secrets},
			code:    codes.NotFound, reason: "NOT_FOUND",
		},
	}
}

func (s *served) making() []step {
	spec, secrets, id := s.spec(nil), s.secrets(), s.id()
	other := s.spec(func(spec *v1alpha1.ProviderSpec) { spec.CPUs = ptr.To[int32](3) })
	runs := map[string]bool{machine: true}
	create := &cmiv1.CreateMachineRequest{MachineName: machine, ProviderSpec: spec, Secrets: secrets, LastKnownState: []byte("\x00 of another time")}
	created := &cmiv1.CreateMachineResponse{ProviderID: id, NodeName: machine, LastKnownState: []byte("Created " + id)}
	found := &cmiv1.GetMachineStatusResponse{ProviderID: id, NodeName: machine}
	return []step{
		{what: "the first time", method: "Machine/CreateMachine", request: create, want: created, world: runs},
		{what: "again", method: "Machine/CreateMachine", request: create, want: created, world: runs},
		{
			what: "from another specification", method: "Machine/CreateMachine",
			request: &cmiv1.CreateMachineRequest{MachineName: machine, ProviderSpec: other, Secrets: secrets},
			code:    codes.AlreadyExists, reason: "ALREADY_EXISTS", world: runs,
		},
		{
			what: "by its name", method: "Machine/GetMachineStatus",
			request: &cmiv1.GetMachineStatusRequest{MachineName: machine, ProviderSpec: spec, Secrets: secrets}, want: found, world: runs,
		},
		{
			what: "with its provider id", method: "Machine/GetMachineStatus",
			request: &cmiv1.GetMachineStatusRequest{MachineName: machine, ProviderID: id, ProviderSpec: spec, Secrets: secrets}, want: found, world: runs,
		},
		{
			what: "with another machine's provider id", method: "Machine/DeleteMachine",
			request: &cmiv1.DeleteMachineRequest{MachineName: "machine-2", ProviderID: id, ProviderSpec: spec, Secrets: secrets},
			code:    codes.FailedPrecondition, reason: "FAILED_PRECONDITION", world: runs,
		},
		{
			what: "the machine", method: "Machine/ListMachines", request: &cmiv1.ListMachinesRequest{ProviderSpec: spec, Secrets: secrets},
			want: &cmiv1.ListMachinesResponse{MachineList: map[string]string{id: machine}}, world: runs,
		},
	}
}

func (s *served) stopping() []step {
	spec, secrets, id := s.spec(nil), s.secrets(), s.id()
	off, runs := map[string]bool{machine: false}, map[string]bool{machine: true}
	shutDown := &cmiv1.ShutDownMachineRequest{MachineName: machine, ProviderID: id, ProviderSpec: spec, Secrets: secrets}
	return []step{
		{
			what: "a running machine", method: "Machine/ShutDownMachine", request: shutDown,
			want: &cmiv1.ShutDownMachineResponse{LastKnownState: []byte("Stopped " + id)}, world: off,
		},
		{
			what: "a stopped machine", method: "Machine/ShutDownMachine", request: shutDown,
			want: &cmiv1.ShutDownMachineResponse{LastKnownState: []byte("Stopped " + id)}, world: off,
		},
		{
			what: "a stopped machine", method: "Machine/GetMachineStatus",
			request: &cmiv1.GetMachineStatusRequest{MachineName: machine, ProviderSpec: spec, Secrets: secrets},
			code:    codes.FailedPrecondition, reason: cmi.ReasonUninitialized,
			info: map[string]string{"providerID": id, "nodeName": machine}, world: off,
		},
		{
			what: "a stopped machine", method: "Machine/ListMachines", request: &cmiv1.ListMachinesRequest{ProviderSpec: spec, Secrets: secrets},
			want: &cmiv1.ListMachinesResponse{MachineList: map[string]string{id: machine}}, world: off,
		},
		{
			what: "a stopped machine", method: "Machine/CreateMachine",
			request: &cmiv1.CreateMachineRequest{MachineName: machine, ProviderSpec: spec, Secrets: secrets},
			want:    &cmiv1.CreateMachineResponse{ProviderID: id, NodeName: machine, LastKnownState: []byte("Created " + id)}, world: runs,
		},
	}
}

func (s *served) removing() []step {
	spec, secrets, id := s.spec(nil), s.secrets(), s.id()
	remove := &cmiv1.DeleteMachineRequest{MachineName: machine, ProviderSpec: spec, Secrets: secrets}
	return []step{
		{
			what: "a running machine", method: "Machine/DeleteMachine", request: remove,
			want: &cmiv1.DeleteMachineResponse{LastKnownState: []byte("Deleted " + id)},
		},
		{
			what: "an absent machine", method: "Machine/DeleteMachine", request: remove,
			want: &cmiv1.DeleteMachineResponse{LastKnownState: []byte("Absent")},
		},
		{
			what: "a removed machine", method: "Machine/GetMachineStatus",
			request: &cmiv1.GetMachineStatusRequest{MachineName: machine, ProviderSpec: spec, Secrets: secrets},
			code:    codes.NotFound, reason: "NOT_FOUND",
		},
	}
}

func TestAForeignClientIsToldWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := serve(t, endpoints(t)["unix"])
	s.Ready()
	c := s.client()
	spec, secrets := s.spec(nil), s.secrets()
	wrong := maps.Clone(secrets)
	wrong[v1alpha1.SecretPassword] = []byte("wrong")
	untagged := s.spec(func(spec *v1alpha1.ProviderSpec) { spec.Tags = nil })
	const invalid, reason = codes.InvalidArgument, "INVALID_ARGUMENT"
	for _, st := range []step{
		{
			what: "no name", method: "Machine/CreateMachine", code: invalid, reason: reason,
			request: &cmiv1.CreateMachineRequest{ProviderSpec: spec, Secrets: secrets},
		},
		{
			what: "no name", method: "Machine/DeleteMachine", code: invalid, reason: reason,
			request: &cmiv1.DeleteMachineRequest{ProviderSpec: spec, Secrets: secrets},
		},
		{
			what: "no name", method: "Machine/GetMachineStatus", code: invalid, reason: reason,
			request: &cmiv1.GetMachineStatusRequest{ProviderSpec: spec, Secrets: secrets},
		},
		{
			what: "no name", method: "Machine/ShutDownMachine", code: invalid, reason: reason,
			request: &cmiv1.ShutDownMachineRequest{ProviderSpec: spec, Secrets: secrets},
		},
		{what: "nothing at all", method: "Machine/CreateMachine", code: invalid, reason: reason, request: &cmiv1.CreateMachineRequest{}},
		{what: "nothing at all", method: "Machine/ListMachines", code: invalid, reason: reason, request: &cmiv1.ListMachinesRequest{}},
		{
			what: "a specification that is no JSON", method: "Machine/CreateMachine", code: invalid, reason: reason,
			request: &cmiv1.CreateMachineRequest{MachineName: machine, ProviderSpec: []byte("\xff"), Secrets: secrets},
		},
		{
			what: "a specification without tags", method: "Machine/ListMachines", code: invalid, reason: reason,
			request: &cmiv1.ListMachinesRequest{ProviderSpec: untagged, Secrets: secrets},
		},
		{
			what: "no Secret", method: "Machine/CreateMachine", code: codes.Unauthenticated, reason: "UNAUTHENTICATED",
			request: &cmiv1.CreateMachineRequest{MachineName: machine, ProviderSpec: spec},
		},
		{
			what: "a wrong password", method: "Machine/CreateMachine", code: codes.Unauthenticated, reason: "UNAUTHENTICATED",
			request: &cmiv1.CreateMachineRequest{MachineName: machine, ProviderSpec: spec, Secrets: wrong},
		},
		{
			what: "volumes that are no list", method: "Machine/GetVolumeIDs", code: invalid, reason: reason,
			request: &cmiv1.GetVolumeIDsRequest{PVSpecList: []byte(`{"csi": {}}`)},
		},
	} {
		s.take(c, st)
	}
}

func TestASecondForeignClientIsTurnedAwayFromABusyMachine(t *testing.T) {
	t.Parallel()
	s := serve(t, endpoints(t)["unix"])
	s.Ready()
	first, second := s.client(), s.client()
	create := &cmiv1.CreateMachineRequest{MachineName: machine, ProviderSpec: s.spec(nil), Secrets: s.secrets()}
	busy, free := make(chan struct{}), make(chan struct{})
	goOn := sync.OnceFunc(func() { close(free) })
	t.Cleanup(goOn) // a server waits for its calls
	s.world.Intercept(func(_ context.Context, name string, do func() error) error {
		if name == fake.StepPowerOn {
			close(busy)
			<-free
		}
		return do()
	})
	made := make(chan outcome, 1)
	go func() {
		defer close(made)
		made <- first.call("Machine/CreateMachine", create, &cmiv1.CreateMachineResponse{})
	}()
	select {
	case <-busy:
	case o := <-made:
		t.Fatalf("the first client is answered %s before the machine was started: %s", o.code, o.message)
	}
	s.take(second, step{
		what: "while it is made", method: "Machine/DeleteMachine",
		request: &cmiv1.DeleteMachineRequest{MachineName: machine, ProviderSpec: create.GetProviderSpec(), Secrets: create.GetSecrets()},
		code:    codes.Aborted, reason: "ABORTED", world: map[string]bool{machine: false},
	})
	goOn()
	if o := <-made; o.code != codes.OK || !s.running()[machine] {
		t.Errorf("the first client is answered %s: %s, and there are %v", o.code, o.message, s.running())
	}
}

func TestAForeignClientSeesThatTheDriverCannotServe(t *testing.T) {
	t.Parallel()
	for network, endpoint := range endpoints(t) {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			s := serve(t, endpoint)
			s.Ready()
			c := s.client()
			s.Fail(errors.New("no way to go on"))
			s.take(c, step{
				what: "a driver that failed", method: "Identity/Probe", request: &cmiv1.ProbeRequest{},
				code: codes.FailedPrecondition, reason: "FAILED_PRECONDITION",
			})
			s.stop()
			o := c.call("Identity/Probe", &cmiv1.ProbeRequest{}, &cmiv1.ProbeResponse{})
			if o.code != codes.Unavailable || o.info != nil {
				t.Errorf("a driver that is gone answers %s: %s (%v)", o.code, o.message, o.info)
			}
		})
	}
}

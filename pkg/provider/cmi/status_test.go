// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	mcmdriver "github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	mcmcodes "github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	mcmstatus "github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// statusText is a text with what encodings stumble over.
const statusText = `VM "mäschine" on [LocalDS_0]: 100% <wrong> + %2F & 日本 \ 'x'; see https://example.org/?a=b`

func TestEveryCodeIsTheSameOnBothSides(t *testing.T) {
	t.Parallel()
	for code := mcmcodes.Canceled; code <= mcmcodes.Uninitialized; code++ {
		s := status.Convert(toGRPC(mcmstatus.New(code, statusText)))
		onWire := codes.Code(code)
		if code == mcmcodes.Uninitialized {
			onWire = codes.FailedPrecondition
		}
		got, info := fromGRPC(s)
		if s.Code() != onWire || s.Message() != statusText || got != code || info.GetDomain() != PluginName {
			t.Errorf("%s: on the wire %s %q, back %s, info %v", code, s.Code(), s.Message(), got, info)
		}
		if reason := info.GetReason(); reason != strings.ToUpper(reason) || reason == "" || len(reason) > 63 {
			t.Errorf("%s: reason %q", code, reason)
		}
	}
	for name, reason := range map[mcmcodes.Code]string{mcmcodes.NotFound: "NOT_FOUND", mcmcodes.Uninitialized: "UNINITIALIZED", mcmcodes.OutOfRange: "OUT_OF_RANGE"} {
		if info := infoOf(status.Convert(toGRPC(mcmstatus.New(name, "")))); info.GetReason() != reason {
			t.Errorf("%s has the reason %q", name, info.GetReason())
		}
	}
}

func TestCodesThatDoNotExistAreUnknown(t *testing.T) {
	t.Parallel()
	for _, code := range []mcmcodes.Code{mcmcodes.OK, 18, 99} {
		if s := status.Convert(toGRPC(mcmstatus.New(code, "text"))); s.Code() != codes.Unknown || s.Message() != "text" {
			t.Errorf("%d becomes %v", code, s)
		}
	}
	for _, code := range []codes.Code{17, 18, 1000} {
		if got, _ := fromGRPC(status.New(code, "text")); got != mcmcodes.Unknown {
			t.Errorf("gRPC's code %d becomes %s", code, got)
		}
	}
	if s := status.Convert(toGRPC(errors.New("plain"))); s.Code() == codes.OK || s.Message() != "plain" {
		t.Errorf("an error of no kind becomes %v", s)
	}
	if s := status.Convert(toGRPC(fmt.Errorf("far: %w", mcmstatus.New(mcmcodes.NotFound, "near")))); s.Code() != codes.NotFound {
		t.Errorf("a wrapped error becomes %v", s)
	}
	for _, kind := range errdefs.Kinds() {
		if got, _ := fromGRPC(status.Convert(toGRPC(errdefs.New(kind, "x")))); got.String() != string(kind) {
			t.Errorf("the kind %s becomes %s", kind, got)
		}
	}
	if toGRPC(nil) != nil {
		t.Error("no error became one")
	}
}

func TestUninitializedIsOnlyWhatWeSaid(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]*status.Status{
		"no detail":        status.New(codes.FailedPrecondition, "x"),
		"another reason":   newStatus(codes.FailedPrecondition, "x", "OTHER", nil),
		"the wrong code":   newStatus(codes.NotFound, "x", ReasonUninitialized, nil),
		"a foreign domain": foreignInfo(t),
	} {
		if got, _ := fromGRPC(s); got == mcmcodes.Uninitialized {
			t.Errorf("%s is Uninitialized", name)
		}
	}
}

func TestErrorsArriveWithCodeAndTextFromEveryMethod(t *testing.T) {
	t.Parallel()
	for _, c := range rigCalls() {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var answer error
			r := newRig(t, &stub{hook: func(context.Context, string, string) error { return answer }}, ServerOptions{})
			d := r.driver()
			for code := mcmcodes.Canceled; code <= mcmcodes.Uninitialized; code++ {
				answer = mcmstatus.New(code, statusText)
				answered, err := c.call(rigContext(t), d, rigMachine)
				if got, text := rigCode(err); got != code || text != statusText || err.Error() != answer.Error() {
					t.Errorf("%s arrives as %s: %v", code, got, err)
				}
				if want := code == mcmcodes.Uninitialized && c.name == "GetMachineStatus"; answered != want {
					t.Errorf("%s came with a response: %v, want %v", code, answered, want)
				}
			}
			answer = nil
			if answered, err := c.call(rigContext(t), d, rigMachine); err != nil || !answered {
				t.Errorf("success arrives as %v, %v", answered, err)
			}
		})
	}
}

func TestUninitializedBringsTheResponse(t *testing.T) {
	t.Parallel()
	r := newRig(t, &stub{hook: func(context.Context, string, string) error {
		return mcmstatus.New(mcmcodes.Uninitialized, "not started")
	}}, ServerOptions{})
	machine, class, secret := rigInput(rigMachine)
	response, err := r.driver().GetMachineStatus(rigContext(t), &mcmdriver.GetMachineStatusRequest{Machine: machine, MachineClass: class, Secret: secret})
	if code, text := rigCode(err); code != mcmcodes.Uninitialized || text != "not started" {
		t.Errorf("got %v", err)
	}
	want := &mcmdriver.GetMachineStatusResponse{ProviderID: rigID, NodeName: rigMachine, Addresses: rigAddresses()}
	if diff := cmp.Diff(want, response); diff != "" {
		t.Error(diff)
	}
}

// foreign is a server of somebody else's with every method's answer.
type foreign struct {
	cmiv1.UnimplementedIdentityServer
	cmiv1.UnimplementedMachineServer

	answer error
}

func (f *foreign) GetPluginCapabilities(ctx context.Context, r *cmiv1.GetPluginCapabilitiesRequest) (*cmiv1.GetPluginCapabilitiesResponse, error) {
	return (&identityServer{}).GetPluginCapabilities(ctx, r)
}

func (f *foreign) CreateMachine(context.Context, *cmiv1.CreateMachineRequest) (*cmiv1.CreateMachineResponse, error) {
	return nil, f.answer
}

func (f *foreign) DeleteMachine(context.Context, *cmiv1.DeleteMachineRequest) (*cmiv1.DeleteMachineResponse, error) {
	return nil, f.answer
}

func (f *foreign) GetMachineStatus(context.Context, *cmiv1.GetMachineStatusRequest) (*cmiv1.GetMachineStatusResponse, error) {
	return nil, f.answer
}

func (f *foreign) ListMachines(context.Context, *cmiv1.ListMachinesRequest) (*cmiv1.ListMachinesResponse, error) {
	return nil, f.answer
}

func (f *foreign) ShutDownMachine(context.Context, *cmiv1.ShutDownMachineRequest) (*cmiv1.ShutDownMachineResponse, error) {
	return nil, f.answer
}

func (f *foreign) GetVolumeIDs(context.Context, *cmiv1.GetVolumeIDsRequest) (*cmiv1.GetVolumeIDsResponse, error) {
	return nil, f.answer
}

// foreignInfo is a status with an ErrorInfo of another domain.
func foreignInfo(t *testing.T) *status.Status {
	t.Helper()
	info := infoOf(newStatus(codes.FailedPrecondition, "x", ReasonUninitialized, nil))
	info.Domain = "example.org"
	s, err := status.New(codes.FailedPrecondition, "x").WithDetails(info)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// serveForeign serves something that is not our server until the test ends.
func serveForeign(t testing.TB, e Endpoint, register func(*grpc.Server), options ...grpc.ServerOption) {
	t.Helper()
	listener, err := Listen(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer(options...)
	register(server)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
}

func TestErrorsOfOthersNameTheEndpointAndKeepTheCode(t *testing.T) {
	t.Parallel()
	f := &foreign{}
	e := rigSocket(t)
	serveForeign(t, e, func(s *grpc.Server) {
		cmiv1.RegisterIdentityServer(s, f)
		cmiv1.RegisterMachineServer(s, f)
	})
	d := rigDriver(t, DriverOptions{Endpoint: e})
	want := "the driver at " + e.String() + ": [quota] of the cloud"
	for _, c := range rigCalls() {
		for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
			f.answer = status.Error(code, "[quota] of the cloud")
			_, err := c.call(rigContext(t), d, rigMachine)
			if got, text := rigCode(err); got != mcmcodes.Code(code) || text != want {
				t.Errorf("%s, %s: got %s %q", c.name, code, got, text)
			}
		}
	}
	f.answer = foreignInfo(t).Err()
	_, err := rigCalls()[3].call(rigContext(t), d, rigMachine)
	if got, text := rigCode(err); got != mcmcodes.FailedPrecondition || !strings.Contains(text, e.String()) {
		t.Errorf("with an ErrorInfo of another domain: %v", err)
	}
}

func TestWhenNobodyServesEveryCallIsUnavailableAndNamesTheEndpoint(t *testing.T) {
	t.Parallel()
	e := rigSocket(t)
	d := rigDriver(t, DriverOptions{Endpoint: e})
	for _, c := range rigCalls() {
		_, err := c.call(rigContext(t), d, rigMachine)
		if got, text := rigCode(err); got != mcmcodes.Unavailable || !strings.Contains(text, e.String()) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

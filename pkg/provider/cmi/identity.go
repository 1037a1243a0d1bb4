// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/wrapperspb"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
)

// errStopping is what Probe answers at the end.
var errStopping = errors.New("the driver is stopping; its successor will answer")

// state is what Probe tells.
type state struct {
	mu      sync.Mutex
	started bool
	cause   error
}

func newState() *state { return &state{} }

// ready reports whether the state is ready now: what has failed does not become ready.
func (s *state) ready() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.started = true
	return s.cause == nil
}

// fail keeps the first cause, but the end of the server replaces any other.
func (s *state) fail(cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cause == nil || errors.Is(cause, errStopping) {
		s.cause = cause
	}
}

func (s *state) get() (ready bool, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.started, s.cause
}

// identityServer is CMI's service Identity.
type identityServer struct {
	cmiv1.UnimplementedIdentityServer

	state *state
	own   func() (map[string][]byte, error)
}

// GetPluginInfo names driver and release.
func (s *identityServer) GetPluginInfo(context.Context, *cmiv1.GetPluginInfoRequest) (*cmiv1.GetPluginInfoResponse, error) {
	return &cmiv1.GetPluginInfoResponse{
		Name: PluginName, Version: version.Version(),
		Manifest: map[string]string{"provider": v1alpha1.Provider, "build": version.String()},
	}, nil
}

// GetPluginCapabilities lists all methods: the driver has them all.
func (s *identityServer) GetPluginCapabilities(context.Context, *cmiv1.GetPluginCapabilitiesRequest) (*cmiv1.GetPluginCapabilitiesResponse, error) {
	response := &cmiv1.GetPluginCapabilitiesResponse{}
	for _, capability := range []cmiv1.PluginCapability_RPC_Type{
		cmiv1.PluginCapability_RPC_CREATE_MACHINE, cmiv1.PluginCapability_RPC_DELETE_MACHINE, cmiv1.PluginCapability_RPC_GET_MACHINE_STATUS,
		cmiv1.PluginCapability_RPC_LIST_MACHINES, cmiv1.PluginCapability_RPC_SHUTDOWN_MACHINE, cmiv1.PluginCapability_RPC_GET_VOLUME_IDS,
	} {
		response.Capabilities = append(response.Capabilities, &cmiv1.PluginCapability{
			Type: &cmiv1.PluginCapability_Rpc{Rpc: &cmiv1.PluginCapability_RPC{Type: capability}},
		})
	}
	return response, nil
}

// Probe tells whether calls make sense. It does not ask a vCenter: which one, and
// as whom, only requests say, and one class's wrong password must not stop the others.
func (s *identityServer) Probe(context.Context, *cmiv1.ProbeRequest) (*cmiv1.ProbeResponse, error) {
	ready, cause := s.state.get()
	if cause == nil && s.own != nil {
		if _, err := s.own(); err != nil {
			cause = fmt.Errorf("the driver's own credentials: %w", err)
		}
	}
	if cause != nil {
		return nil, refusal(codes.FailedPrecondition, cause.Error())
	}
	return &cmiv1.ProbeResponse{Ready: wrapperspb.Bool(ready)}, nil
}

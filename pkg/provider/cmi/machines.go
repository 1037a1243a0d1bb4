// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"encoding/json"
	"maps"
	"slices"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	corev1 "k8s.io/api/core/v1"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
)

// machineServer is CMI's service Machine on a driver.
type machineServer struct {
	cmiv1.UnimplementedMachineServer

	driver provider.Driver
	own    func() (map[string][]byte, error)
}

// message is what the requests for one machine have in common.
type message interface {
	GetMachineName() string
	GetProviderSpec() []byte
	GetSecrets() map[string][]byte
}

// unpacked is a request in MCM's words.
type unpacked struct {
	machine *mcmv1alpha1.Machine
	class   *mcmv1alpha1.MachineClass
	secret  *corev1.Secret
}

// unpack makes MCM's objects of a request for one machine.
func (s *machineServer) unpack(ctx context.Context, m message) (unpacked, error) {
	secret, err := s.secret(m.GetSecrets())
	if err != nil {
		return unpacked{}, err
	}
	u := unpacked{machine: &mcmv1alpha1.Machine{}, class: classOf(ctx, m.GetProviderSpec()), secret: secret}
	u.machine.Spec.ProviderID = first(ctx, keyProviderID, "")
	u.machine.Name, u.machine.Namespace, u.machine.Spec.Class.Name = m.GetMachineName(), u.class.Namespace, u.class.Name
	if with, ok := m.(interface{ GetProviderID() string }); ok {
		u.machine.Spec.ProviderID = with.GetProviderID()
	}
	if with, ok := m.(interface{ GetLastKnownState() []byte }); ok {
		u.machine.Status.LastKnownState = string(with.GetLastKnownState())
	}
	return u, nil
}

// secret is the Secret of a request. The driver's own credentials are added only
// if the request brings none of its own: a password of ours must not go to a
// host that somebody else names.
func (s *machineServer) secret(data map[string][]byte) (*corev1.Secret, error) {
	has := func(key string) bool { _, found := data[key]; return found }
	if s.own != nil && !slices.ContainsFunc(v1alpha1.ConnectionKeys(), has) {
		own, err := s.own()
		if err != nil {
			return nil, errdefs.Wrap(errdefs.FailedPrecondition, err, "the driver's own credentials")
		}
		all := maps.Clone(own)
		if all == nil {
			all = map[string][]byte{}
		}
		maps.Copy(all, data)
		data = all
	}
	if len(data) == 0 {
		return nil, nil //nolint:nilnil // no Secret, as MCM says it
	}
	return &corev1.Secret{Data: data}, nil
}

// CreateMachine makes the machine and starts it, or does one of both when the
// request says so.
func (s *machineServer) CreateMachine(ctx context.Context, req *cmiv1.CreateMachineRequest) (*cmiv1.CreateMachineResponse, error) {
	steps, err := stepsOf(ctx)
	if err != nil {
		return nil, toGRPC(err)
	}
	u, err := s.unpack(ctx, req)
	if err != nil {
		return nil, toGRPC(err)
	}
	response := &cmiv1.CreateMachineResponse{}
	var addresses []corev1.NodeAddress
	if steps.create {
		created, err := s.driver.CreateMachine(ctx, &driver.CreateMachineRequest{Machine: u.machine, MachineClass: u.class, Secret: u.secret})
		if err != nil {
			return nil, toGRPC(err)
		}
		u.machine.Spec.ProviderID = created.ProviderID
		addresses = created.Addresses
		response.ProviderID, response.NodeName, response.LastKnownState = created.ProviderID, created.NodeName, []byte(created.LastKnownState)
	}
	if steps.initialize {
		started, err := s.driver.InitializeMachine(ctx, &driver.InitializeMachineRequest{Machine: u.machine, MachineClass: u.class, Secret: u.secret})
		if err != nil {
			return nil, toGRPC(err)
		}
		addresses = started.Addresses
		response.ProviderID, response.NodeName = started.ProviderID, started.NodeName
	}
	if err := sendAddresses(ctx, addresses); err != nil {
		return nil, toGRPC(err)
	}
	return response, nil
}

// DeleteMachine stops and removes the machine.
func (s *machineServer) DeleteMachine(ctx context.Context, req *cmiv1.DeleteMachineRequest) (*cmiv1.DeleteMachineResponse, error) {
	u, err := s.unpack(ctx, req)
	if err != nil {
		return nil, toGRPC(err)
	}
	deleted, err := s.driver.DeleteMachine(ctx, &driver.DeleteMachineRequest{Machine: u.machine, MachineClass: u.class, Secret: u.secret})
	if err != nil {
		return nil, toGRPC(err)
	}
	return &cmiv1.DeleteMachineResponse{LastKnownState: []byte(deleted.LastKnownState)}, nil
}

// GetMachineStatus finds the machine. With Uninitialized, what the driver knows
// goes along in the ErrorInfo, since a gRPC error has no response.
func (s *machineServer) GetMachineStatus(ctx context.Context, req *cmiv1.GetMachineStatusRequest) (*cmiv1.GetMachineStatusResponse, error) {
	u, err := s.unpack(ctx, req)
	if err != nil {
		return nil, toGRPC(err)
	}
	found, err := s.driver.GetMachineStatus(ctx, &driver.GetMachineStatusRequest{Machine: u.machine, MachineClass: u.class, Secret: u.secret})
	if found != nil {
		if failed := sendAddresses(ctx, found.Addresses); failed != nil {
			return nil, toGRPC(failed)
		}
	}
	switch {
	case err != nil && found != nil:
		return nil, toGRPCWith(err, map[string]string{infoProviderID: found.ProviderID, infoNodeName: found.NodeName})
	case err != nil:
		return nil, toGRPC(err)
	}
	return &cmiv1.GetMachineStatusResponse{ProviderID: found.ProviderID, NodeName: found.NodeName}, nil
}

// ListMachines lists the machines of the class's cluster and role.
func (s *machineServer) ListMachines(ctx context.Context, req *cmiv1.ListMachinesRequest) (*cmiv1.ListMachinesResponse, error) {
	secret, err := s.secret(req.GetSecrets())
	if err != nil {
		return nil, toGRPC(err)
	}
	listed, err := s.driver.ListMachines(ctx, &driver.ListMachinesRequest{MachineClass: classOf(ctx, req.GetProviderSpec()), Secret: secret})
	if err != nil {
		return nil, toGRPC(err)
	}
	return &cmiv1.ListMachinesResponse{MachineList: listed.MachineList}, nil
}

// ShutDownMachine stops the machine and keeps it.
func (s *machineServer) ShutDownMachine(ctx context.Context, req *cmiv1.ShutDownMachineRequest) (*cmiv1.ShutDownMachineResponse, error) {
	u, err := s.unpack(ctx, req)
	if err != nil {
		return nil, toGRPC(err)
	}
	stopped, err := s.driver.ShutDownMachine(ctx, &provider.ShutDownMachineRequest{Machine: u.machine, MachineClass: u.class, Secret: u.secret})
	if err != nil {
		return nil, toGRPC(err)
	}
	return &cmiv1.ShutDownMachineResponse{LastKnownState: []byte(stopped.LastKnownState)}, nil
}

// GetVolumeIDs translates volumes. An empty list is no fault.
func (s *machineServer) GetVolumeIDs(ctx context.Context, req *cmiv1.GetVolumeIDsRequest) (*cmiv1.GetVolumeIDsResponse, error) {
	var specs []*corev1.PersistentVolumeSpec
	if encoded := req.GetPVSpecList(); len(encoded) > 0 {
		if err := json.Unmarshal(encoded, &specs); err != nil {
			return nil, toGRPC(errdefs.Wrap(errdefs.InvalidArgument, err, "decode PVSpecList, which must be a JSON array of specifications of PersistentVolumes"))
		}
	}
	ids, err := s.driver.GetVolumeIDs(ctx, &driver.GetVolumeIDsRequest{PVSpecs: specs})
	if err != nil {
		return nil, toGRPC(err)
	}
	return &cmiv1.GetVolumeIDsResponse{VolumeIDs: ids.VolumeIDs}, nil
}

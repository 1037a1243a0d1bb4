// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	mcmcodes "github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	corev1 "k8s.io/api/core/v1"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
)

// DriverOptions of a Driver.
type DriverOptions struct {
	// Endpoint is where the server is. Required.
	Endpoint Endpoint
	// Credentials secure the connection. Default: none.
	Credentials credentials.TransportCredentials
	// CallTimeout is that of the server; see provider.Options. A call is given up
	// a while after the server's own limit. Default: provider.DefaultCallTimeout.
	CallTimeout time.Duration
	// Registerer gets gRPC's metrics. Default: none are kept.
	Registerer prometheus.Registerer
}

// Driver is a driver in another process. It connects at the first call and again,
// with back-off, whenever the connection is lost; a call that meets no server is
// answered Unavailable at once, which MCM repeats after five seconds. All methods
// may be called at the same time. Errors are as provider.MachinePlugin gives
// them; those of the way there name the endpoint.
type Driver struct {
	options  DriverOptions
	conn     *grpc.ClientConn
	identity cmiv1.IdentityClient
	machines cmiv1.MachineClient
	// connection counts the beginnings and ends of connections.
	connection atomic.Int64
	// capabilities are those of a server that was connected; nil: nobody was asked yet.
	capabilities atomic.Pointer[capabilities]
	// margin is the constant, which tests shorten.
	margin time.Duration
}

var _ provider.Driver = (*Driver)(nil)

// margin is how much longer than the server the client waits: the server's own
// answer says more.
const margin = 30 * time.Second

// call is one call to the server.
type call struct {
	needs   cmiv1.PluginCapability_RPC_Type
	machine *mcmv1alpha1.Machine
	class   *mcmv1alpha1.MachineClass
	secret  *corev1.Secret
	method  string // of MCM, where CMI has none
}

func (c call) spec() []byte {
	if c.class == nil {
		return nil
	}
	return c.class.ProviderSpec.Raw
}

func (c call) data() map[string][]byte {
	if c.secret == nil {
		return nil
	}
	return c.secret.Data
}

func (c call) name() string {
	if c.machine == nil {
		return ""
	}
	return c.machine.Name
}

func (c call) providerID() string {
	if c.machine == nil {
		return ""
	}
	return c.machine.Spec.ProviderID
}

func (c call) lastKnownState() []byte {
	if c.machine == nil || c.machine.Status.LastKnownState == "" {
		return nil
	}
	return []byte(c.machine.Status.LastKnownState)
}

// fail is an error that the client itself finds.
func (c call) fail(code mcmcodes.Code, format string, args ...any) error {
	return provider.StatusOf(code, fmt.Sprintf(format, args...), c.machine, c.class, c.secret)
}

// CreateMachine makes the machine's VM, which InitializeMachine starts. A foreign
// server starts it, too.
func (d *Driver) CreateMachine(ctx context.Context, req *driver.CreateMachineRequest) (*driver.CreateMachineResponse, error) {
	c := call{needs: cmiv1.PluginCapability_RPC_CREATE_MACHINE, method: methodCreate}
	if req != nil {
		c.machine, c.class, c.secret = req.Machine, req.MachineClass, req.Secret
	}
	response, addresses, err := d.create(ctx, c)
	if err != nil {
		return nil, err
	}
	return &driver.CreateMachineResponse{
		ProviderID: response.GetProviderID(), NodeName: response.GetNodeName(), Addresses: addresses, LastKnownState: string(response.GetLastKnownState()),
	}, nil
}

// InitializeMachine starts the machine's VM. CMI has no such call: it is the
// idempotent CreateMachine again, marked as this step.
func (d *Driver) InitializeMachine(ctx context.Context, req *driver.InitializeMachineRequest) (*driver.InitializeMachineResponse, error) {
	c := call{needs: cmiv1.PluginCapability_RPC_CREATE_MACHINE, method: methodInitialize}
	if req != nil {
		c.machine, c.class, c.secret = req.Machine, req.MachineClass, req.Secret
	}
	response, addresses, err := d.create(ctx, c)
	if err != nil {
		return nil, err
	}
	return &driver.InitializeMachineResponse{ProviderID: response.GetProviderID(), NodeName: response.GetNodeName(), Addresses: addresses}, nil
}

func (d *Driver) create(ctx context.Context, c call) (*cmiv1.CreateMachineResponse, []corev1.NodeAddress, error) {
	response, answer, err := send(ctx, d, c, d.machines.CreateMachine, &cmiv1.CreateMachineRequest{
		MachineName: c.name(), ProviderSpec: c.spec(), Secrets: c.data(), LastKnownState: c.lastKnownState(),
	})
	return response, answer.addresses, err
}

// DeleteMachine stops the machine's VM and removes it with its files. An absent
// machine is no error.
func (d *Driver) DeleteMachine(ctx context.Context, req *driver.DeleteMachineRequest) (*driver.DeleteMachineResponse, error) {
	c := call{needs: cmiv1.PluginCapability_RPC_DELETE_MACHINE}
	if req != nil {
		c.machine, c.class, c.secret = req.Machine, req.MachineClass, req.Secret
	}
	response, _, err := send(ctx, d, c, d.machines.DeleteMachine, &cmiv1.DeleteMachineRequest{
		MachineName: c.name(), ProviderSpec: c.spec(), Secrets: c.data(), ProviderID: c.providerID(), LastKnownState: c.lastKnownState(),
	})
	if err != nil {
		return nil, err
	}
	return &driver.DeleteMachineResponse{LastKnownState: string(response.GetLastKnownState())}, nil
}

// GetMachineStatus finds the machine's VM. With the code Uninitialized there is a
// response, too, since MCM reads it.
func (d *Driver) GetMachineStatus(ctx context.Context, req *driver.GetMachineStatusRequest) (*driver.GetMachineStatusResponse, error) {
	c := call{needs: cmiv1.PluginCapability_RPC_GET_MACHINE_STATUS}
	if req != nil {
		c.machine, c.class, c.secret = req.Machine, req.MachineClass, req.Secret
	}
	response, answer, err := send(ctx, d, c, d.machines.GetMachineStatus, &cmiv1.GetMachineStatusRequest{
		MachineName: c.name(), ProviderSpec: c.spec(), Secrets: c.data(), ProviderID: c.providerID(),
	})
	switch {
	case err != nil && answer.code == mcmcodes.Uninitialized:
		return &driver.GetMachineStatusResponse{
			ProviderID: answer.info[infoProviderID], NodeName: answer.info[infoNodeName], Addresses: answer.addresses,
		}, err
	case err != nil:
		return nil, err
	}
	return &driver.GetMachineStatusResponse{ProviderID: response.GetProviderID(), NodeName: response.GetNodeName(), Addresses: answer.addresses}, nil
}

// ListMachines returns the machines that bear the class's mark. The map is never nil.
func (d *Driver) ListMachines(ctx context.Context, req *driver.ListMachinesRequest) (*driver.ListMachinesResponse, error) {
	c := call{needs: cmiv1.PluginCapability_RPC_LIST_MACHINES}
	if req != nil {
		c.class, c.secret = req.MachineClass, req.Secret
	}
	response, _, err := send(ctx, d, c, d.machines.ListMachines, &cmiv1.ListMachinesRequest{ProviderSpec: c.spec(), Secrets: c.data()})
	if err != nil {
		return nil, err
	}
	machines := response.GetMachineList()
	if machines == nil {
		machines = map[string]string{}
	}
	return &driver.ListMachinesResponse{MachineList: machines}, nil
}

// ShutDownMachine stops the machine's VM and keeps it. Absent: NotFound.
func (d *Driver) ShutDownMachine(ctx context.Context, req *provider.ShutDownMachineRequest) (*provider.ShutDownMachineResponse, error) {
	c := call{needs: cmiv1.PluginCapability_RPC_SHUTDOWN_MACHINE}
	if req != nil {
		c.machine, c.class, c.secret = req.Machine, req.MachineClass, req.Secret
	}
	response, _, err := send(ctx, d, c, d.machines.ShutDownMachine, &cmiv1.ShutDownMachineRequest{
		MachineName: c.name(), ProviderSpec: c.spec(), Secrets: c.data(), ProviderID: c.providerID(), LastKnownState: c.lastKnownState(),
	})
	if err != nil {
		return nil, err
	}
	return &provider.ShutDownMachineResponse{LastKnownState: string(response.GetLastKnownState())}, nil
}

// GetVolumeIDs returns a regular expression for each volume of which MCM should
// await the detachment.
func (d *Driver) GetVolumeIDs(ctx context.Context, req *driver.GetVolumeIDsRequest) (*driver.GetVolumeIDsResponse, error) {
	c := call{needs: cmiv1.PluginCapability_RPC_GET_VOLUME_IDS}
	var specs []*corev1.PersistentVolumeSpec
	if req != nil {
		specs = req.PVSpecs
	}
	encoded, err := json.Marshal(specs)
	if err != nil {
		return nil, c.fail(mcmcodes.InvalidArgument, "encode the specifications of volumes: %v", err)
	}
	response, _, err := send(ctx, d, c, d.machines.GetVolumeIDs, &cmiv1.GetVolumeIDsRequest{PVSpecList: encoded})
	if err != nil {
		return nil, err
	}
	ids := response.GetVolumeIDs()
	if ids == nil {
		ids = []string{}
	}
	return &driver.GetVolumeIDsResponse{VolumeIDs: ids}, nil
}

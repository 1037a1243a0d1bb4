// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"time"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
)

// DefaultCallTimeout is how long a call may take when Options say nothing else. It is
// a second line: backends have limits of their own, which are shorter.
const DefaultCallTimeout = 10 * time.Minute

// Options of a MachinePlugin. The zero value works.
type Options struct {
	// CallTimeout is how long a call may take, besides the time that the
	// ProviderSpec grants a machine to start (startTimeoutSeconds, on top for
	// InitializeMachine) and to stop (stopGracePeriodSeconds, on top for
	// DeleteMachine and ShutDownMachine). Default: DefaultCallTimeout.
	CallTimeout time.Duration
	// Clock measures durations. Default: the real one.
	Clock clock.PassiveClock
}

// MachinePlugin is MCM's driver. All methods may be called at the same time;
// requests are read and never changed. Every error is a status error of MCM; an
// error comes without a response, but for GetMachineStatus with the code
// Uninitialized.
type MachinePlugin struct {
	// SPI does the work.
	SPI spi.PluginSPI

	options Options
}

var _ Driver = (*MachinePlugin)(nil)

// NewMachinePlugin returns the driver on top of s.
func NewMachinePlugin(s spi.PluginSPI, options Options) *MachinePlugin {
	if options.CallTimeout <= 0 {
		options.CallTimeout = DefaultCallTimeout
	}
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	return &MachinePlugin{SPI: s, options: options}
}

// CreateMachine makes the machine's VM, which InitializeMachine starts. A
// machine that exists and fits is answered as if it had just been made.
func (p *MachinePlugin) CreateMachine(ctx context.Context, req *driver.CreateMachineRequest) (*driver.CreateMachineResponse, error) {
	var in input
	if req != nil {
		in = input{machine: req.Machine, class: req.MachineClass, secret: req.Secret}
	}
	return serve(ctx, p, opCreate, in, func(ctx context.Context, c *call) (*driver.CreateMachineResponse, error) {
		id, err := p.SPI.CreateMachine(ctx, c.machine, c.spec, c.secret)
		if err != nil {
			return nil, err
		}
		// No addresses: the VM is not running yet.
		return &driver.CreateMachineResponse{ProviderID: id, NodeName: c.machine, LastKnownState: "Created " + id}, nil
	})
}

// InitializeMachine starts the machine's VM and waits until its workload reports
// that it runs. A machine that runs is answered at once.
func (p *MachinePlugin) InitializeMachine(ctx context.Context, req *driver.InitializeMachineRequest) (*driver.InitializeMachineResponse, error) {
	var in input
	if req != nil {
		in = input{machine: req.Machine, class: req.MachineClass, secret: req.Secret}
	}
	return serve(ctx, p, opInitialize, in, func(ctx context.Context, c *call) (*driver.InitializeMachineResponse, error) {
		id, addresses, err := p.SPI.InitializeMachine(ctx, c.machine, c.providerID, c.spec, c.secret)
		if err != nil {
			return nil, err
		}
		return &driver.InitializeMachineResponse{ProviderID: id, NodeName: c.machine, Addresses: addresses}, nil
	})
}

// DeleteMachine stops the machine's VM and removes it with its files. An absent
// machine is no error. The code NotFound is never the answer: MCM would take it
// for "deleted" (machinecontroller/machine_util.go, deleteVM), but the backend
// means something else that is missing, the VCH for one.
func (p *MachinePlugin) DeleteMachine(ctx context.Context, req *driver.DeleteMachineRequest) (*driver.DeleteMachineResponse, error) {
	var in input
	if req != nil {
		in = input{machine: req.Machine, class: req.MachineClass, secret: req.Secret}
	}
	return serve(ctx, p, opDelete, in, func(ctx context.Context, c *call) (*driver.DeleteMachineResponse, error) {
		id, err := p.SPI.DeleteMachine(ctx, c.machine, c.providerID, c.spec, c.secret)
		switch {
		case errdefs.Is(err, errdefs.NotFound):
			return nil, errdefs.Wrap(errdefs.FailedPrecondition, err, "delete machine %s", c.machine)
		case err != nil:
			return nil, err
		case id == "":
			return &driver.DeleteMachineResponse{LastKnownState: "Absent"}, nil
		}
		return &driver.DeleteMachineResponse{LastKnownState: "Deleted " + id}, nil
	})
}

// ShutDownMachine stops the machine's VM and keeps it. Absent: NotFound.
func (p *MachinePlugin) ShutDownMachine(ctx context.Context, req *ShutDownMachineRequest) (*ShutDownMachineResponse, error) {
	var in input
	if req != nil {
		in = input{machine: req.Machine, class: req.MachineClass, secret: req.Secret}
	}
	return serve(ctx, p, opShutDown, in, func(ctx context.Context, c *call) (*ShutDownMachineResponse, error) {
		id, err := p.SPI.ShutDownMachine(ctx, c.machine, c.providerID, c.spec, c.secret)
		if err != nil {
			return nil, err
		}
		return &ShutDownMachineResponse{LastKnownState: "Stopped " + id}, nil
	})
}

// GetMachineStatus finds the machine's VM by the machine's name. With the code
// Uninitialized there is a response, too, since MCM reads it.
func (p *MachinePlugin) GetMachineStatus(ctx context.Context, req *driver.GetMachineStatusRequest) (*driver.GetMachineStatusResponse, error) {
	var in input
	if req != nil {
		in = input{machine: req.Machine, class: req.MachineClass, secret: req.Secret}
	}
	return serve(ctx, p, opStatus, in, func(ctx context.Context, c *call) (*driver.GetMachineStatusResponse, error) {
		id, addresses, err := p.SPI.GetMachineStatus(ctx, c.machine, c.providerID, c.spec, c.secret)
		if err != nil && !errdefs.Is(err, errdefs.Uninitialized) {
			return nil, err
		}
		return &driver.GetMachineStatusResponse{ProviderID: id, NodeName: c.machine, Addresses: addresses}, err
	})
}

// ListMachines returns the machines that bear the class's mark. MCM destroys
// those that it does not know, so nothing else is ever in the list. The map is
// never nil.
func (p *MachinePlugin) ListMachines(ctx context.Context, req *driver.ListMachinesRequest) (*driver.ListMachinesResponse, error) {
	var in input
	if req != nil {
		in = input{class: req.MachineClass, secret: req.Secret}
	}
	return serve(ctx, p, opList, in, func(ctx context.Context, c *call) (*driver.ListMachinesResponse, error) {
		machines, err := p.SPI.ListMachines(ctx, c.spec, c.secret)
		if err != nil {
			return nil, err
		}
		if machines == nil {
			machines = map[string]string{}
		}
		return &driver.ListMachinesResponse{MachineList: machines}, nil
	})
}

// GetVolumeIDs returns a regular expression for each volume of which MCM should
// await the detachment; volumes that are foreign or malformed have none. It
// never fails.
func (p *MachinePlugin) GetVolumeIDs(_ context.Context, req *driver.GetVolumeIDsRequest) (*driver.GetVolumeIDsResponse, error) {
	began := p.options.Clock.Now()
	response := &driver.GetVolumeIDsResponse{VolumeIDs: []string{}}
	if req != nil {
		response.VolumeIDs = volumeIDs(req.PVSpecs)
	}
	observeCall(opVolumes, p.options.Clock.Since(began), nil)
	return response, nil
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"context"
	"strings"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
)

const (
	machineName  = "machine-1"
	providerID   = "vch://4210c0de-0000-4000-8000-00000000cafe/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	providerSpec = `{
		"vch": {"datacenter": "DC0", "name": "vch-1"},
		"tags": {"kubernetes.io/cluster/test": "1", "kubernetes.io/role/worker": "1"},
		"rootDisk": {"vmdk": "[LocalDS_0] images/node.vmdk"},
		"command": ["/bin/sleep", "infinity"],
		"networks": [{"name": "net"}],
		"startTimeoutSeconds": 77,
		"stopGracePeriodSeconds": 33
	}`
	plantedToken    = "planted-token-of-userdata"
	plantedPassword = "planted-password"
)

func machineNamed(name string) *mcmv1alpha1.Machine {
	return &mcmv1alpha1.Machine{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}}
}

func classWith(spec string) *mcmv1alpha1.MachineClass {
	return &mcmv1alpha1.MachineClass{
		ObjectMeta:   metav1.ObjectMeta{Name: "class", Namespace: "ns"},
		Provider:     v1alpha1.Provider,
		ProviderSpec: runtime.RawExtension{Raw: []byte(spec)},
	}
}

func plantedSecret() *corev1.Secret {
	return &corev1.Secret{Data: map[string][]byte{
		v1alpha1.SecretHost:     []byte("vcenter.example.org"),
		v1alpha1.SecretUsername: []byte("administrator@vsphere.local"),
		v1alpha1.SecretPassword: []byte(plantedPassword),
		v1alpha1.SecretUserData: []byte("#!/bin/sh\nTOKEN=" + plantedToken + " exec node\n"),
	}}
}

// request is what all calls for a machine take.
type request struct {
	machine *mcmv1alpha1.Machine
	class   *mcmv1alpha1.MachineClass
	secret  *corev1.Secret
}

func newRequest() request {
	return request{machineNamed(machineName), classWith(providerSpec), plantedSecret()}
}

// respell changes the text of the request's ProviderSpec.
func (r request) respell(oldnew ...string) {
	r.class.ProviderSpec.Raw = []byte(strings.NewReplacer(oldnew...).Replace(providerSpec))
}

// method is one call of the driver in one shape.
type method struct {
	name      string
	operation string // as metrics call it
	forOne    bool   // for one machine
	makes     bool   // needs all that a new machine needs
	call      func(context.Context, provider.Driver, request) (responded bool, err error)
	empty     func(context.Context, provider.Driver) error // with a request that is nil
}

func methods() []method {
	return []method{
		{"CreateMachine", "create_machine", true, true, func(ctx context.Context, d provider.Driver, r request) (bool, error) {
			response, err := d.CreateMachine(ctx, &driver.CreateMachineRequest{Machine: r.machine, MachineClass: r.class, Secret: r.secret})
			return response != nil, err
		}, func(ctx context.Context, d provider.Driver) error { _, err := d.CreateMachine(ctx, nil); return err }},
		{"InitializeMachine", "initialize_machine", true, true, func(ctx context.Context, d provider.Driver, r request) (bool, error) {
			response, err := d.InitializeMachine(ctx, &driver.InitializeMachineRequest{Machine: r.machine, MachineClass: r.class, Secret: r.secret})
			return response != nil, err
		}, func(ctx context.Context, d provider.Driver) error {
			_, err := d.InitializeMachine(ctx, nil)
			return err
		}},
		{"GetMachineStatus", "get_machine_status", true, false, func(ctx context.Context, d provider.Driver, r request) (bool, error) {
			response, err := d.GetMachineStatus(ctx, &driver.GetMachineStatusRequest{Machine: r.machine, MachineClass: r.class, Secret: r.secret})
			return response != nil, err
		}, func(ctx context.Context, d provider.Driver) error { _, err := d.GetMachineStatus(ctx, nil); return err }},
		{"DeleteMachine", "delete_machine", true, false, func(ctx context.Context, d provider.Driver, r request) (bool, error) {
			response, err := d.DeleteMachine(ctx, &driver.DeleteMachineRequest{Machine: r.machine, MachineClass: r.class, Secret: r.secret})
			return response != nil, err
		}, func(ctx context.Context, d provider.Driver) error { _, err := d.DeleteMachine(ctx, nil); return err }},
		{"ShutDownMachine", "shut_down_machine", true, false, func(ctx context.Context, d provider.Driver, r request) (bool, error) {
			response, err := d.ShutDownMachine(ctx, &provider.ShutDownMachineRequest{Machine: r.machine, MachineClass: r.class, Secret: r.secret})
			return response != nil, err
		}, func(ctx context.Context, d provider.Driver) error { _, err := d.ShutDownMachine(ctx, nil); return err }},
		{"ListMachines", "list_machine", false, false, func(ctx context.Context, d provider.Driver, r request) (bool, error) {
			response, err := d.ListMachines(ctx, &driver.ListMachinesRequest{MachineClass: r.class, Secret: r.secret})
			return response != nil, err
		}, func(ctx context.Context, d provider.Driver) error { _, err := d.ListMachines(ctx, nil); return err }},
	}
}

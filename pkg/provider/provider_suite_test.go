// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"context"
	"testing"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/fake"
)

func TestProvider(t *testing.T) {
	RegisterFailHandler(Fail)
	RunSpecs(t, "Provider")
}

const (
	machineName  = "machine-1"
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
	plantedPassword = fake.Password
)

func testMachine() *mcmv1alpha1.Machine {
	return &mcmv1alpha1.Machine{ObjectMeta: metav1.ObjectMeta{Name: machineName, Namespace: "ns"}}
}

func testClass() *mcmv1alpha1.MachineClass {
	return &mcmv1alpha1.MachineClass{
		ObjectMeta:   metav1.ObjectMeta{Name: "class", Namespace: "ns"},
		Provider:     v1alpha1.Provider,
		ProviderSpec: runtime.RawExtension{Raw: []byte(providerSpec)},
	}
}

func testSecret() *corev1.Secret {
	return &corev1.Secret{Data: map[string][]byte{
		v1alpha1.SecretHost:     []byte("vcenter.example.org"),
		v1alpha1.SecretUsername: []byte(fake.Username),
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

func newRequest() request { return request{testMachine(), testClass(), testSecret()} }

// method is one call of the driver in one shape; responded says whether there was a response.
type method struct {
	name      string
	operation string
	forOne    bool // for one machine
	makes     bool // needs all that a new machine needs
	call      func(context.Context, driver.Driver, request) (responded bool, err error)
}

func methods() []method {
	return []method{
		{"CreateMachine", "create_machine", true, true, func(ctx context.Context, d driver.Driver, r request) (bool, error) {
			response, err := d.CreateMachine(ctx, &driver.CreateMachineRequest{Machine: r.machine, MachineClass: r.class, Secret: r.secret})
			return response != nil, err
		}},
		{"InitializeMachine", "initialize_machine", true, true, func(ctx context.Context, d driver.Driver, r request) (bool, error) {
			response, err := d.InitializeMachine(ctx, &driver.InitializeMachineRequest{Machine: r.machine, MachineClass: r.class, Secret: r.secret})
			return response != nil, err
		}},
		{"GetMachineStatus", "get_machine_status", true, false, func(ctx context.Context, d driver.Driver, r request) (bool, error) {
			response, err := d.GetMachineStatus(ctx, &driver.GetMachineStatusRequest{Machine: r.machine, MachineClass: r.class, Secret: r.secret})
			return response != nil, err
		}},
		{"DeleteMachine", "delete_machine", true, false, func(ctx context.Context, d driver.Driver, r request) (bool, error) {
			response, err := d.DeleteMachine(ctx, &driver.DeleteMachineRequest{Machine: r.machine, MachineClass: r.class, Secret: r.secret})
			return response != nil, err
		}},
		{"ListMachines", "list_machine", false, false, func(ctx context.Context, d driver.Driver, r request) (bool, error) {
			response, err := d.ListMachines(ctx, &driver.ListMachinesRequest{MachineClass: r.class, Secret: r.secret})
			return response != nil, err
		}},
	}
}

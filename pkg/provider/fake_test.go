// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"context"
	"fmt"
	"sync"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/fake"
)

// flow is what MCM does with one Machine, without what it does to the API.
type flow struct {
	driver driver.Driver
	class  *mcmv1alpha1.MachineClass
}

func (f flow) create(ctx context.Context, machine *mcmv1alpha1.Machine) error {
	_, err := f.driver.GetMachineStatus(ctx, &driver.GetMachineStatusRequest{Machine: machine, MachineClass: f.class, Secret: testSecret()})
	if s, ok := status.FromError(err); !ok || s.Code() != codes.NotFound {
		return fmt.Errorf("status before create: %w", err)
	}
	created, err := f.driver.CreateMachine(ctx, &driver.CreateMachineRequest{Machine: machine, MachineClass: f.class, Secret: testSecret()})
	if err != nil {
		return err
	}
	machine.Spec.ProviderID = created.ProviderID
	response, err := f.driver.GetMachineStatus(ctx, &driver.GetMachineStatusRequest{Machine: machine, MachineClass: f.class, Secret: testSecret()})
	if s, ok := status.FromError(err); !ok || s.Code() != codes.Uninitialized || response.ProviderID != created.ProviderID {
		return fmt.Errorf("status between create and initialize: %+v, %w", response, err)
	}
	_, err = f.driver.InitializeMachine(ctx, &driver.InitializeMachineRequest{Machine: machine, MachineClass: f.class, Secret: testSecret()})
	return err
}

func (f flow) list(ctx context.Context) (map[string]string, error) {
	response, err := f.driver.ListMachines(ctx, &driver.ListMachinesRequest{MachineClass: f.class, Secret: testSecret()})
	if err != nil {
		return nil, err
	}
	return response.MachineList, nil
}

func (f flow) remove(ctx context.Context, machine *mcmv1alpha1.Machine) error {
	_, err := f.driver.DeleteMachine(ctx, &driver.DeleteMachineRequest{Machine: machine, MachineClass: f.class, Secret: testSecret()})
	return err
}

var _ = Describe("MachinePlugin on a backend that works", func() {
	var (
		backend *fake.Fake
		f       flow
	)
	BeforeEach(func() {
		backend = fake.New()
		f = flow{driver: provider.NewMachinePlugin(backend, provider.Options{}), class: testClass()}
	})

	It("leads a machine through its life, also when a crash lost the provider id", func(ctx context.Context) {
		machine := testMachine()
		Expect(f.create(ctx, machine)).To(Succeed())
		Expect(f.list(ctx)).To(Equal(map[string]string{machine.Spec.ProviderID: machineName}))

		response, err := f.driver.GetMachineStatus(ctx, &driver.GetMachineStatusRequest{Machine: testMachine(), MachineClass: f.class, Secret: testSecret()})
		Expect(err).NotTo(HaveOccurred())
		Expect(response.ProviderID).To(Equal(machine.Spec.ProviderID))
		Expect(response.NodeName).To(Equal(machineName))
		Expect(response.Addresses).NotTo(BeEmpty())

		Expect(f.remove(ctx, testMachine())).To(Succeed())
		Expect(f.remove(ctx, machine)).To(Succeed(), "a second delete")
		Expect(f.list(ctx)).To(And(BeEmpty(), Not(BeNil())))
		Expect(backend.VMs()).To(BeEmpty())
		Expect(backend.Files()).To(BeEmpty())
	})

	It("lets a changed Secret take effect at the next call", func(ctx context.Context) {
		machine := testMachine()
		Expect(f.create(ctx, machine)).To(Succeed())
		secret := testSecret()
		secret.Data[v1alpha1.SecretPassword] = []byte("the-old-password")
		_, err := f.driver.DeleteMachine(ctx, &driver.DeleteMachineRequest{Machine: machine, MachineClass: f.class, Secret: secret})
		code, message := parsed(err)
		Expect(code).To(Equal(codes.Unauthenticated))
		Expect(message).NotTo(ContainSubstring("the-old-password"))
		Expect(backend.VMs()).To(HaveLen(1))
		Expect(f.remove(ctx, machine)).To(Succeed())
	})

	It("serves 50 machines at the same time", func(ctx context.Context) {
		var wg sync.WaitGroup
		errs := make([]error, 50)
		for i := range errs {
			wg.Go(func() {
				machine := testMachine()
				machine.Name = fmt.Sprintf("machine-%d", i)
				if errs[i] = f.create(ctx, machine); errs[i] != nil {
					return
				}
				var machines map[string]string
				if machines, errs[i] = f.list(ctx); errs[i] == nil && machines[machine.Spec.ProviderID] != machine.Name {
					errs[i] = fmt.Errorf("%s is not in the list", machine.Name)
				}
				if i%2 == 0 && errs[i] == nil {
					errs[i] = f.remove(ctx, machine)
				}
			})
		}
		wg.Wait()
		Expect(errs).To(HaveEach(BeNil()))
		Expect(f.list(ctx)).To(HaveLen(25))
		Expect(backend.VMs()).To(HaveEach(HaveField("Running", true)))
	})
})

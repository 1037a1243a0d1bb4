// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	"github.com/go-logr/logr"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
)

// Life registers the specs of a driver on a backend that works: what MCM does
// with Machines, and what becomes of the VMs. crowd is how many Machines one spec
// has at the same time.
func Life(way string, connect Connect, newWorld NewWorld, crowd int) {
	ginkgo.Describe("A driver "+way, func() {
		l := &life{crowd: crowd}
		ginkgo.BeforeEach(func() {
			l.world = newWorld(ginkgo.GinkgoTB())
			l.driver = connect(l.world.SPI(), provider.Options{}, logr.Discard())
			l.class = classOf(l.world)
			l.foreigners = l.world.Foreigners()
		})
		ginkgo.AfterEach(func() {
			gomega.Expect(l.world.Foreigners()).To(gomega.Equal(l.foreigners), "what is not ours")
		})

		ginkgo.It("leads a machine through its life, also when a crash lost the provider id", l.wholeLife)
		ginkgo.It("lets a changed Secret take effect at the next call", l.changedSecret)
		ginkgo.It("stops a machine, keeps it, and starts it again", l.stopAndGoOn)
		ginkgo.It("tells in the guest's own words why it does not start, and starts it later", l.failedStart)
		ginkgo.It(fmt.Sprintf("serves %d machines at the same time", crowd), l.manyMachines)
	})
}

// classOf is a MachineClass of a world.
func classOf(world spitest.Harness) *mcmv1alpha1.MachineClass {
	ginkgo.GinkgoHelper()
	spec, err := json.Marshal(world.Spec())
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	return classWith(string(spec))
}

// secretOf is a Secret of a world, with userData.
func secretOf(world spitest.Harness) *corev1.Secret {
	secret := world.Secret()
	secret.Data[v1alpha1.SecretUserData] = plantedSecret().Data[v1alpha1.SecretUserData]
	return secret
}

// life is what MCM does with Machines, without what it does to the API.
type life struct {
	driver     provider.Driver
	class      *mcmv1alpha1.MachineClass
	world      spitest.Harness
	foreigners map[string]string
	crowd      int
}

func (l *life) status(ctx context.Context, machine *mcmv1alpha1.Machine) (*driver.GetMachineStatusResponse, error) {
	return l.driver.GetMachineStatus(ctx, &driver.GetMachineStatusRequest{Machine: machine, MachineClass: l.class, Secret: secretOf(l.world)})
}

func (l *life) initialize(ctx context.Context, machine *mcmv1alpha1.Machine) error {
	_, err := l.driver.InitializeMachine(ctx, &driver.InitializeMachineRequest{Machine: machine, MachineClass: l.class, Secret: secretOf(l.world)})
	return err
}

func (l *life) create(ctx context.Context, machine *mcmv1alpha1.Machine) error {
	_, err := l.status(ctx, machine)
	if s, ok := status.FromError(err); !ok || s.Code() != codes.NotFound {
		return fmt.Errorf("status before create: %w", err)
	}
	created, err := l.driver.CreateMachine(ctx, &driver.CreateMachineRequest{Machine: machine, MachineClass: l.class, Secret: secretOf(l.world)})
	if err != nil {
		return err
	}
	machine.Spec.ProviderID = created.ProviderID
	response, err := l.status(ctx, machine)
	if s, ok := status.FromError(err); !ok || s.Code() != codes.Uninitialized || response.ProviderID != created.ProviderID {
		return fmt.Errorf("status between create and initialize: %+v, %w", response, err)
	}
	return l.initialize(ctx, machine)
}

func (l *life) list(ctx context.Context) (map[string]string, error) {
	response, err := l.driver.ListMachines(ctx, &driver.ListMachinesRequest{MachineClass: l.class, Secret: secretOf(l.world)})
	if err != nil {
		return nil, err
	}
	return response.MachineList, nil
}

func (l *life) remove(ctx context.Context, machine *mcmv1alpha1.Machine) error {
	_, err := l.driver.DeleteMachine(ctx, &driver.DeleteMachineRequest{Machine: machine, MachineClass: l.class, Secret: secretOf(l.world)})
	return err
}

func (l *life) wholeLife(ctx context.Context) {
	machine := machineNamed(machineName)
	gomega.Expect(l.create(ctx, machine)).To(gomega.Succeed())
	gomega.Expect(l.list(ctx)).To(gomega.Equal(map[string]string{machine.Spec.ProviderID: machineName}))

	response, err := l.status(ctx, machineNamed(machineName))
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	gomega.Expect(response.ProviderID).To(gomega.Equal(machine.Spec.ProviderID))
	gomega.Expect(response.NodeName).To(gomega.Equal(machineName))
	gomega.Expect(response.Addresses).NotTo(gomega.BeEmpty())

	gomega.Expect(l.remove(ctx, machineNamed(machineName))).To(gomega.Succeed())
	gomega.Expect(l.remove(ctx, machine)).To(gomega.Succeed(), "a second delete")
	gomega.Expect(l.list(ctx)).To(gomega.And(gomega.BeEmpty(), gomega.Not(gomega.BeNil())))
	gomega.Expect(l.world.Machines()).To(gomega.BeEmpty())
	gomega.Expect(l.world.Leftovers()).To(gomega.BeEmpty())
}

func (l *life) changedSecret(ctx context.Context) {
	machine := machineNamed(machineName)
	gomega.Expect(l.create(ctx, machine)).To(gomega.Succeed())
	secret := secretOf(l.world)
	secret.Data[v1alpha1.SecretPassword] = []byte("the-old-password")
	_, err := l.driver.DeleteMachine(ctx, &driver.DeleteMachineRequest{Machine: machine, MachineClass: l.class, Secret: secret})
	code, message := parsed(err)
	gomega.Expect(code).To(gomega.Equal(codes.Unauthenticated))
	gomega.Expect(message).NotTo(gomega.Or(gomega.ContainSubstring("the-old-password"), gomega.ContainSubstring(plantedToken)))
	gomega.Expect(l.world.Machines()).To(gomega.HaveLen(1))
	gomega.Expect(l.remove(ctx, machine)).To(gomega.Succeed())
	gomega.Expect(l.world.Machines()).To(gomega.BeEmpty())
}

func (l *life) stopAndGoOn(ctx context.Context) {
	machine := machineNamed(machineName)
	stop := func() (*provider.ShutDownMachineResponse, error) {
		return l.driver.ShutDownMachine(ctx, &provider.ShutDownMachineRequest{Machine: machine, MachineClass: l.class, Secret: secretOf(l.world)})
	}
	_, err := stop()
	code, _ := parsed(err)
	gomega.Expect(code).To(gomega.Equal(codes.NotFound), "absent")

	gomega.Expect(l.create(ctx, machine)).To(gomega.Succeed())
	gomega.Expect(stop()).To(gomega.Equal(&provider.ShutDownMachineResponse{LastKnownState: "Stopped " + machine.Spec.ProviderID}))
	gomega.Expect(l.world.Machines()).To(gomega.Equal([]spitest.Machine{{Name: machineName}}))
	response, err := l.status(ctx, machine)
	code, _ = parsed(err)
	gomega.Expect(code).To(gomega.Equal(codes.Uninitialized))
	gomega.Expect(response).To(gomega.And(gomega.HaveField("ProviderID", machine.Spec.ProviderID), gomega.HaveField("NodeName", machineName)))

	gomega.Expect(l.initialize(ctx, machine)).To(gomega.Succeed())
	gomega.Expect(l.world.Machines()).To(gomega.Equal([]spitest.Machine{{Name: machineName, Running: true}}))
	gomega.Expect(l.remove(ctx, machine)).To(gomega.Succeed())
	gomega.Expect(l.world.Leftovers()).To(gomega.BeEmpty())
}

func (l *life) failedStart(ctx context.Context) {
	const word = "exec [/bin/lost]: no such file"
	l.world.SetGuest(spitest.Guest{StartError: word})
	machine := machineNamed(machineName)
	code, message := parsed(l.create(ctx, machine))
	gomega.Expect(code).To(gomega.Equal(codes.Internal))
	gomega.Expect(message).To(gomega.ContainSubstring(word))
	gomega.Expect(machine.Spec.ProviderID).NotTo(gomega.BeEmpty())

	l.world.SetGuest(spitest.Guest{})
	gomega.Expect(l.initialize(ctx, machine)).To(gomega.Succeed())
	gomega.Expect(l.world.Machines()).To(gomega.Equal([]spitest.Machine{{Name: machineName, Running: true}}))
}

func (l *life) manyMachines(ctx context.Context) {
	var wg sync.WaitGroup
	errs := make([]error, l.crowd)
	for i := range errs {
		wg.Go(func() {
			machine := machineNamed(fmt.Sprintf("machine-%d", i))
			if errs[i] = l.create(ctx, machine); errs[i] != nil {
				return
			}
			var machines map[string]string
			if machines, errs[i] = l.list(ctx); errs[i] == nil && machines[machine.Spec.ProviderID] != machine.Name {
				errs[i] = fmt.Errorf("%s is not in the list", machine.Name)
			}
			if i%2 == 0 && errs[i] == nil {
				errs[i] = l.remove(ctx, machine)
			}
		})
	}
	wg.Wait()
	gomega.Expect(errs).To(gomega.HaveEach(gomega.BeNil()))
	gomega.Expect(l.list(ctx)).To(gomega.HaveLen(l.crowd / 2))
	gomega.Expect(l.world.Machines()).To(gomega.And(gomega.HaveLen(l.crowd/2), gomega.HaveEach(gomega.HaveField("Running", true))))
	gomega.Expect(l.world.Leftovers()).To(gomega.BeEmpty())
}

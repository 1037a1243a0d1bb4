// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	mcmfake "github.com/gardener/machine-controller-manager/pkg/client/clientset/versioned/fake"
	mcminformers "github.com/gardener/machine-controller-manager/pkg/client/informers/externalversions"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/app/options"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	machinecontroller "github.com/gardener/machine-controller-manager/pkg/util/provider/machinecontroller"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machineutils"
	"github.com/google/uuid"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	kubefake "k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/fake"
)

// named is a backend that fails for machines named <method>-<kind>, and for
// others does what the fake does.
type named struct {
	spi.PluginSPI
}

func (n named) fail(method, machine string) error {
	for _, kind := range errdefs.Kinds() {
		if machine == machineFor(method, kind) {
			return errdefs.New(kind, "open [datastore1] %s/%s.vmdk: Initiate VM deletion OutOfRange [", machine, machine)
		}
	}
	return nil
}

func machineFor(method string, kind errdefs.Kind) string {
	return strings.ToLower(fmt.Sprintf("%s-%s", method, kind))
}

func (n named) CreateMachine(ctx context.Context, m string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
	if err := n.fail("create", m); err != nil {
		return "", err
	}
	return n.PluginSPI.CreateMachine(ctx, m, spec, secret)
}

func (n named) InitializeMachine(ctx context.Context, m, id string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, []corev1.NodeAddress, error) {
	if err := n.fail("initialize", m); err != nil {
		return "", nil, err
	}
	return n.PluginSPI.InitializeMachine(ctx, m, id, spec, secret)
}

func (n named) GetMachineStatus(ctx context.Context, m, id string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, []corev1.NodeAddress, error) {
	if err := n.fail("status", m); err != nil {
		return "", nil, err
	}
	return n.PluginSPI.GetMachineStatus(ctx, m, id, spec, secret)
}

func (n named) DeleteMachine(ctx context.Context, m, id string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (string, error) {
	if err := n.fail("delete", m); err != nil {
		return "", err
	}
	return n.PluginSPI.DeleteMachine(ctx, m, id, spec, secret)
}

// controlled is MCM's real machine controller, without a target cluster, on
// clients in memory, with our driver on a fake.
type controlled struct {
	client  *mcmfake.Clientset
	backend *fake.Fake
}

func (c controlled) machine(name string) *mcmv1alpha1.Machine {
	GinkgoHelper()
	m, err := c.client.MachineV1alpha1().Machines("ns").Get(context.Background(), name, metav1.GetOptions{})
	Expect(err).NotTo(HaveOccurred())
	return m
}

func (c controlled) add(machines ...*mcmv1alpha1.Machine) {
	GinkgoHelper()
	for _, m := range machines {
		_, err := c.client.MachineV1alpha1().Machines("ns").Create(context.Background(), m, metav1.CreateOptions{})
		Expect(err).NotTo(HaveOccurred())
	}
}

// control runs the controller, which a process can do once: it registers itself
// as a collector of metrics and never takes that back.
func control() controlled {
	GinkgoHelper()
	class := testClass()
	class.Finalizers = []string{machinecontroller.MCMFinalizerName}
	class.SecretRef = &corev1.SecretReference{Name: "secret", Namespace: "ns"}
	secret := testSecret()
	secret.Name, secret.Namespace = "secret", "ns"
	c := controlled{client: mcmfake.NewSimpleClientset(class), backend: fake.New()}
	core := kubefake.NewClientset(secret)
	machineInformers := mcminformers.NewSharedInformerFactory(c.client, 0)
	coreInformers := informers.NewSharedInformerFactory(core, 0)
	controller, err := machinecontroller.NewController(
		"ns", c.client.MachineV1alpha1(), core, nil,
		provider.NewMachinePlugin(named{c.backend}, provider.Options{}),
		nil, coreInformers.Core().V1().Secrets(),
		machineInformers.Machine().V1alpha1().MachineClasses(), machineInformers.Machine().V1alpha1().Machines(),
		record.NewFakeRecorder(1000), options.NewMCServer().SafetyOptions, "", "", nil, machineutils.LongRetry,
	)
	Expect(err).NotTo(HaveOccurred())
	stop := make(chan struct{})
	machineInformers.Start(stop)
	coreInformers.Start(stop)
	go controller.Run(50, stop) // never returns: it waits for workers that wait for work (controller.go:370)
	DeferCleanup(func() {
		close(stop)
		machineInformers.Shutdown()
		coreInformers.Shutdown()
	})
	return c
}

func newMachine(name string, terminating bool) *mcmv1alpha1.Machine {
	m := &mcmv1alpha1.Machine{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "ns", Generation: 1, CreationTimestamp: metav1.Now(),
			Finalizers: []string{machinecontroller.MCMFinalizerName},
		},
		Spec: mcmv1alpha1.MachineSpec{Class: mcmv1alpha1.ClassSpec{Kind: "MachineClass", Name: "class"}},
	}
	if terminating {
		now := metav1.Now()
		m.DeletionTimestamp = &now
		// Where the deletion flow calls the driver.
		m.Status.CurrentStatus = mcmv1alpha1.CurrentStatus{Phase: mcmv1alpha1.MachineTerminating, LastUpdateTime: now}
		m.Status.LastOperation = mcmv1alpha1.LastOperation{Description: machineutils.InitiateVMDeletion, LastUpdateTime: now}
	}
	return m
}

var _ = Describe("MCM's real controller", Ordered, func() {
	const patience = 30 * time.Second
	var c controlled
	BeforeAll(func() { c = control() })

	It("makes a Machine Available, with addresses and provider id", func() {
		c.add(newMachine("good-machine", false))
		Eventually(func(g Gomega) {
			m := c.machine("good-machine")
			g.Expect(m.Status.CurrentStatus.Phase).To(Equal(mcmv1alpha1.MachineAvailable))
			g.Expect(m.Spec.ProviderID).To(HavePrefix("vch://" + fake.VCH + "/"))
			g.Expect(m.Status.Addresses).To(ContainElements(
				corev1.NodeAddress{Type: corev1.NodeHostName, Address: "good-machine"}, HaveField("Type", corev1.NodeInternalIP)))
		}, patience, 50*time.Millisecond).Should(Succeed())
		Expect(c.backend.VMs()).To(ContainElement(And(HaveField("Name", "good-machine"), HaveField("Running", true))))
	})

	It("reads each of our codes out of each of our errors", func() {
		var machines []*mcmv1alpha1.Machine
		want := map[string]codes.Code{}
		for _, kind := range errdefs.Kinds() {
			for _, method := range []string{"create", "initialize", "status"} {
				if method == "status" && (kind == errdefs.NotFound || kind == errdefs.Unimplemented || kind == errdefs.Uninitialized) {
					continue // no failure, but the way to CreateMachine or InitializeMachine
				}
				if method == "initialize" && kind == errdefs.Unimplemented {
					continue // MCM skips that step then
				}
				name := machineFor(method, kind)
				machines, want[name] = append(machines, newMachine(name, false)), mcmCode(kind)
			}
		}
		c.add(machines...)
		for name, code := range want {
			Eventually(func(g Gomega) {
				last := c.machine(name).Status.LastOperation
				g.Expect(last.ErrorCode).To(Equal(code.String()))
				g.Expect(last.Description).To(ContainSubstring("open [datastore1] " + name))
				g.Expect(last.Description).NotTo(ContainSubstring(machineutils.InitiateVMDeletion))
				g.Expect(c.machine(name).Status.CurrentStatus.Phase).To(Equal(mcmv1alpha1.MachineCrashLoopBackOff))
			}, patience, 20*time.Millisecond).Should(Succeed(), name)
		}
	})

	It("goes on from the deletion of a VM only when the driver said that it is done", func() {
		var machines []*mcmv1alpha1.Machine
		for _, kind := range errdefs.Kinds() {
			machines = append(machines, newMachine(machineFor("delete", kind), true))
		}
		c.add(append(machines, newMachine("gone-machine", true))...)
		Eventually(func() string { return c.machine("gone-machine").Status.LastOperation.Description }, patience, 20*time.Millisecond).
			Should(Or(ContainSubstring(machineutils.InitiateNodeDeletion), ContainSubstring(machineutils.InitiateFinalizerRemoval)))
		for _, m := range machines {
			Eventually(func(g Gomega) {
				last := c.machine(m.Name).Status.LastOperation
				g.Expect(last.State).To(Equal(mcmv1alpha1.MachineStateFailed))
				g.Expect(last.Description).To(ContainSubstring("open [datastore1] " + m.Name))
				// MCM puts its own phrase behind ours, to come back here; no later one may be there.
				g.Expect(last.Description).NotTo(Or(ContainSubstring(machineutils.InitiateNodeDeletion), ContainSubstring(machineutils.InitiateFinalizerRemoval)))
			}, patience, 20*time.Millisecond).Should(Succeed(), m.Name)
		}
	})

	It("collects orphans and nothing else", func(ctx context.Context) {
		spec, err := v1alpha1.Load([]byte(providerSpec))
		Expect(err).NotTo(HaveOccurred())
		_, err = c.backend.CreateMachine(ctx, "orphan", spec, testSecret())
		Expect(err).NotTo(HaveOccurred())
		foreign := fake.VM{Name: "foreign", BIOSUUID: uuid.NewString(), Directory: "[fake] foreign/", Running: true}
		c.backend.Plant(foreign)
		c.add(newMachine("known-machine", false))
		Eventually(func() mcmv1alpha1.MachinePhase { return c.machine("known-machine").Status.CurrentStatus.Phase }, patience, 50*time.Millisecond).
			Should(Equal(mcmv1alpha1.MachineAvailable))

		c.add(newMachine("trigger", true)) // a Machine object that goes away starts the collection
		Expect(c.client.MachineV1alpha1().Machines("ns").Delete(ctx, "trigger", metav1.DeleteOptions{})).To(Succeed())
		Eventually(c.backend.VMs, patience, 50*time.Millisecond).ShouldNot(ContainElement(HaveField("Name", "orphan")))
		Expect(c.backend.VMs()).To(ContainElements(foreign, HaveField("Name", "known-machine")))
	})
})

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"context"
	"sync"
	"time"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	mcmfake "github.com/gardener/machine-controller-manager/pkg/client/clientset/versioned/fake"
	mcminformers "github.com/gardener/machine-controller-manager/pkg/client/informers/externalversions"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/app/options"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	machinecontroller "github.com/gardener/machine-controller-manager/pkg/util/provider/machinecontroller"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machineutils"
	"github.com/go-logr/logr"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/informers"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
)

const pollInterval = 50 * time.Millisecond

// controlled is MCM's real machine controller, without a target cluster, on
// clients in memory, with a driver on a world.
type controlled struct {
	connect  Connect
	newWorld NewWorld
	client   *mcmfake.Clientset
	world    spitest.Harness
}

// Controller registers the specs of MCM's real controller with a driver. A
// process can do this once: the controller registers itself as a collector of
// metrics and never takes that back.
func Controller(way string, connect Connect, newWorld NewWorld) {
	ginkgo.Describe("MCM's real controller with a driver "+way, ginkgo.Ordered, func() {
		c := &controlled{connect: connect, newWorld: newWorld}
		ginkgo.BeforeAll(c.start)

		ginkgo.It("makes a Machine Available, with addresses and provider id", c.makesAvailable)
		ginkgo.It("reads each of our codes out of each of our errors", c.readsCodes)
		ginkgo.It("goes on from the deletion of a VM only when the driver said that it is done", c.deletesWhenDone)
		ginkgo.It("collects orphans and nothing else", c.collectsOrphans)
	})
}

func (c *controlled) start() {
	c.world = c.newWorld(ginkgo.GinkgoTB())
	class := classOf(c.world)
	class.Finalizers = []string{machinecontroller.MCMFinalizerName}
	class.SecretRef = &corev1.SecretReference{Name: "secret", Namespace: "ns"}
	secret := secretOf(c.world)
	secret.Name, secret.Namespace = "secret", "ns"
	c.client = mcmfake.NewSimpleClientset(class)
	watched := watchOf(c.client, mcmv1alpha1.SchemeGroupVersion.WithResource("machines"))
	core := kubefake.NewClientset(secret)
	machineInformers := mcminformers.NewSharedInformerFactory(c.client, 0)
	coreInformers := informers.NewSharedInformerFactory(core, 0)
	controller, err := machinecontroller.NewController(
		"ns", c.client.MachineV1alpha1(), core, nil,
		c.connect(named{c.world.SPI()}, provider.Options{}, logr.Discard()),
		nil, coreInformers.Core().V1().Secrets(),
		machineInformers.Machine().V1alpha1().MachineClasses(), machineInformers.Machine().V1alpha1().Machines(),
		record.NewFakeRecorder(1000), options.NewMCServer().SafetyOptions, "", "", nil, machineutils.LongRetry,
	)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	stop := make(chan struct{})
	machineInformers.Start(stop)
	coreInformers.Start(stop)
	go controller.Run(50, stop) // never returns: it waits for workers that wait for work (controller.go:370)
	ginkgo.DeferCleanup(func() {
		close(stop)
		machineInformers.Shutdown()
		coreInformers.Shutdown()
	})
	gomega.Eventually(watched).WithTimeout(patience).Should(gomega.BeClosed())
}

// watchOf returns a channel that is closed when somebody watches a resource. A
// client in memory forgets to tell an informer of what is made between its list
// and its watch, so nothing may be made before.
func watchOf(client *mcmfake.Clientset, resource schema.GroupVersionResource) <-chan struct{} {
	watched := make(chan struct{})
	closeOnce := sync.OnceFunc(func() { close(watched) })
	client.PrependWatchReactor(resource.Resource, func(action clienttesting.Action) (bool, watch.Interface, error) {
		w, err := client.Tracker().Watch(resource, action.GetNamespace())
		if err == nil {
			closeOnce()
		}
		return true, w, err
	})
	return watched
}

func (c *controlled) machine(ctx context.Context, name string) *mcmv1alpha1.Machine {
	ginkgo.GinkgoHelper()
	m, err := c.client.MachineV1alpha1().Machines("ns").Get(ctx, name, metav1.GetOptions{})
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	return m
}

func (c *controlled) add(ctx context.Context, machines ...*mcmv1alpha1.Machine) {
	ginkgo.GinkgoHelper()
	for _, m := range machines {
		_, err := c.client.MachineV1alpha1().Machines("ns").Create(ctx, m, metav1.CreateOptions{})
		gomega.Expect(err).NotTo(gomega.HaveOccurred())
	}
}

// eventually waits for what the controller does by itself.
func eventually(ctx context.Context, actual any) gomega.AsyncAssertion {
	return gomega.Eventually(actual).WithContext(ctx).WithTimeout(patience).WithPolling(pollInterval)
}

func newMachine(name string) *mcmv1alpha1.Machine {
	return &mcmv1alpha1.Machine{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "ns", Generation: 1, CreationTimestamp: metav1.Now(),
			Finalizers: []string{machinecontroller.MCMFinalizerName},
		},
		Spec: mcmv1alpha1.MachineSpec{Class: mcmv1alpha1.ClassSpec{Kind: "MachineClass", Name: "class"}},
	}
}

// terminating is a Machine where the deletion flow calls the driver.
func terminating(name string) *mcmv1alpha1.Machine {
	m, now := newMachine(name), metav1.Now()
	m.DeletionTimestamp = &now
	m.Status.CurrentStatus = mcmv1alpha1.CurrentStatus{Phase: mcmv1alpha1.MachineTerminating, LastUpdateTime: now}
	m.Status.LastOperation = mcmv1alpha1.LastOperation{Description: machineutils.InitiateVMDeletion, LastUpdateTime: now}
	return m
}

func (c *controlled) makesAvailable(ctx context.Context) {
	c.add(ctx, newMachine("good-machine"))
	eventually(ctx, func(g gomega.Gomega) {
		m := c.machine(ctx, "good-machine")
		g.Expect(m.Status.CurrentStatus.Phase).To(gomega.Equal(mcmv1alpha1.MachineAvailable))
		g.Expect(m.Spec.ProviderID).To(gomega.HavePrefix("vch://" + c.world.VCH() + "/"))
		g.Expect(m.Status.Addresses).To(gomega.ContainElements(
			corev1.NodeAddress{Type: corev1.NodeHostName, Address: "good-machine"}, gomega.HaveField("Type", corev1.NodeInternalIP)))
	}).Should(gomega.Succeed())
	gomega.Expect(c.world.Machines()).To(gomega.ContainElement(spitest.Machine{Name: "good-machine", Running: true}))
}

func (c *controlled) readsCodes(ctx context.Context) {
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
			machines, want[name] = append(machines, newMachine(name)), mcmCode(kind)
		}
	}
	c.add(ctx, machines...)
	for name, code := range want {
		eventually(ctx, func(g gomega.Gomega) {
			last := c.machine(ctx, name).Status.LastOperation
			g.Expect(last.ErrorCode).To(gomega.Equal(code.String()))
			g.Expect(last.Description).To(gomega.ContainSubstring("open [datastore1] " + name))
			g.Expect(last.Description).NotTo(gomega.ContainSubstring(machineutils.InitiateVMDeletion))
			g.Expect(c.machine(ctx, name).Status.CurrentStatus.Phase).To(gomega.Equal(mcmv1alpha1.MachineCrashLoopBackOff))
		}).Should(gomega.Succeed(), name)
	}
}

func (c *controlled) deletesWhenDone(ctx context.Context) {
	var machines []*mcmv1alpha1.Machine
	for _, kind := range errdefs.Kinds() {
		machines = append(machines, terminating(machineFor("delete", kind)))
	}
	c.add(ctx, append(machines, terminating("gone-machine"))...)
	later := gomega.Or(gomega.ContainSubstring(machineutils.InitiateNodeDeletion), gomega.ContainSubstring(machineutils.InitiateFinalizerRemoval))
	eventually(ctx, func() string { return c.machine(ctx, "gone-machine").Status.LastOperation.Description }).Should(later)
	for _, m := range machines {
		eventually(ctx, func(g gomega.Gomega) {
			last := c.machine(ctx, m.Name).Status.LastOperation
			g.Expect(last.State).To(gomega.Equal(mcmv1alpha1.MachineStateFailed))
			g.Expect(last.Description).To(gomega.ContainSubstring("open [datastore1] " + m.Name))
			// MCM puts its own phrase behind ours, to come back here; no later one may be there.
			g.Expect(last.Description).NotTo(later)
		}).Should(gomega.Succeed(), m.Name)
	}
}

func (c *controlled) collectsOrphans(ctx context.Context) {
	_, err := c.world.SPI().CreateMachine(ctx, "orphan", c.world.Spec(), secretOf(c.world))
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	for _, kind := range []spitest.Foreign{spitest.Unmarked, spitest.HalfMarked, spitest.OtherRole, spitest.OtherCluster, spitest.Namesake, spitest.Docker, spitest.Clone} {
		c.world.Plant(kind, "foreign")
	}
	foreigners := c.world.Foreigners()
	c.add(ctx, newMachine("known-machine"))
	eventually(ctx, func() mcmv1alpha1.MachinePhase { return c.machine(ctx, "known-machine").Status.CurrentStatus.Phase }).
		Should(gomega.Equal(mcmv1alpha1.MachineAvailable))

	c.add(ctx, terminating("trigger")) // a Machine object that goes away starts the collection
	gomega.Expect(c.client.MachineV1alpha1().Machines("ns").Delete(ctx, "trigger", metav1.DeleteOptions{})).To(gomega.Succeed())
	eventually(ctx, c.world.Machines).ShouldNot(gomega.ContainElement(gomega.HaveField("Name", "orphan")))
	gomega.Expect(c.world.Machines()).To(gomega.ContainElement(gomega.HaveField("Name", "known-machine")))
	gomega.Expect(c.world.Foreigners()).To(gomega.Equal(foreigners))
}

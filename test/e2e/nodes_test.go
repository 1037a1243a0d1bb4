// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path"
	"regexp"
	"strings"
	"testing"

	machinev1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

func TestMachinesJoinAsNodes(t *testing.T) {
	t.Parallel()
	inBothModes(t, joining)
}

func joining(t *testing.T, m mode) {
	const password = "planted-e2e-password"
	// The registry takes longer than a call waits for an image.
	options := m.options(stack.Options{Join: true, Image: true, VCHSimArgs: []string{"--password=" + password, "--registry-delay=12s"}})
	if m.sidecar {
		options.Cluster = ownCluster(t) // only one installation of a cluster can do this
	}
	s := install(t, m.namespace("joining"), options)
	setup(t, s)
	vcenter := s.VCenter()
	before, err := vcenter.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// The group ends when all of its tests have.
	t.Run("group", func(t *testing.T) {
		t.Run("a Machine whose image is on its way says so", func(t *testing.T) { t.Parallel(); waitingMachine(t, s) })
		t.Run("a Machine becomes a node and goes without a trace", func(t *testing.T) { t.Parallel(); singleMachine(t, s) })
		t.Run("a MachineSet scales up and down", func(t *testing.T) { t.Parallel(); scaledSet(t, s) })
		t.Run("the samples become nodes as they are", func(t *testing.T) { t.Parallel(); appliedSamples(t, s) })
		t.Run("a MachineDeployment scales and rolls", func(t *testing.T) { t.Parallel(); rolledDeployment(t, s) })
	})
	t.Run("afterwards the vCenter is as it was before", func(t *testing.T) {
		after, err := vcenter.Inventory(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := before.Equal(after.WithoutImageDisks()); err != nil {
			t.Error(err)
		}
	})
	t.Run("but for one disk of the image, which all machines had", func(t *testing.T) { oneImageDisk(t, s) })
	t.Run("no log and no event tells a secret", func(t *testing.T) { nothingIsTold(t, s, password, "exec k3s agent") })
	t.Run("the service account of the manifests had all the rights that it needed", func(t *testing.T) {
		for _, event := range refused(t, s.Cluster(), "system:serviceaccount:"+s.Namespace()+":") {
			t.Errorf("refused: %s", event)
		}
	})
}

// nothingIsTold expects none of the texts in the logs of MCM and the driver, and in
// what the API server shows of machines and events.
func nothingIsTold(t *testing.T, s *stack.Stack, secrets ...string) {
	t.Helper()
	told := map[string]string{}
	for _, p := range s.Processes()[1:] { // the first one is the vCenter
		content, err := os.ReadFile(p.LogFile())
		if err != nil || len(content) == 0 {
			t.Fatalf("read the log of %s: %d bytes, %v", p.Name(), len(content), err)
		}
		told["the log of "+p.Name()] = string(content)
	}
	events, err := s.Kube.CoreV1().Events(s.Namespace()).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(events.Items) == 0 {
		t.Fatalf("list events: %d, %v", len(events.Items), err)
	}
	told["the events"] = events.String()
	for where, text := range told {
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("%q is in %s", secret, where)
			}
		}
	}
}

// appliedSamples applies the samples without a change in them but the names of
// the namespace and of the VCH.
func appliedSamples(t *testing.T, s *stack.Stack) {
	samples, err := s.Samples()
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"Secret", "MachineClass", "Machine", "MachineSet", "MachineDeployment"} {
		if err := s.Apply(t.Context(), samples[kind]); err != nil {
			t.Fatal(err)
		}
	}
	ofClass := func(g gomega.Gomega) []string {
		list, err := s.Machines.Machines(s.Namespace()).List(t.Context(), metav1.ListOptions{})
		g.Expect(err).NotTo(gomega.HaveOccurred())
		names := []string{}
		for i := range list.Items {
			if list.Items[i].Spec.Class.Name == samples["MachineClass"].GetName() {
				names = append(names, list.Items[i].Name)
			}
		}
		return names
	}
	count := 1
	for _, kind := range []string{"MachineSet", "MachineDeployment"} {
		replicas, found, err := unstructured.NestedInt64(samples[kind].Object, "spec", "replicas")
		if err != nil || !found {
			t.Fatalf("no replicas in the sample %s: %v", kind, err)
		}
		count += int(replicas)
	}
	eventually(t, s, "all machines of the samples are ready nodes", func(g gomega.Gomega) {
		names := ofClass(g)
		g.Expect(names).To(gomega.HaveLen(count))
		g.Expect(readyNodes(t.Context(), g, s, "sample-")).To(gomega.ConsistOf(names))
	})
	for _, kind := range []string{"MachineDeployment", "MachineSet", "Machine"} {
		if err := s.Cluster().Delete(t.Context(), samples[kind]); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, s, "all machines of the samples are gone", func(g gomega.Gomega) {
		g.Expect(ofClass(g)).To(gomega.BeEmpty())
		g.Expect(readyNodes(t.Context(), g, s, "sample-")).To(gomega.BeEmpty())
	})
	if err := s.Cluster().Delete(t.Context(), samples["MachineClass"], samples["Secret"]); err != nil {
		t.Fatal(err)
	}
}

// oneImageDisk expects one disk below the image store, its record and its name.
func oneImageDisk(t *testing.T, s *stack.Stack) {
	vcenter := s.VCenter()
	inventory, err := vcenter.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]int{}
	for _, file := range inventory.ImageDisks() {
		if !strings.HasSuffix(file, "/") {
			kinds[path.Base(path.Dir(path.Dir(file)))+" "+path.Ext(file)]++
		}
	}
	if len(kinds) == 0 {
		t.Fatal("there is no image disk")
	}
	if kinds["disks .vmdk"] != 2 || kinds["mcm-images .json"] != 2 || len(kinds) != 2 {
		t.Errorf("want one disk of two files, one record and one name: %v in %v", kinds, inventory.ImageDisks())
	}
}

func waitingMachine(t *testing.T, s *stack.Stack) {
	const name = "waiting-machine"
	ctx, machines := t.Context(), s.Machines.Machines(s.Namespace())
	if _, err := machines.Create(ctx, machine(name), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "the machine says how far its image is", func(g gomega.Gomega) {
		found, err := machines.Get(ctx, name, metav1.GetOptions{})
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(found.Status.LastOperation.Description).To(gomega.MatchRegexp(`Unavailable.*image %s: \w+`, regexp.QuoteMeta(s.VCenter().Image)))
	})
	eventually(t, s, "the machine runs", func(g gomega.Gomega) {
		found, err := machines.Get(ctx, name, metav1.GetOptions{})
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(found.Status.CurrentStatus.Phase).To(gomega.Equal(machinev1.MachineRunning), found.Status.LastOperation.Description)
	})
	if err := machines.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "the machine is gone", func(g gomega.Gomega) {
		_, err := machines.Get(ctx, name, metav1.GetOptions{})
		g.Expect(apierrors.IsNotFound(err)).To(gomega.BeTrue(), "machine: %v", err)
	})
}

func singleMachine(t *testing.T, s *stack.Stack) {
	const name = "single-machine"
	ctx, machines := t.Context(), s.Machines.Machines(s.Namespace())
	if _, err := machines.Create(ctx, machine(name), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "the machine runs and its node is ready", func(g gomega.Gomega) {
		found, err := machines.Get(ctx, name, metav1.GetOptions{})
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(found.Status.CurrentStatus.Phase).To(gomega.Equal(machinev1.MachineRunning), found.Status.LastOperation.Description)
		g.Expect(readyNodes(ctx, g, s, name)).To(gomega.Equal([]string{name}))
	})
	found, err := machines.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(found.Spec.ProviderID, "vch://") {
		t.Errorf("the provider id is %q, want vch://...", found.Spec.ProviderID)
	}
	mintedTokenWasUsed(t, s, name)
	podRunsOn(t, s, name)

	if err := machines.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "machine, pod and node are gone", func(g gomega.Gomega) {
		_, err := machines.Get(ctx, name, metav1.GetOptions{})
		g.Expect(apierrors.IsNotFound(err)).To(gomega.BeTrue(), "machine: %v", err)
		_, err = s.Kube.CoreV1().Pods(metav1.NamespaceDefault).Get(ctx, name, metav1.GetOptions{})
		g.Expect(apierrors.IsNotFound(err)).To(gomega.BeTrue(), "pod: %v", err)
		_, err = s.Kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		g.Expect(apierrors.IsNotFound(err)).To(gomega.BeTrue(), "node: %v", err)
	})
}

// mintedTokenWasUsed proves that the node joined with a token that MCM made for
// it: the certificate that it has was requested by that token's user.
func mintedTokenWasUsed(t *testing.T, s *stack.Stack, node string) {
	t.Helper()
	requests, err := s.Kube.CertificatesV1().CertificateSigningRequests().List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	tokenUser := regexp.MustCompile(`^system:bootstrap:[a-z0-9]{6}$`)
	for i := range requests.Items {
		spec := &requests.Items[i].Spec
		block, _ := pem.Decode(spec.Request)
		if block == nil {
			continue
		}
		request, err := x509.ParseCertificateRequest(block.Bytes)
		if err != nil || request.Subject.CommonName != "system:node:"+node {
			continue
		}
		if !tokenUser.MatchString(spec.Username) {
			t.Errorf("%s was requested by %q, want the user of a bootstrap token", request.Subject.CommonName, spec.Username)
		}
		eventually(t, s, "MCM has taken the token back", func(g gomega.Gomega) {
			name := "bootstrap-token-" + strings.TrimPrefix(spec.Username, "system:bootstrap:")
			_, err := s.Kube.CoreV1().Secrets(metav1.NamespaceSystem).Get(t.Context(), name, metav1.GetOptions{})
			g.Expect(apierrors.IsNotFound(err)).To(gomega.BeTrue(), "secret %s: %v", name, err)
		})
		return
	}
	t.Errorf("nobody requested a certificate for the node %s", node)
}

// podRunsOn puts a pod on the node, so that deleting the machine has to drain it.
func podRunsOn(t *testing.T, s *stack.Stack, node string) {
	t.Helper()
	ctx, pods := t.Context(), s.Kube.CoreV1().Pods(metav1.NamespaceDefault)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: node},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "nothing", Image: "nothing"}}},
	}
	eventually(t, s, "a pod is accepted", func(g gomega.Gomega) { // as soon as there is the default service account
		_, err := pods.Create(ctx, pod, metav1.CreateOptions{})
		g.Expect(err).NotTo(gomega.HaveOccurred())
	})
	eventually(t, s, "the pod runs on the node", func(g gomega.Gomega) {
		found, err := pods.Get(ctx, node, metav1.GetOptions{})
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(found.Status.Phase).To(gomega.Equal(corev1.PodRunning))
	})
}

func scaledSet(t *testing.T, s *stack.Stack) {
	const name = "scaled-set"
	ctx, sets := t.Context(), s.Machines.MachineSets(s.Namespace())
	if _, err := sets.Create(ctx, machineSet(name, 2), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	readySet := func(replicas int32) func(gomega.Gomega) {
		return func(g gomega.Gomega) {
			set, err := sets.Get(ctx, name, metav1.GetOptions{})
			g.Expect(err).NotTo(gomega.HaveOccurred())
			g.Expect(set.Status.AvailableReplicas).To(gomega.Equal(replicas))
			nodesAreThoseOf(ctx, g, s, name, int(replicas))
		}
	}
	eventually(t, s, "2 machines are available", readySet(2))
	scaleSet(ctx, t, s, name, 3)
	eventually(t, s, "3 machines are available", readySet(3))
	scaleSet(ctx, t, s, name, 1)
	eventually(t, s, "1 machine is left", readySet(1))
	if err := sets.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "the set and its machines are gone", func(g gomega.Gomega) {
		_, err := sets.Get(ctx, name, metav1.GetOptions{})
		g.Expect(apierrors.IsNotFound(err)).To(gomega.BeTrue(), "set: %v", err)
		nodesAreThoseOf(ctx, g, s, name, 0)
	})
}

func rolledDeployment(t *testing.T, s *stack.Stack) {
	const name = "rolled-deployment"
	ctx, deployments := t.Context(), s.Machines.MachineDeployments(s.Namespace())
	if _, err := deployments.Create(ctx, machineDeployment(name, 1), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "1 machine is available", available(ctx, s, name, 1))
	changeDeployment(ctx, t, s, name, func(d *machinev1.MachineDeployment) { d.Spec.Replicas = 2 })
	eventually(t, s, "2 machines are available", available(ctx, s, name, 2))
	changeDeployment(ctx, t, s, name, func(d *machinev1.MachineDeployment) { d.Spec.Template.Spec.Class.Name = secondClass })
	eventually(t, s, "both machines are of the second class", rolledOut(ctx, s, name, 2))
	changeDeployment(ctx, t, s, name, func(d *machinev1.MachineDeployment) { d.Spec.Replicas = 1 })
	eventually(t, s, "1 machine is left", available(ctx, s, name, 1))
	if err := deployments.Delete(ctx, name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, "the deployment and its machines are gone", func(g gomega.Gomega) {
		_, err := deployments.Get(ctx, name, metav1.GetOptions{})
		g.Expect(apierrors.IsNotFound(err)).To(gomega.BeTrue(), "deployment: %v", err)
		g.Expect(machinesOf(ctx, g, s, name)).To(gomega.BeEmpty())
	})
}

// available expects a deployment with exactly so many machines, all available and,
// if machines join, all ready as nodes.
func available(ctx context.Context, s *stack.Stack, name string, replicas int) func(gomega.Gomega) {
	return func(g gomega.Gomega) {
		deployment, err := s.Machines.MachineDeployments(s.Namespace()).Get(ctx, name, metav1.GetOptions{})
		g.Expect(err).NotTo(gomega.HaveOccurred())
		g.Expect(deployment.Status.AvailableReplicas).To(gomega.Equal(int32(replicas)))
		if s.Joins() {
			nodesAreThoseOf(ctx, g, s, name, replicas)
			return
		}
		g.Expect(machinesOf(ctx, g, s, name)).To(gomega.HaveLen(replicas))
	}
}

// rolledOut expects, beyond that, that all machines are of the second class, in
// the vCenter too.
func rolledOut(ctx context.Context, s *stack.Stack, name string, replicas int) func(gomega.Gomega) {
	vcenter := s.VCenter()
	return func(g gomega.Gomega) {
		available(ctx, s, name, replicas)(g)
		inventory, err := vcenter.Inventory(ctx)
		g.Expect(err).NotTo(gomega.HaveOccurred())
		for _, m := range machinesOf(ctx, g, s, name) {
			g.Expect(m.Spec.Class.Name).To(gomega.Equal(secondClass))
			vm, found := inventory.VM(m.Spec.ProviderID)
			g.Expect(found).To(gomega.BeTrue(), "VM of %s", m.Name)
			g.Expect(vm.MemoryMB).To(gomega.Equal(int32(secondMemoryMB)))
		}
	}
}

// nodesAreThoseOf expects that a set or deployment has so many machines and that
// each of them is a ready node.
func nodesAreThoseOf(ctx context.Context, g gomega.Gomega, s *stack.Stack, name string, count int) {
	machines := machinesOf(ctx, g, s, name)
	g.Expect(machines).To(gomega.HaveLen(count))
	names := []string{}
	for _, m := range machines {
		g.Expect(m.Status.CurrentStatus.Phase).To(gomega.Equal(machinev1.MachineRunning), m.Name)
		names = append(names, m.Name)
	}
	g.Expect(readyNodes(ctx, g, s, name)).To(gomega.ConsistOf(names))
}

// readyNodes lists the ready nodes whose names begin with the given one.
func readyNodes(ctx context.Context, g gomega.Gomega, s *stack.Stack, prefix string) []string {
	nodes, err := s.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	g.Expect(err).NotTo(gomega.HaveOccurred())
	names := []string{}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		if !strings.HasPrefix(node.Name, prefix) {
			continue
		}
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
				names = append(names, node.Name)
			}
		}
	}
	return names
}

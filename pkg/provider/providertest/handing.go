// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"context"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"go.uber.org/mock/gomock"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
)

func (b *bench) handing() {
	ginkgo.It("creates, with the Machine's name as node name and without addresses", b.creates)
	ginkgo.It("initializes, and the empty provider id of an update that failed is no fault", b.initializes)
	ginkgo.It("answers the status", b.answersStatus)
	ginkgo.It("answers Uninitialized together with a response, which MCM reads", b.answersUninitialized)
	ginkgo.It("deletes, and an absent machine is no error", b.deletes)
	ginkgo.It("shuts down", b.shutsDown)
	ginkgo.It("lists exactly what the backend lists, and never nil", b.lists)
}

// wantedSpec is newRequest's ProviderSpec as the backend must get it.
func wantedSpec() gomock.Matcher {
	return gomock.Cond(func(s *v1alpha1.ProviderSpec) bool {
		return s.VCH.Name == "vch-1" && *s.StartTimeoutSeconds == 77 && *s.CPUs == 2 // a default
	})
}

func wantedSecret() gomock.Matcher { return gomock.Eq(plantedSecret()) }

// wantedAddresses have what JSON and headers spell in another way.
func wantedAddresses() []corev1.NodeAddress {
	return []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.7"}, {Type: corev1.NodeHostName, Address: `mäschine "1"`}}
}

func (b *bench) creates(ctx context.Context) {
	req := newRequest()
	b.backend.EXPECT().CreateMachine(gomock.Any(), machineName, wantedSpec(), wantedSecret()).Return(providerID, nil)
	response, err := b.driver.CreateMachine(ctx, &driver.CreateMachineRequest{Machine: req.machine, MachineClass: req.class, Secret: req.secret})
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	gomega.Expect(response).To(gomega.Equal(&driver.CreateMachineResponse{ProviderID: providerID, NodeName: machineName, LastKnownState: "Created " + providerID}))
}

func (b *bench) initializes(ctx context.Context) {
	req := newRequest()
	for _, id := range []string{"", providerID} {
		req.machine.Spec.ProviderID = id
		b.backend.EXPECT().InitializeMachine(gomock.Any(), machineName, id, wantedSpec(), wantedSecret()).Return(providerID, wantedAddresses(), nil)
		response, err := b.driver.InitializeMachine(ctx, &driver.InitializeMachineRequest{Machine: req.machine, MachineClass: req.class, Secret: req.secret})
		gomega.Expect(err).NotTo(gomega.HaveOccurred())
		gomega.Expect(response).To(gomega.Equal(&driver.InitializeMachineResponse{ProviderID: providerID, NodeName: machineName, Addresses: wantedAddresses()}))
	}
}

func (b *bench) answersStatus(ctx context.Context) {
	req := newRequest()
	for _, id := range []string{"", providerID} {
		req.machine.Spec.ProviderID = id
		b.backend.EXPECT().GetMachineStatus(gomock.Any(), machineName, id, wantedSpec(), wantedSecret()).Return(providerID, wantedAddresses(), nil)
		response, err := b.driver.GetMachineStatus(ctx, &driver.GetMachineStatusRequest{Machine: req.machine, MachineClass: req.class, Secret: req.secret})
		gomega.Expect(err).NotTo(gomega.HaveOccurred())
		gomega.Expect(response).To(gomega.Equal(&driver.GetMachineStatusResponse{ProviderID: providerID, NodeName: machineName, Addresses: wantedAddresses()}))
	}
}

func (b *bench) answersUninitialized(ctx context.Context) {
	req := newRequest()
	for _, addresses := range [][]corev1.NodeAddress{nil, wantedAddresses()} {
		b.backend.EXPECT().GetMachineStatus(gomock.Any(), machineName, "", wantedSpec(), wantedSecret()).
			Return(providerID, addresses, errdefs.New(errdefs.Uninitialized, "not started"))
		response, err := b.driver.GetMachineStatus(ctx, &driver.GetMachineStatusRequest{Machine: req.machine, MachineClass: req.class, Secret: req.secret})
		code, _ := parsed(err)
		gomega.Expect(code).To(gomega.Equal(codes.Uninitialized))
		gomega.Expect(response).To(gomega.Equal(&driver.GetMachineStatusResponse{ProviderID: providerID, NodeName: machineName, Addresses: addresses}))
	}
}

func (b *bench) deletes(ctx context.Context) {
	req := newRequest()
	for id, state := range map[string]string{providerID: "Deleted " + providerID, "": "Absent"} {
		req.machine.Spec.ProviderID = id
		b.backend.EXPECT().DeleteMachine(gomock.Any(), machineName, id, wantedSpec(), wantedSecret()).Return(id, nil)
		response, err := b.driver.DeleteMachine(ctx, &driver.DeleteMachineRequest{Machine: req.machine, MachineClass: req.class, Secret: req.secret})
		gomega.Expect(err).NotTo(gomega.HaveOccurred())
		gomega.Expect(response).To(gomega.Equal(&driver.DeleteMachineResponse{LastKnownState: state}))
	}
}

func (b *bench) shutsDown(ctx context.Context) {
	req := newRequest()
	for _, id := range []string{"", providerID} {
		req.machine.Spec.ProviderID = id
		b.backend.EXPECT().ShutDownMachine(gomock.Any(), machineName, id, wantedSpec(), wantedSecret()).Return(providerID, nil)
		response, err := b.driver.ShutDownMachine(ctx, &provider.ShutDownMachineRequest{Machine: req.machine, MachineClass: req.class, Secret: req.secret})
		gomega.Expect(err).NotTo(gomega.HaveOccurred())
		gomega.Expect(response).To(gomega.Equal(&provider.ShutDownMachineResponse{LastKnownState: "Stopped " + providerID}))
	}
}

func (b *bench) lists(ctx context.Context) {
	req := newRequest()
	for _, machines := range []map[string]string{{providerID: machineName, "vch://b": "b"}, {}, nil} {
		b.backend.EXPECT().ListMachines(gomock.Any(), wantedSpec(), wantedSecret()).Return(machines, nil)
		response, err := b.driver.ListMachines(ctx, &driver.ListMachinesRequest{MachineClass: req.class, Secret: req.secret})
		gomega.Expect(err).NotTo(gomega.HaveOccurred())
		gomega.Expect(response.MachineList).NotTo(gomega.BeNil())
		gomega.Expect(response.MachineList).To(gomega.HaveLen(len(machines)))
		for id, name := range machines {
			gomega.Expect(response.MachineList).To(gomega.HaveKeyWithValue(id, name))
		}
	}
}

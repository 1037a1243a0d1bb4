// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"context"
	"regexp"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
)

var _ = Describe("GetVolumeIDs", func() {
	inTree := func(path string) *corev1.PersistentVolumeSpec {
		return &corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{
			VsphereVolume: &corev1.VsphereVirtualDiskVolumeSource{VolumePath: path},
		}}
	}
	csi := func(driverName, handle string) *corev1.PersistentVolumeSpec {
		return &corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{
			CSI: &corev1.CSIPersistentVolumeSource{Driver: driverName, VolumeHandle: handle},
		}}
	}
	ids := func(specs ...*corev1.PersistentVolumeSpec) []string {
		GinkgoHelper()
		response, err := provider.NewMachinePlugin(nil, provider.Options{}).
			GetVolumeIDs(context.Background(), &driver.GetVolumeIDsRequest{PVSpecs: specs})
		Expect(err).NotTo(HaveOccurred())
		return response.VolumeIDs
	}
	// attached is drain/drain.go:915 of MCM.
	attached := func(id, name string) bool {
		found, _ := regexp.MatchString(id, name)
		return found
	}

	DescribeTable("gives an id that matches the volume's own attachment and no other",
		func(spec *corev1.PersistentVolumeSpec, own, others []string) {
			got := ids(spec)
			Expect(got).To(HaveLen(1))
			Expect(regexp.Compile(got[0])).Error().NotTo(HaveOccurred())
			for _, name := range own {
				Expect(attached(got[0], name)).To(BeTrue(), "%s must match %s", got[0], name)
			}
			for _, name := range others {
				Expect(attached(got[0], name)).To(BeFalse(), "%s must not match %s", got[0], name)
			}
		},
		Entry("in-tree, also when it was migrated to CSI", inTree("[ds1] kubevols/pv-1.vmdk"),
			[]string{"kubernetes.io/vsphere-volume/[ds1] kubevols/pv-1.vmdk", "kubernetes.io/csi/csi.vsphere.vmware.com^[ds1] kubevols/pv-1.vmdk"},
			[]string{
				"kubernetes.io/vsphere-volume/[ds2] kubevols/pv-1.vmdk", "kubernetes.io/vsphere-volume/[ds1] kubevols/pv-1xvmdk",
				"kubernetes.io/vsphere-volume/[ds1] kubevols/pv-1.vmdk.vmdk", "kubernetes.io/vsphere-volume/d kubevols/pv-1.vmdk",
				"kubernetes.io/csi/other^[ds1] kubevols/pv-1.vmdk", "kubernetes.io/vsphere-volume/[ds0] [ds1] kubevols/pv-1.vmdk",
			}),
		Entry("vSphere CSI, whose handle is a prefix of another", csi("csi.vsphere.vmware.com", "5c6f1a2b-1"),
			[]string{"kubernetes.io/csi/csi.vsphere.vmware.com^5c6f1a2b-1"},
			[]string{"kubernetes.io/csi/csi.vsphere.vmware.com^5c6f1a2b-12", "kubernetes.io/csi/csi.vsphere.vmware.com^15c6f1a2b-1", "kubernetes.io/csi/other^5c6f1a2b-1"}),
		Entry("vSphere CSI, a file volume", csi("csi.vsphere.vmware.com", "file:a(b.c"),
			[]string{"kubernetes.io/csi/csi.vsphere.vmware.com^file:a(b.c"}, []string{"kubernetes.io/csi/csi.vsphere.vmware.com^file:a(bxc"}),
		Entry("our own", csi(provider.VolumeDriver, "store/vol.1"),
			[]string{"kubernetes.io/csi/" + provider.VolumeDriver + "^store/vol.1"}, []string{"kubernetes.io/csi/" + provider.VolumeDriver + "^store/vol+1"}),
	)

	It("leaves out what is foreign or malformed, without an error", func() {
		Expect(ids(nil, &corev1.PersistentVolumeSpec{}, inTree(""), csi("csi.vsphere.vmware.com", ""), csi(provider.VolumeDriver, ""),
			csi("ebs.csi.aws.com", "vol-1"), csi("", "x"),
			&corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s", Path: "/"}}},
		)).To(BeEmpty())
	})

	It("keeps the order of those that it knows", func() {
		got := ids(csi("foreign", "a"), inTree("[a] a.vmdk"), nil, csi("csi.vsphere.vmware.com", "b"))
		Expect(got).To(HaveLen(2))
		Expect(got[0]).To(ContainSubstring(regexp.QuoteMeta("[a] a.vmdk")))
		Expect(got[1]).To(ContainSubstring("b"))
	})

	It("takes a request that is nil", func(ctx context.Context) {
		response, err := provider.NewMachinePlugin(nil, provider.Options{}).GetVolumeIDs(ctx, nil)
		Expect(err).NotTo(HaveOccurred())
		Expect(response.VolumeIDs).To(BeEmpty())
	})
})

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"context"
	"regexp"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/metrics"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
)

func inTree(path string) *corev1.PersistentVolumeSpec {
	return &corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{
		VsphereVolume: &corev1.VsphereVirtualDiskVolumeSource{VolumePath: path},
	}}
}

func csi(driverName, handle string) *corev1.PersistentVolumeSpec {
	return &corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{
		CSI: &corev1.CSIPersistentVolumeSource{Driver: driverName, VolumeHandle: handle},
	}}
}

func (b *bench) ids(ctx context.Context, specs ...*corev1.PersistentVolumeSpec) []string {
	ginkgo.GinkgoHelper()
	response, err := b.driver.GetVolumeIDs(ctx, &driver.GetVolumeIDsRequest{PVSpecs: specs})
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	return response.VolumeIDs
}

// attached is drain/drain.go:915 of MCM.
func attached(id, name string) bool {
	found, err := regexp.MatchString(id, name)
	return found && err == nil
}

func (b *bench) volumes() {
	ginkgo.DescribeTable("gives an id that matches the volume's own attachment and no other", b.matchesItsOwn,
		ginkgo.Entry("in-tree, also when it was migrated to CSI", inTree("[ds1] kubevols/pv-1.vmdk"),
			[]string{"kubernetes.io/vsphere-volume/[ds1] kubevols/pv-1.vmdk", "kubernetes.io/csi/csi.vsphere.vmware.com^[ds1] kubevols/pv-1.vmdk"},
			[]string{
				"kubernetes.io/vsphere-volume/[ds2] kubevols/pv-1.vmdk", "kubernetes.io/vsphere-volume/[ds1] kubevols/pv-1xvmdk",
				"kubernetes.io/vsphere-volume/[ds1] kubevols/pv-1.vmdk.vmdk", "kubernetes.io/vsphere-volume/d kubevols/pv-1.vmdk",
				"kubernetes.io/csi/other^[ds1] kubevols/pv-1.vmdk", "kubernetes.io/vsphere-volume/[ds0] [ds1] kubevols/pv-1.vmdk",
			}),
		ginkgo.Entry("vSphere CSI, whose handle is a prefix of another", csi("csi.vsphere.vmware.com", "5c6f1a2b-1"),
			[]string{"kubernetes.io/csi/csi.vsphere.vmware.com^5c6f1a2b-1"},
			[]string{"kubernetes.io/csi/csi.vsphere.vmware.com^5c6f1a2b-12", "kubernetes.io/csi/csi.vsphere.vmware.com^15c6f1a2b-1", "kubernetes.io/csi/other^5c6f1a2b-1"}),
		ginkgo.Entry("vSphere CSI, a file volume", csi("csi.vsphere.vmware.com", "file:a(b.c"),
			[]string{"kubernetes.io/csi/csi.vsphere.vmware.com^file:a(b.c"}, []string{"kubernetes.io/csi/csi.vsphere.vmware.com^file:a(bxc"}),
		ginkgo.Entry("our own", csi(provider.VolumeDriver, "store/vol.1"),
			[]string{"kubernetes.io/csi/" + provider.VolumeDriver + "^store/vol.1"}, []string{"kubernetes.io/csi/" + provider.VolumeDriver + "^store/vol+1"}),
		ginkgo.Entry("our own, whose name is part of others", csi(provider.VolumeDriver, "logs-web.1_a"),
			[]string{"kubernetes.io/csi/" + provider.VolumeDriver + "^logs-web.1_a"},
			[]string{
				"kubernetes.io/csi/" + provider.VolumeDriver + "^logs-webx1_a", "kubernetes.io/csi/" + provider.VolumeDriver + "^logs-web.1_a.b",
				"kubernetes.io/csi/" + provider.VolumeDriver + "^my-logs-web.1_a", "kubernetes.io/csi/csi.vsphere.vmware.com^logs-web.1_a",
				"kubernetes.io/csi/vchxproviderxmachinexsapcloudxio^logs-web.1_a",
			}),
	)
	ginkgo.It("leaves out what is foreign or malformed, without an error", b.leavesOutVolumes)
	ginkgo.It("keeps the order of those that it knows", b.keepsOrder)
	ginkgo.It("takes a request that is nil", b.takesNil)
	ginkgo.It("is counted like the other calls", b.countsVolumes)
}

func (b *bench) matchesItsOwn(ctx context.Context, spec *corev1.PersistentVolumeSpec, own, others []string) {
	got := b.ids(ctx, spec)
	gomega.Expect(got).To(gomega.HaveLen(1))
	gomega.Expect(regexp.Compile(got[0])).Error().NotTo(gomega.HaveOccurred())
	for _, name := range own {
		gomega.Expect(attached(got[0], name)).To(gomega.BeTrue(), "%s must match %s", got[0], name)
	}
	for _, name := range others {
		gomega.Expect(attached(got[0], name)).To(gomega.BeFalse(), "%s must not match %s", got[0], name)
	}
}

func (b *bench) leavesOutVolumes(ctx context.Context) {
	nfs := &corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{NFS: &corev1.NFSVolumeSource{Server: "s", Path: "/"}}}
	gomega.Expect(b.ids(ctx, nil, &corev1.PersistentVolumeSpec{}, inTree(""), csi("csi.vsphere.vmware.com", ""), csi(provider.VolumeDriver, ""),
		csi("ebs.csi.aws.com", "vol-1"), csi("", "x"), nfs)).To(gomega.And(gomega.BeEmpty(), gomega.Not(gomega.BeNil())))
}

func (b *bench) keepsOrder(ctx context.Context) {
	got := b.ids(ctx, csi("foreign", "a"), inTree("[a] a.vmdk"), nil, csi("csi.vsphere.vmware.com", "b"))
	gomega.Expect(got).To(gomega.HaveLen(2))
	gomega.Expect(got[0]).To(gomega.ContainSubstring(regexp.QuoteMeta("[a] a.vmdk")))
	gomega.Expect(got[1]).To(gomega.ContainSubstring("b"))
}

func (b *bench) takesNil(ctx context.Context) {
	response, err := b.driver.GetVolumeIDs(ctx, nil)
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	gomega.Expect(response.VolumeIDs).To(gomega.And(gomega.BeEmpty(), gomega.Not(gomega.BeNil())))
}

func (b *bench) countsVolumes(ctx context.Context) {
	before := samples(metrics.DriverAPIRequestDuration, "get_volume_ids")
	_, err := b.driver.GetVolumeIDs(ctx, &driver.GetVolumeIDsRequest{})
	gomega.Expect(err).NotTo(gomega.HaveOccurred())
	gomega.Expect(samples(metrics.DriverAPIRequestDuration, "get_volume_ids")).To(gomega.Equal(before + 1))
}

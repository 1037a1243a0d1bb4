// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"context"
	"errors"
	"time"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/metrics"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
)

// samples is how many durations a histogram of ours has seen under a label.
func samples(h *prometheus.HistogramVec, label string) uint64 {
	GinkgoHelper()
	metric, ok := h.WithLabelValues("vch", label).(prometheus.Metric)
	Expect(ok).To(BeTrue())
	var m dto.Metric
	Expect(metric.Write(&m)).To(Succeed())
	return m.GetHistogram().GetSampleCount()
}

var _ = Describe("Metrics", func() {
	It("count every request to vCenter, those that failed, and the duration of the others", func(ctx context.Context) {
		const service = "TestMethod_Task"
		total := metrics.APIRequestCount.WithLabelValues("vch", service)
		failed := metrics.APIFailedRequestCount.WithLabelValues("vch", service)

		provider.ObserveRequest(ctx, service, time.Second, nil)
		provider.ObserveRequest(ctx, service, time.Second, errors.New("no"))
		provider.ObserveRequest(ctx, service, time.Second, nil)

		Expect(testutil.ToFloat64(total)).To(Equal(3.0))
		Expect(testutil.ToFloat64(failed)).To(Equal(1.0))
		Expect(samples(metrics.APIRequestDuration, service)).To(BeEquivalentTo(2))
	})

	It("count GetVolumeIDs like the other calls", func(ctx context.Context) {
		before := samples(metrics.DriverAPIRequestDuration, "get_volume_ids")
		_, err := provider.NewMachinePlugin(nil, provider.Options{}).GetVolumeIDs(ctx, &driver.GetVolumeIDsRequest{})
		Expect(err).NotTo(HaveOccurred())
		Expect(samples(metrics.DriverAPIRequestDuration, "get_volume_ids")).To(Equal(before + 1))
	})
})

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"context"
	"errors"
	"time"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/metrics"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
)

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
		durations, ok := metrics.APIRequestDuration.WithLabelValues("vch", service).(prometheus.Metric)
		Expect(ok).To(BeTrue())
		var seen dto.Metric
		Expect(durations.Write(&seen)).To(Succeed())
		Expect(seen.GetHistogram().GetSampleCount()).To(BeEquivalentTo(2))
	})

	It("count images that were fetched, and those that could not be", func() {
		const service = "ImagePull"
		total := metrics.APIRequestCount.WithLabelValues("vch", service)
		failed := metrics.APIFailedRequestCount.WithLabelValues("vch", service)
		before, failedBefore := testutil.ToFloat64(total), testutil.ToFloat64(failed)

		provider.ObserveImagePull(time.Minute, nil)
		provider.ObserveImagePull(time.Minute, errors.New("no"))

		Expect(testutil.ToFloat64(total) - before).To(Equal(2.0))
		Expect(testutil.ToFloat64(failed) - failedBefore).To(Equal(1.0))
	})
})

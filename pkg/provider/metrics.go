// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"strconv"
	"time"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/metrics"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
)

// observeCall counts one call of the driver: its duration if it succeeded, else
// its code, as a number.
func observeCall(op operation, took time.Duration, failure *status.Status) {
	if failure == nil {
		metrics.DriverAPIRequestDuration.WithLabelValues(v1alpha1.Provider, string(op)).Observe(took.Seconds())
		return
	}
	code := strconv.FormatUint(uint64(failure.Code()), 10)
	metrics.DriverFailedAPIRequests.WithLabelValues(v1alpha1.Provider, string(op), code).Inc()
}

// ObserveRequest counts one request to vCenter in MCM's metrics, with the vSphere
// method as service: every request, those that failed, and the durations of the
// others. It is an observer for whoever sends requests; it may be called at the
// same time from many goroutines.
func ObserveRequest(_ context.Context, method string, took time.Duration, err error) {
	metrics.APIRequestCount.WithLabelValues(v1alpha1.Provider, method).Inc()
	if err != nil {
		metrics.APIFailedRequestCount.WithLabelValues(v1alpha1.Provider, method).Inc()
		return
	}
	metrics.APIRequestDuration.WithLabelValues(v1alpha1.Provider, method).Observe(took.Seconds())
}

// imagePull is the service by which MCM's metrics know the making of root disks.
const imagePull = "ImagePull"

// ObserveImagePull counts one image that was fetched, or failed to be, in MCM's
// metrics for requests, with ImagePull as service. It may be called at the same
// time from many goroutines.
func ObserveImagePull(took time.Duration, err error) {
	metrics.APIRequestCount.WithLabelValues(v1alpha1.Provider, imagePull).Inc()
	if err != nil {
		metrics.APIFailedRequestCount.WithLabelValues(v1alpha1.Provider, imagePull).Inc()
		return
	}
	metrics.APIRequestDuration.WithLabelValues(v1alpha1.Provider, imagePull).Observe(took.Seconds())
}

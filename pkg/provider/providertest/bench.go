// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"context"
	"fmt"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	"github.com/go-logr/logr"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/mock/gomock"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/mock"
)

// bench is a driver on a mock, new for each spec.
type bench struct {
	connect Connect
	backend *mock.MockPluginSPI
	driver  provider.Driver
	// reference is a driver in this process on the same mock.
	reference provider.Driver
}

// reset makes all anew.
func (b *bench) reset(options provider.Options) { b.resetLogging(options, logr.Discard()) }

func (b *bench) resetLogging(options provider.Options, logger logr.Logger) {
	ginkgo.GinkgoHelper()
	b.backend = mock.NewMockPluginSPI(gomock.NewController(ginkgo.GinkgoT()))
	b.driver = b.connect(b.backend, options, logger)
	b.reference = InProcess(b.backend, options, logr.Discard())
}

// answer makes every method of the backend answer by what do does and its error.
func (b *bench) answer(do func(context.Context) error) {
	forNew := func(ctx context.Context, _ string, _ *v1alpha1.ProviderSpec, _ *corev1.Secret) (string, error) {
		return providerID, do(ctx)
	}
	forOne := func(ctx context.Context, _, _ string, _ *v1alpha1.ProviderSpec, _ *corev1.Secret) (string, error) {
		return providerID, do(ctx)
	}
	withAddresses := func(ctx context.Context, _, _ string, _ *v1alpha1.ProviderSpec, _ *corev1.Secret) (string, []corev1.NodeAddress, error) {
		return providerID, nil, do(ctx)
	}
	list := func(ctx context.Context, _ *v1alpha1.ProviderSpec, _ *corev1.Secret) (map[string]string, error) {
		return nil, do(ctx)
	}
	some := gomock.Any()
	b.backend.EXPECT().CreateMachine(some, some, some, some).DoAndReturn(forNew).AnyTimes()
	b.backend.EXPECT().InitializeMachine(some, some, some, some, some).DoAndReturn(withAddresses).AnyTimes()
	b.backend.EXPECT().GetMachineStatus(some, some, some, some, some).DoAndReturn(withAddresses).AnyTimes()
	b.backend.EXPECT().DeleteMachine(some, some, some, some, some).DoAndReturn(forOne).AnyTimes()
	b.backend.EXPECT().ShutDownMachine(some, some, some, some, some).DoAndReturn(forOne).AnyTimes()
	b.backend.EXPECT().ListMachines(some, some, some).DoAndReturn(list).AnyTimes()
}

// reply is what a caller sees of a call that has failed.
type reply struct {
	responded bool
	err       string
}

func replyOf(responded bool, err error) reply { return reply{responded, fmt.Sprint(err)} }

// try calls a method and expects what a driver in this process replies, word for word.
func (b *bench) try(ctx context.Context, m method, r request) (responded bool, err error) {
	ginkgo.GinkgoHelper()
	want := replyOf(m.call(klog.NewContext(ctx, logr.Discard()), b.reference, r))
	responded, err = m.call(ctx, b.driver, r)
	gomega.Expect(replyOf(responded, err)).To(gomega.Equal(want), m.name)
	return responded, err
}

// parsed is err as MCM understands it.
func parsed(err error) (codes.Code, string) {
	ginkgo.GinkgoHelper()
	gomega.Expect(err).To(gomega.HaveOccurred())
	s, ok := status.FromError(err)
	gomega.Expect(ok).To(gomega.BeTrue(), "MCM cannot parse %q", err)
	return s.Code(), s.Message()
}

// mcmCode is the code that MCM has for a kind: the one of the same name, but for Unknown.
func mcmCode(kind errdefs.Kind) codes.Code {
	if kind == errdefs.Unknown {
		return codes.Internal
	}
	return codes.StringToCode(string(kind))
}

// samples is how many durations a histogram of ours has seen under a label.
func samples(h *prometheus.HistogramVec, label string) uint64 {
	ginkgo.GinkgoHelper()
	metric, ok := h.WithLabelValues(v1alpha1.Provider, label).(prometheus.Metric)
	gomega.Expect(ok).To(gomega.BeTrue())
	var m dto.Metric
	gomega.Expect(metric.Write(&m)).To(gomega.Succeed())
	return m.GetHistogram().GetSampleCount()
}

// logs are lines that any goroutine writes.
type logs struct{ *gbytes.Buffer }

// String is all that was written so far.
func (l logs) String() string { return string(l.Contents()) }

// logger writes all that there is to write into l.
func (l logs) logger() logr.Logger {
	const everything = 10
	return textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(l.Buffer), textlogger.Verbosity(everything)))
}

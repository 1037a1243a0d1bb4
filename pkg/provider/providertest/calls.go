// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"context"
	"errors"
	"fmt"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/metrics"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
)

// Calls registers the specs of a driver on a mock.
func Calls(way string, connect Connect) {
	ginkgo.Describe("A driver "+way, func() {
		b := &bench{connect: connect}
		ginkgo.BeforeEach(func() { b.reset(provider.Options{}) })

		ginkgo.Describe("hands down what MCM asks and hands up what the backend answers", b.handing)
		ginkgo.Describe("turns every kind of error of every method into MCM's code", b.kinds)
		ginkgo.Describe("refuses before the backend hears of it", b.refusals)
		ginkgo.Describe("keeps its promises", b.promises)
		ginkgo.Describe("GetVolumeIDs", b.volumes)
	})
}

func (b *bench) kinds() {
	for _, m := range methods() {
		for _, kind := range errdefs.Kinds() {
			ginkgo.It(fmt.Sprintf("%s with %s", m.name, kind), func(ctx context.Context) { b.failsWith(ctx, m, kind) })
		}
		ginkgo.It(m.name+" with an error that nobody classified, and a context's", func(ctx context.Context) { b.failsOddly(ctx, m) })
	}
}

func (b *bench) failsWith(ctx context.Context, m method, kind errdefs.Kind) {
	const text = "destroy VM [ds 1] x/x.vmx: [odd"
	b.answer(func(context.Context) error { return errdefs.New(kind, "%s", text) })
	want, response := mcmCode(kind), false
	switch {
	case m.name == "DeleteMachine" && kind == errdefs.NotFound:
		want = codes.FailedPrecondition // NotFound would tell MCM that the VM is gone
	case m.name == "GetMachineStatus" && kind == errdefs.Uninitialized:
		response = true
	}
	reference := replyOf(m.call(ctx, b.reference, newRequest()))
	failed := metrics.DriverFailedAPIRequests.WithLabelValues("vch", m.operation, fmt.Sprint(uint32(want)))
	before := testutil.ToFloat64(failed)

	responded, err := m.call(ctx, b.driver, newRequest())
	code, message := parsed(err)
	gomega.Expect(code).To(gomega.Equal(want))
	gomega.Expect(message).To(gomega.HaveSuffix("destroy VM [ds 1] x/x.vmx: (odd"))
	gomega.Expect(responded).To(gomega.Equal(response))
	gomega.Expect(testutil.ToFloat64(failed)).To(gomega.Equal(before + 1))
	_, outermost := err.(*status.Status) //nolint:errorlint // the question is what is outermost
	gomega.Expect(outermost).To(gomega.BeTrue())
	gomega.Expect(replyOf(responded, err)).To(gomega.Equal(reference))
}

func (b *bench) failsOddly(ctx context.Context, m method) {
	for err, want := range map[error]codes.Code{
		errors.New("odd"): codes.Internal,
		fmt.Errorf("wait: %w", context.DeadlineExceeded):                         codes.DeadlineExceeded,
		fmt.Errorf("wait: %w", context.Canceled):                                 codes.Canceled,
		fmt.Errorf("outer [x: %w", errdefs.New(errdefs.ResourceExhausted, "]y")): codes.ResourceExhausted,
		errors.Join(errdefs.New(errdefs.Aborted, "a"), errors.New("b")):          codes.Aborted,
	} {
		b.reset(provider.Options{})
		b.answer(func(context.Context) error { return err })
		_, got := b.try(ctx, m, newRequest())
		code, _ := parsed(got)
		gomega.Expect(code).To(gomega.Equal(want), "%v", err)
	}
}

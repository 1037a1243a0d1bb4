// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"context"
	"time"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/metrics"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"
	"github.com/onsi/gomega/gbytes"
	"go.uber.org/mock/gomock"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
)

func (b *bench) promises() {
	ginkgo.It("reads requests and never changes them", b.onlyReads)
	ginkgo.It("gives the backend a ProviderSpec of its own at every call", b.givesOwnSpecs)
	ginkgo.It("sets a deadline that leaves the time that the ProviderSpec grants", b.setsDeadlines)
	ginkgo.It("ends a call that hangs with DeadlineExceeded", b.endsWhatHangs, ginkgo.SpecTimeout(patience))
	ginkgo.It("ends a call that its caller gives up, and the backend's part of it", b.endsWhatIsGivenUp, ginkgo.SpecTimeout(patience))
	ginkgo.It("turns a panic of the backend into Internal and logs it without secrets", b.survivesPanics)
	ginkgo.It("lets no secret of the request out, however the backend spells it", b.keepsSecrets)
	ginkgo.It("counts what succeeds by its duration", b.countsDurations)
}

func (b *bench) onlyReads(ctx context.Context) {
	for _, answer := range []error{nil, errdefs.New(errdefs.Internal, "no")} {
		b.reset(provider.Options{})
		b.answer(func(context.Context) error { return answer })
		for _, m := range methods() {
			req := newRequest()
			before := request{req.machine.DeepCopy(), req.class.DeepCopy(), req.secret.DeepCopy()}
			_, _ = m.call(ctx, b.driver, req)
			gomega.Expect(req).To(gomega.Equal(before), m.name)
		}
	}
}

func (b *bench) givesOwnSpecs(ctx context.Context) {
	var seen []*v1alpha1.ProviderSpec
	b.backend.EXPECT().ListMachines(gomock.Any(), gomock.Any(), gomock.Any()).
		DoAndReturn(func(_ context.Context, spec *v1alpha1.ProviderSpec, _ *corev1.Secret) (map[string]string, error) {
			seen = append(seen, spec)
			return nil, nil
		}).Times(2)
	req := newRequest()
	for range 2 {
		_, err := b.driver.ListMachines(ctx, &driver.ListMachinesRequest{MachineClass: req.class, Secret: req.secret})
		gomega.Expect(err).NotTo(gomega.HaveOccurred())
	}
	gomega.Expect(seen[0]).NotTo(gomega.BeIdenticalTo(seen[1]))
}

func (b *bench) setsDeadlines(ctx context.Context) {
	limits := map[string]time.Duration{"InitializeMachine": 77 * time.Second, "DeleteMachine": 33 * time.Second, "ShutDownMachine": 33 * time.Second}
	for _, m := range methods() {
		var left time.Duration
		var limited bool
		b.reset(provider.Options{CallTimeout: time.Hour})
		b.answer(func(ctx context.Context) error {
			var deadline time.Time
			deadline, limited = ctx.Deadline()
			left = time.Until(deadline)
			return nil
		})
		_, err := m.call(ctx, b.driver, newRequest())
		gomega.Expect(err).NotTo(gomega.HaveOccurred())
		gomega.Expect(limited).To(gomega.BeTrue(), m.name)
		gomega.Expect(left).To(gomega.BeNumerically("~", time.Hour+limits[m.name], 10*time.Second), m.name)
	}
}

func (b *bench) endsWhatHangs(ctx context.Context) {
	b.reset(provider.Options{CallTimeout: 10 * time.Millisecond})
	b.answer(func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	for _, m := range methods() {
		if m.name == "InitializeMachine" {
			continue // its spec grants ten seconds at least
		}
		req := newRequest()
		req.respell(`: 77`, `: 10`, `: 33`, `: 0`)
		_, err := b.try(ctx, m, req)
		code, _ := parsed(err)
		gomega.Expect(code).To(gomega.Equal(codes.DeadlineExceeded), m.name)
	}
}

// endsWhatIsGivenUp compares no texts: who gives up need not wait to be told so.
func (b *bench) endsWhatIsGivenUp(ctx context.Context) {
	for _, m := range methods() {
		for want, give := range map[codes.Code]func(context.Context, <-chan struct{}) (context.Context, context.CancelFunc){
			codes.Canceled:         cancelledOn,
			codes.DeadlineExceeded: cutOff,
		} {
			entered, ended := make(chan struct{}), make(chan struct{})
			b.reset(provider.Options{}) // the machine may be busy a little longer
			b.answer(func(ctx context.Context) error {
				close(entered)
				<-ctx.Done()
				close(ended)
				return ctx.Err()
			})
			limited, cancel := give(ctx, entered)
			responded, err := m.call(limited, b.driver, newRequest())
			cancel()
			code, _ := parsed(err)
			gomega.Expect(code).To(gomega.Equal(want), m.name)
			gomega.Expect(responded).To(gomega.BeFalse(), m.name)
			select {
			case <-entered:
				gomega.Eventually(ended).WithContext(ctx).WithTimeout(patience).Should(gomega.BeClosed(), m.name)
			default: // a deadline may pass on the way there
			}
		}
	}
}

// cancelledOn is a context that ends when a call has reached the backend.
func cancelledOn(ctx context.Context, entered <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		select {
		case <-entered:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// cutOff is a context with a deadline that mostly lets a call reach the backend.
func cutOff(ctx context.Context, _ <-chan struct{}) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, 200*time.Millisecond)
}

func (b *bench) survivesPanics(ctx context.Context) {
	log := logs{gbytes.NewBuffer()}
	ctx = klog.NewContext(ctx, log.logger())
	b.resetLogging(provider.Options{}, log.logger())
	b.answer(func(context.Context) error { panic("boom with " + plantedPassword + " and " + plantedToken) })
	for _, m := range methods() {
		responded, err := b.try(ctx, m, newRequest())
		code, message := parsed(err)
		gomega.Expect(code).To(gomega.Equal(codes.Internal), m.name)
		gomega.Expect(message).To(gomega.ContainSubstring("boom"))
		gomega.Expect(responded).To(gomega.BeFalse())
		gomega.Expect(message + log.String()).NotTo(gomega.Or(gomega.ContainSubstring(plantedPassword), gomega.ContainSubstring(plantedToken)))
	}
	gomega.Expect(log.String()).To(gomega.And(gomega.ContainSubstring("boom"), gomega.ContainSubstring("promises.go")), "want value and stack of the panic")
}

func (b *bench) keepsSecrets(ctx context.Context) {
	log := logs{gbytes.NewBuffer()}
	ctx = klog.NewContext(ctx, log.logger())
	b.resetLogging(provider.Options{}, log.logger())
	const user, key = "planted-user", "planted/key with blanks"
	b.answer(func(context.Context) error {
		return errdefs.New(errdefs.Unavailable, "post https://%s:%s@vc.example.org/sdk: token %s, key %q, %s, password %s",
			user, "p4ss", plantedToken, key, "planted%2Fkey+with+blanks", plantedPassword)
	})
	for _, m := range methods() {
		req := newRequest()
		req.secret.Data["key"] = []byte(key)
		_, err := b.try(ctx, m, req)
		_, message := parsed(err)
		gomega.Expect(message).To(gomega.HavePrefix("post https://vc.example.org/sdk: token <redacted>"), m.name)
		for _, secret := range []string{user, "p4ss", plantedToken, plantedPassword, "planted"} {
			gomega.Expect(err.Error()+log.String()).NotTo(gomega.ContainSubstring(secret), m.name)
		}
	}
}

func (b *bench) countsDurations(ctx context.Context) {
	b.answer(func(context.Context) error { return nil })
	for _, m := range methods() {
		before := samples(metrics.DriverAPIRequestDuration, m.operation)
		_, err := m.call(ctx, b.driver, newRequest())
		gomega.Expect(err).NotTo(gomega.HaveOccurred())
		gomega.Expect(samples(metrics.DriverAPIRequestDuration, m.operation)).To(gomega.Equal(before+1), m.name)
	}
}

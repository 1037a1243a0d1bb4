// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/metrics"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/mock/gomock"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/mock"
)

const providerID = "vch://4210c0de-0000-4000-8000-00000000cafe/0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// answers makes every method of m answer by what do does and its error.
func answers(m *mock.MockPluginSPI, do func(context.Context) error) {
	wait := func(ctx context.Context, _ string, _ *v1alpha1.ProviderSpec, _ *corev1.Secret) (string, error) {
		return providerID, do(ctx)
	}
	waitID := func(ctx context.Context, _, _ string, _ *v1alpha1.ProviderSpec, _ *corev1.Secret) (string, []corev1.NodeAddress, error) {
		return providerID, nil, do(ctx)
	}
	m.EXPECT().CreateMachine(gomock.Any(), gomock.Any(), gomock.Any(), gomock.Any()).DoAndReturn(wait).AnyTimes()
	m.EXPECT().InitializeMachine(gomock.Any(), gomock.Any(), gomock.Any(), gomock.Any(), gomock.Any()).DoAndReturn(waitID).AnyTimes()
	m.EXPECT().GetMachineStatus(gomock.Any(), gomock.Any(), gomock.Any(), gomock.Any(), gomock.Any()).DoAndReturn(waitID).AnyTimes()
	m.EXPECT().DeleteMachine(gomock.Any(), gomock.Any(), gomock.Any(), gomock.Any(), gomock.Any()).
		DoAndReturn(func(ctx context.Context, _, _ string, _ *v1alpha1.ProviderSpec, _ *corev1.Secret) (string, error) {
			return providerID, do(ctx)
		}).AnyTimes()
	m.EXPECT().ListMachines(gomock.Any(), gomock.Any(), gomock.Any()).
		DoAndReturn(func(ctx context.Context, _ *v1alpha1.ProviderSpec, _ *corev1.Secret) (map[string]string, error) {
			return nil, do(ctx)
		}).AnyTimes()
}

// parsed is err as MCM understands it.
func parsed(err error) (codes.Code, string) {
	GinkgoHelper()
	Expect(err).To(HaveOccurred())
	s, ok := status.FromError(err)
	Expect(ok).To(BeTrue(), "MCM cannot parse %q", err)
	return s.Code(), s.Message()
}

// mcmCode is the code that MCM has for a kind: the one of the same name, but for Unknown.
func mcmCode(kind errdefs.Kind) codes.Code {
	if kind == errdefs.Unknown {
		return codes.Internal
	}
	return codes.StringToCode(string(kind))
}

var _ = Describe("MachinePlugin", func() {
	var (
		backend *mock.MockPluginSPI
		plugin  *provider.MachinePlugin
	)
	BeforeEach(func() {
		backend = mock.NewMockPluginSPI(gomock.NewController(GinkgoT()))
		plugin = provider.NewMachinePlugin(backend, provider.Options{})
	})

	Describe("hands down what MCM asks and hands up what the backend answers", func() {
		var (
			spec, secret = gomock.Any(), gomock.Any()
			addresses    = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "10.0.0.7"}}
			req          request
		)
		BeforeEach(func() {
			req = newRequest()
			spec = gomock.Cond(func(s *v1alpha1.ProviderSpec) bool {
				return s.VCH.Name == "vch-1" && *s.StartTimeoutSeconds == 77 && *s.CPUs == 2 // a default
			})
			secret = gomock.Eq(testSecret())
		})

		It("creates, with the Machine's name as node name and without addresses", func(ctx context.Context) {
			backend.EXPECT().CreateMachine(gomock.Any(), machineName, spec, secret).Return(providerID, nil)
			response, err := plugin.CreateMachine(ctx, &driver.CreateMachineRequest{Machine: req.machine, MachineClass: req.class, Secret: req.secret})
			Expect(err).NotTo(HaveOccurred())
			Expect(response).To(Equal(&driver.CreateMachineResponse{ProviderID: providerID, NodeName: machineName, LastKnownState: "Created " + providerID}))
		})

		It("initializes, and the empty provider id of an update that failed is no fault", func(ctx context.Context) {
			for _, id := range []string{"", providerID} {
				req.machine.Spec.ProviderID = id
				backend.EXPECT().InitializeMachine(gomock.Any(), machineName, id, spec, secret).Return(providerID, addresses, nil)
				response, err := plugin.InitializeMachine(ctx, &driver.InitializeMachineRequest{Machine: req.machine, MachineClass: req.class, Secret: req.secret})
				Expect(err).NotTo(HaveOccurred())
				Expect(response).To(Equal(&driver.InitializeMachineResponse{ProviderID: providerID, NodeName: machineName, Addresses: addresses}))
			}
		})

		It("answers the status", func(ctx context.Context) {
			for _, id := range []string{"", providerID} {
				req.machine.Spec.ProviderID = id
				backend.EXPECT().GetMachineStatus(gomock.Any(), machineName, id, spec, secret).Return(providerID, addresses, nil)
				response, err := plugin.GetMachineStatus(ctx, &driver.GetMachineStatusRequest{Machine: req.machine, MachineClass: req.class, Secret: req.secret})
				Expect(err).NotTo(HaveOccurred())
				Expect(response).To(Equal(&driver.GetMachineStatusResponse{ProviderID: providerID, NodeName: machineName, Addresses: addresses}))
			}
		})

		It("answers Uninitialized together with a response, which MCM reads", func(ctx context.Context) {
			backend.EXPECT().GetMachineStatus(gomock.Any(), machineName, "", spec, secret).
				Return(providerID, nil, errdefs.New(errdefs.Uninitialized, "not started"))
			response, err := plugin.GetMachineStatus(ctx, &driver.GetMachineStatusRequest{Machine: req.machine, MachineClass: req.class, Secret: req.secret})
			code, _ := parsed(err)
			Expect(code).To(Equal(codes.Uninitialized))
			Expect(response).To(Equal(&driver.GetMachineStatusResponse{ProviderID: providerID, NodeName: machineName}))
		})

		It("deletes, and an absent machine is no error", func(ctx context.Context) {
			for id, state := range map[string]string{providerID: "Deleted " + providerID, "": "Absent"} {
				req.machine.Spec.ProviderID = id
				backend.EXPECT().DeleteMachine(gomock.Any(), machineName, id, spec, secret).Return(id, nil)
				response, err := plugin.DeleteMachine(ctx, &driver.DeleteMachineRequest{Machine: req.machine, MachineClass: req.class, Secret: req.secret})
				Expect(err).NotTo(HaveOccurred())
				Expect(response).To(Equal(&driver.DeleteMachineResponse{LastKnownState: state}))
			}
		})

		It("lists exactly what the backend lists, and never nil", func(ctx context.Context) {
			for _, machines := range []map[string]string{{providerID: machineName, "vch://b": "b"}, {}, nil} {
				backend.EXPECT().ListMachines(gomock.Any(), spec, secret).Return(machines, nil)
				response, err := plugin.ListMachines(ctx, &driver.ListMachinesRequest{MachineClass: req.class, Secret: req.secret})
				Expect(err).NotTo(HaveOccurred())
				Expect(response.MachineList).NotTo(BeNil())
				Expect(response.MachineList).To(HaveLen(len(machines)))
				for id, name := range machines {
					Expect(response.MachineList).To(HaveKeyWithValue(id, name))
				}
			}
		})
	})

	Describe("turns every kind of error of every method into MCM's code", func() {
		for _, m := range methods() {
			for _, kind := range errdefs.Kinds() {
				It(fmt.Sprintf("%s with %s", m.name, kind), func(ctx context.Context) {
					const text = "destroy VM [ds 1] x/x.vmx: [odd"
					answers(backend, func(context.Context) error { return errdefs.New(kind, "%s", text) })
					want, response := mcmCode(kind), false
					switch {
					case m.name == "DeleteMachine" && kind == errdefs.NotFound:
						want = codes.FailedPrecondition // NotFound would tell MCM that the VM is gone
					case m.name == "GetMachineStatus" && kind == errdefs.Uninitialized:
						response = true
					}
					failed := metrics.DriverFailedAPIRequests.WithLabelValues("vch", m.operation, fmt.Sprint(uint32(want)))
					before := testutil.ToFloat64(failed)

					responded, err := m.call(ctx, plugin, newRequest())
					code, message := parsed(err)
					Expect(code).To(Equal(want))
					Expect(message).To(HaveSuffix("destroy VM [ds 1] x/x.vmx: (odd"))
					Expect(responded).To(Equal(response))
					Expect(testutil.ToFloat64(failed)).To(Equal(before + 1))
					_, outermost := err.(*status.Status) //nolint:errorlint // the question is what is outermost
					Expect(outermost).To(BeTrue())
				})
			}
			It(m.name+" with an error that nobody classified, and a context's", func(ctx context.Context) {
				for err, want := range map[error]codes.Code{
					errors.New("odd"): codes.Internal,
					fmt.Errorf("wait: %w", context.DeadlineExceeded):                         codes.DeadlineExceeded,
					fmt.Errorf("wait: %w", context.Canceled):                                 codes.Canceled,
					fmt.Errorf("outer [x: %w", errdefs.New(errdefs.ResourceExhausted, "]y")): codes.ResourceExhausted,
					errors.Join(errdefs.New(errdefs.Aborted, "a"), errors.New("b")):          codes.Aborted,
				} {
					backend = mock.NewMockPluginSPI(gomock.NewController(GinkgoT()))
					answers(backend, func(context.Context) error { return err })
					_, got := m.call(ctx, provider.NewMachinePlugin(backend, provider.Options{}), newRequest())
					code, _ := parsed(got)
					Expect(code).To(Equal(want), "%v", err)
				}
			})
		}
	})

	Describe("refuses before the backend hears of it", func() { // a call of the mock fails the test
		type fault struct {
			what   string
			change func(*request)
			code   codes.Code
			names  string
			onlyIf func(method) bool
		}
		makes := func(m method) bool { return m.makes }
		faults := []fault{
			{"no class", func(r *request) { r.class = nil }, codes.InvalidArgument, "MachineClass", nil},
			{"another provider's class", func(r *request) { r.class.Provider = "vSphere" }, codes.InvalidArgument, `"vSphere"`, nil},
			{"a class without provider", func(r *request) { r.class.Provider = "" }, codes.InvalidArgument, `provider must be "vch"`, nil},
			{"no providerSpec", func(r *request) { r.class.ProviderSpec.Raw = nil }, codes.InvalidArgument, "providerSpec", nil},
			{"an unknown field", func(r *request) {
				r.class.ProviderSpec.Raw = []byte(strings.Replace(providerSpec, `"rootDisk"`, `"diskRoot"`, 1))
			}, codes.InvalidArgument, "diskRoot", nil},
			{"a field that is wrong", func(r *request) {
				r.class.ProviderSpec.Raw = []byte(strings.Replace(providerSpec, `"startTimeoutSeconds": 77`, `"startTimeoutSeconds": 7`, 1))
			}, codes.InvalidArgument, "startTimeoutSeconds", nil},
			{"no tags", func(r *request) {
				r.class.ProviderSpec.Raw = []byte(strings.Replace(providerSpec, `"kubernetes.io/cluster/test": "1", "kubernetes.io/role/worker": "1"`, "", 1))
			}, codes.InvalidArgument, "tags", nil},
			{"no Machine", func(r *request) { r.machine = nil }, codes.InvalidArgument, "Machine", func(m method) bool { return m.forOne }},
			{"a Machine without name", func(r *request) { r.machine.Name = "" }, codes.InvalidArgument, "name", func(m method) bool { return m.forOne }},
			{"a name that no host can have", func(r *request) { r.machine.Name = strings.Repeat("n", 200) }, codes.InvalidArgument, "name", makes},
			{"no Secret", func(r *request) { r.secret = nil }, codes.Unauthenticated, v1alpha1.SecretPassword, nil},
			{"a Secret without data", func(r *request) { r.secret.Data = nil }, codes.Unauthenticated, v1alpha1.SecretHost, nil},
			{"no password", func(r *request) { delete(r.secret.Data, v1alpha1.SecretPassword) }, codes.Unauthenticated, v1alpha1.SecretPassword, nil},
			{"no user", func(r *request) { r.secret.Data[v1alpha1.SecretUsername] = nil }, codes.Unauthenticated, v1alpha1.SecretUsername, nil},
			{"a host that is none", func(r *request) { r.secret.Data[v1alpha1.SecretHost] = []byte("http://x y") }, codes.InvalidArgument, v1alpha1.SecretHost, nil},
			{"an env value that the Secret lacks", func(r *request) {
				r.class.ProviderSpec.Raw = []byte(strings.Replace(providerSpec, `"command"`, `"env": [{"name": "A", "valueFrom": {"secretKey": "lacking"}}], "command"`, 1))
			}, codes.InvalidArgument, "lacking", makes},
		}
		for _, m := range methods() {
			for _, f := range faults {
				if f.onlyIf != nil && !f.onlyIf(m) {
					continue
				}
				It(m.name+" with "+f.what, func(ctx context.Context) {
					req := newRequest()
					f.change(&req)
					responded, err := m.call(ctx, plugin, req)
					code, message := parsed(err)
					Expect(code).To(Equal(f.code))
					Expect(message).To(ContainSubstring(f.names))
					Expect(message).NotTo(ContainSubstring(plantedPassword))
					Expect(message).NotTo(ContainSubstring(plantedToken))
					Expect(responded).To(BeFalse())
				})
			}
		}

		It("a request that is nil", func(ctx context.Context) {
			for _, call := range []func() error{
				func() error { _, err := plugin.CreateMachine(ctx, nil); return err },
				func() error { _, err := plugin.InitializeMachine(ctx, nil); return err },
				func() error { _, err := plugin.GetMachineStatus(ctx, nil); return err },
				func() error { _, err := plugin.DeleteMachine(ctx, nil); return err },
				func() error { _, err := plugin.ListMachines(ctx, nil); return err },
			} {
				code, _ := parsed(call())
				Expect(code).To(Equal(codes.InvalidArgument))
			}
		})

		It("but finds and deletes without what only a new machine needs", func(ctx context.Context) {
			answers(backend, func(context.Context) error { return nil })
			for _, m := range methods() {
				if m.makes {
					continue
				}
				req := newRequest()
				req.machine.Name = strings.Repeat("n", 200)
				delete(req.secret.Data, v1alpha1.SecretUserData)
				req.class.ProviderSpec.Raw = []byte(strings.Replace(providerSpec, `"command"`, `"env": [{"name": "A", "valueFrom": {"secretKey": "lacking"}}], "command"`, 1))
				_, err := m.call(ctx, plugin, req)
				Expect(err).NotTo(HaveOccurred(), m.name)
			}
		})
	})

	It("reads requests and never changes them", func(ctx context.Context) {
		for _, answer := range []error{nil, errdefs.New(errdefs.Internal, "no")} {
			backend = mock.NewMockPluginSPI(gomock.NewController(GinkgoT()))
			plugin = provider.NewMachinePlugin(backend, provider.Options{})
			answers(backend, func(context.Context) error { return answer })
			for _, m := range methods() {
				req := newRequest()
				before := request{req.machine.DeepCopy(), req.class.DeepCopy(), req.secret.DeepCopy()}
				_, _ = m.call(ctx, plugin, req)
				Expect(req).To(Equal(before), m.name)
			}
		}
	})

	It("gives the backend a ProviderSpec of its own at every call", func(ctx context.Context) {
		var seen []*v1alpha1.ProviderSpec
		backend.EXPECT().ListMachines(gomock.Any(), gomock.Any(), gomock.Any()).
			DoAndReturn(func(_ context.Context, spec *v1alpha1.ProviderSpec, _ *corev1.Secret) (map[string]string, error) {
				seen = append(seen, spec)
				return nil, nil
			}).Times(2)
		req := newRequest()
		for range 2 {
			_, err := plugin.ListMachines(ctx, &driver.ListMachinesRequest{MachineClass: req.class, Secret: req.secret})
			Expect(err).NotTo(HaveOccurred())
		}
		Expect(seen[0]).NotTo(BeIdenticalTo(seen[1]))
	})

	It("sets a deadline that leaves the time that the ProviderSpec grants", func() {
		limits := map[string]time.Duration{"InitializeMachine": 77 * time.Second, "DeleteMachine": 33 * time.Second}
		for _, m := range methods() {
			var left time.Duration
			backend = mock.NewMockPluginSPI(gomock.NewController(GinkgoT()))
			answers(backend, func(ctx context.Context) error {
				deadline, ok := ctx.Deadline()
				Expect(ok).To(BeTrue())
				left = time.Until(deadline)
				return nil
			})
			_, err := m.call(context.Background(), provider.NewMachinePlugin(backend, provider.Options{CallTimeout: time.Hour}), newRequest())
			Expect(err).NotTo(HaveOccurred())
			Expect(left).To(BeNumerically("~", time.Hour+limits[m.name], 10*time.Second), m.name)
		}
	})

	It("ends a call that hangs with DeadlineExceeded", func(ctx context.Context) {
		answers(backend, func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		})
		plugin = provider.NewMachinePlugin(backend, provider.Options{CallTimeout: 10 * time.Millisecond})
		for _, m := range methods() {
			req := newRequest()
			req.class.ProviderSpec.Raw = []byte(strings.NewReplacer(`: 77`, `: 10`, `: 33`, `: 0`).Replace(providerSpec))
			if m.name == "InitializeMachine" {
				continue // its spec grants ten seconds at least
			}
			_, err := m.call(ctx, plugin, req)
			code, _ := parsed(err)
			Expect(code).To(Equal(codes.DeadlineExceeded), m.name)
		}
	})

	It("turns a panic of the backend into Internal and logs it without secrets", func(ctx context.Context) {
		var log bytes.Buffer
		ctx = klog.NewContext(ctx, textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&log), textlogger.Verbosity(10))))
		answers(backend, func(context.Context) error { panic("boom with " + plantedPassword + " and " + plantedToken) })
		for _, m := range methods() {
			responded, err := m.call(ctx, plugin, newRequest())
			code, message := parsed(err)
			Expect(code).To(Equal(codes.Internal), m.name)
			Expect(message).To(ContainSubstring("boom"))
			Expect(responded).To(BeFalse())
			Expect(message + log.String()).NotTo(Or(ContainSubstring(plantedPassword), ContainSubstring(plantedToken)))
		}
		Expect(log.String()).To(And(ContainSubstring("boom"), ContainSubstring("plugin_test.go")), "want value and stack of the panic")
	})

	It("lets no secret of the request out, however the backend spells it", func(ctx context.Context) {
		var log bytes.Buffer
		ctx = klog.NewContext(ctx, textlogger.NewLogger(textlogger.NewConfig(textlogger.Output(&log), textlogger.Verbosity(10))))
		const user, key = "planted-user", "planted/key with blanks"
		answers(backend, func(context.Context) error {
			return errdefs.New(errdefs.Unavailable, "post https://%s:%s@vc.example.org/sdk: token %s, key %q, %s, password %s",
				user, "p4ss", plantedToken, key, "planted%2Fkey+with+blanks", plantedPassword)
		})
		for _, m := range methods() {
			req := newRequest()
			req.secret.Data["key"] = []byte(key)
			_, err := m.call(ctx, plugin, req)
			_, message := parsed(err)
			Expect(message).To(HavePrefix("post https://vc.example.org/sdk: token <redacted>"), m.name)
			for _, secret := range []string{user, "p4ss", plantedToken, plantedPassword, "planted"} {
				Expect(err.Error()+log.String()).NotTo(ContainSubstring(secret), m.name)
			}
		}
	})

	It("counts what succeeds by its duration", func(ctx context.Context) {
		answers(backend, func(context.Context) error { return nil })
		for _, m := range methods() {
			before := samples(metrics.DriverAPIRequestDuration, m.operation)
			_, err := m.call(ctx, plugin, newRequest())
			Expect(err).NotTo(HaveOccurred())
			Expect(samples(metrics.DriverAPIRequestDuration, m.operation)).To(Equal(before+1), m.name)
		}
	})
})

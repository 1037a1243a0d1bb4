// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package providertest

import (
	"context"
	"strings"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/gomega"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
)

// fault is what can be wrong with a request.
type fault struct {
	what   string
	change func(*request)
	code   codes.Code
	names  string            // what the error names
	onlyIf func(method) bool // for which methods it is a fault; nil: for all
}

func faults() []fault {
	return append(faultsOfClasses(), append(faultsOfMachines(), faultsOfSecrets()...)...)
}

func makes(m method) bool { return m.makes }

func forOne(m method) bool { return m.forOne }

func faultsOfClasses() []fault {
	return []fault{
		{"no class", func(r *request) { r.class = nil }, codes.InvalidArgument, "MachineClass", nil},
		{"another provider's class", func(r *request) { r.class.Provider = "vSphere" }, codes.InvalidArgument, `"vSphere"`, nil},
		{"a class without provider", func(r *request) { r.class.Provider = "" }, codes.InvalidArgument, `provider must be "vch"`, nil},
		{"no providerSpec", func(r *request) { r.class.ProviderSpec.Raw = nil }, codes.InvalidArgument, "providerSpec", nil},
		{"an unknown field", func(r *request) { r.respell(`"rootDisk"`, `"diskRoot"`) }, codes.InvalidArgument, "diskRoot", nil},
		{"a field that is wrong", func(r *request) {
			r.respell(`"startTimeoutSeconds": 77`, `"startTimeoutSeconds": 7`)
		}, codes.InvalidArgument, "startTimeoutSeconds", nil},
		{"no tags", func(r *request) {
			r.respell(`"kubernetes.io/cluster/test": "1", "kubernetes.io/role/worker": "1"`, "")
		}, codes.InvalidArgument, "tags", nil},
	}
}

func faultsOfMachines() []fault {
	return []fault{
		{"no Machine", func(r *request) { r.machine = nil }, codes.InvalidArgument, "Machine", forOne},
		{"a Machine without name", func(r *request) { r.machine.Name = "" }, codes.InvalidArgument, "name", forOne},
		{"a name that no host can have", func(r *request) { r.machine.Name = strings.Repeat("n", 200) }, codes.InvalidArgument, "name", makes},
	}
}

func faultsOfSecrets() []fault {
	return []fault{
		{"no Secret", func(r *request) { r.secret = nil }, codes.Unauthenticated, v1alpha1.SecretPassword, nil},
		{"a Secret without data", func(r *request) { r.secret.Data = nil }, codes.Unauthenticated, v1alpha1.SecretHost, nil},
		{"no password", func(r *request) { delete(r.secret.Data, v1alpha1.SecretPassword) }, codes.Unauthenticated, v1alpha1.SecretPassword, nil},
		{"no user", func(r *request) { r.secret.Data[v1alpha1.SecretUsername] = nil }, codes.Unauthenticated, v1alpha1.SecretUsername, nil},
		{"a host that is none", func(r *request) { r.secret.Data[v1alpha1.SecretHost] = []byte("http://x y") }, codes.InvalidArgument, v1alpha1.SecretHost, nil},
		{"an env value that the Secret lacks", lackingEnv, codes.InvalidArgument, "lacking", makes},
	}
}

func lackingEnv(r *request) {
	r.respell(`"command"`, `"env": [{"name": "A", "valueFrom": {"secretKey": "lacking"}}], "command"`)
}

// refusals need no expectations: a call of the mock fails the spec.
func (b *bench) refusals() {
	for _, m := range methods() {
		for _, f := range faults() {
			if f.onlyIf == nil || f.onlyIf(m) {
				ginkgo.It(m.name+" with "+f.what, func(ctx context.Context) { b.refuses(ctx, m, f) })
			}
		}
	}
	ginkgo.It("a request that is nil", b.refusesNil)
	ginkgo.It("but finds and removes without what only a new machine needs", b.needsLittle)
}

func (b *bench) refuses(ctx context.Context, m method, f fault) {
	req := newRequest()
	f.change(&req)
	responded, err := b.try(ctx, m, req)
	code, message := parsed(err)
	gomega.Expect(code).To(gomega.Equal(f.code))
	gomega.Expect(message).To(gomega.ContainSubstring(f.names))
	gomega.Expect(message).NotTo(gomega.ContainSubstring(plantedPassword))
	gomega.Expect(message).NotTo(gomega.ContainSubstring(plantedToken))
	gomega.Expect(responded).To(gomega.BeFalse())
}

func (b *bench) refusesNil(ctx context.Context) {
	for _, m := range methods() {
		err := m.empty(ctx, b.driver)
		code, _ := parsed(err)
		gomega.Expect(code).To(gomega.Equal(codes.InvalidArgument), m.name)
		gomega.Expect(err).To(gomega.MatchError(m.empty(ctx, b.reference).Error()), m.name)
	}
}

func (b *bench) needsLittle(ctx context.Context) {
	b.answer(func(context.Context) error { return nil })
	for _, m := range methods() {
		if m.makes {
			continue
		}
		req := newRequest()
		req.machine.Name = strings.Repeat("n", 200)
		delete(req.secret.Data, v1alpha1.SecretUserData)
		lackingEnv(&req)
		_, err := m.call(ctx, b.driver, req)
		gomega.Expect(err).NotTo(gomega.HaveOccurred(), m.name)
	}
}

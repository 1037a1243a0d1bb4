// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package spitest

import (
	"context"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// bounds are the tests of what the calls refuse and of how they end.
func bounds() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"missing or wrong credentials are Unauthenticated":              wrongCredentials,
		"an empty identity is InvalidArgument":                          emptyIdentity,
		"a malformed provider id is InvalidArgument":                    malformedProviderID,
		"another machine's provider id is FailedPrecondition":           otherProviderID,
		"a call with a cancelled context ends and makes nothing":        cancelledContext,
		"a call with a passed deadline ends and makes nothing":          passedDeadline,
		"a start that fails is Internal and holds the guest's own word": failedStart,
		"a start that hangs is DeadlineExceeded after the start's time": hangingStart,
		"a start that hangs ends with the caller's deadline":            hangingStartCaller,
		"a machine that does not stop is powered off in its grace time": hangingStop,
	}
}

// wantUntouched runs test and fails if there are other machines or files afterwards.
func (f *fixture) wantUntouched(test func()) {
	f.Helper()
	before := len(f.h.Machines())
	test()
	if after := f.h.Machines(); len(after) != before {
		f.Errorf("there were %d VMs of ours, now there are %v", before, after)
	}
	if got := f.h.Leftovers(); len(got) != 0 {
		f.Errorf("calls that must change nothing left %q", got)
	}
}

func wrongCredentials(f *fixture) {
	f.start("safe")
	wrong := func(change func(map[string][]byte)) *corev1.Secret {
		s := f.secret()
		change(s.Data)
		return s
	}
	secrets := map[string]*corev1.Secret{
		"no Secret":          nil,
		"a Secret sans data": {},
		"wrong password":     wrong(func(d map[string][]byte) { d[v1alpha1.SecretPassword] = []byte(plantedPassword) }),
		"no password":        wrong(func(d map[string][]byte) { delete(d, v1alpha1.SecretPassword) }),
		"no user":            wrong(func(d map[string][]byte) { delete(d, v1alpha1.SecretUsername) }),
	}
	f.wantUntouched(func() {
		for what, secret := range secrets {
			for _, op := range f.operations() {
				for _, name := range []string{"safe", "unborn"} {
					_, err := op.call(f.Context(), name, "", f.spec(), secret)
					f.wantError(op.name+" of "+name+" with "+what, err, errdefs.Unauthenticated)
				}
			}
		}
	})
	f.wantRunning("safe")
}

func emptyIdentity(f *fixture) {
	f.start("safe")
	tags := []map[string]string{
		nil,
		{},
		{identity.ClusterTagPrefix: "1", identity.RoleTagPrefix: "1"},
		{identity.ClusterTagPrefix + "c": "1"},
		{identity.RoleTagPrefix + "r": "1"},
	}
	f.wantUntouched(func() {
		for _, t := range tags {
			for _, op := range f.operations() {
				spec := f.spec()
				spec.Tags = t
				_, err := op.call(f.Context(), "safe", "", spec, f.secret())
				f.wantError(op.name, err, errdefs.InvalidArgument)
			}
		}
		for _, op := range f.operations() {
			if op.name != "list" {
				f.wantError(op.name+" without a name", op.run(f.Context(), f, ""), errdefs.InvalidArgument)
			}
		}
	})
	f.wantRunning("safe")
}

func malformedProviderID(f *fixture) {
	f.start("safe")
	id := f.providerID("safe")
	f.wantUntouched(func() {
		for _, bad := range []string{
			"safe", "vch://", strings.ToUpper(id), id + "/", id + " ", id[:len(id)-1], "aws" + strings.TrimPrefix(id, "vch"),
			strings.Replace(id, "://", ":///", 1),
		} {
			for _, op := range f.operations() {
				if !op.takesProviderID() {
					continue
				}
				for _, name := range []string{"safe", "unborn"} {
					_, err := op.call(f.Context(), name, bad, f.spec(), f.secret())
					f.wantError(op.name+" of "+name+" with provider id "+bad, err, errdefs.InvalidArgument)
				}
			}
		}
	})
	f.wantRunning("safe")
}

func otherProviderID(f *fixture) {
	f.start("one")
	f.start("two")
	elsewhere, err := identity.New("00000000-0000-4000-8000-000000000001", "c", "one")
	if err != nil {
		f.Fatal(err)
	}
	f.wantUntouched(func() {
		for _, other := range []string{f.providerID("two"), f.providerID("unborn"), elsewhere.ProviderID()} {
			for _, op := range f.operations() {
				if op.takesProviderID() {
					_, err := op.call(f.Context(), "one", other, f.spec(), f.secret())
					f.wantError(op.name+" of one with provider id "+other, err, errdefs.FailedPrecondition)
				}
			}
		}
	})
	f.wantRunning("one")
	f.wantRunning("two")
}

func cancelledContext(f *fixture) {
	f.start("safe")
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	f.endsWith(ctx, errdefs.Canceled, errdefs.DeadlineExceeded)
}

func passedDeadline(f *fixture) {
	f.start("safe")
	ctx, cancel := context.WithTimeout(f.Context(), 0)
	defer cancel()
	f.endsWith(ctx, errdefs.DeadlineExceeded)
}

func (f *fixture) endsWith(ctx context.Context, kinds ...errdefs.Kind) {
	f.Helper()
	f.wantUntouched(func() {
		for _, op := range f.operations() {
			for _, name := range []string{"safe", "unborn"} {
				f.wantError(op.name+" of "+name, op.run(ctx, f, name), kinds...)
			}
		}
	})
	f.wantRunning("safe")
}

func failedStart(f *fixture) {
	const name, words = "fails", "exec: no such file: /bin/nothing"
	f.create(name)
	f.h.SetGuest(Guest{StartError: words})
	for range 2 {
		err := f.operation("initialize").run(f.Context(), f, name)
		f.wantError("initialize", err, errdefs.Internal)
		if err != nil && !strings.Contains(err.Error(), words) {
			f.Errorf("initialize: error %q does not hold the guest's words %q", err, words)
		}
		if got := f.status(name); got != errdefs.Uninitialized {
			f.Errorf("status after a failed start is %q, want Uninitialized", got)
		}
	}
	f.h.SetGuest(Guest{})
	f.initialize(name)
	f.wantRunning(name)
	f.delete(name)
	f.wantAbsent(name)
}

func hangingStart(f *fixture) {
	const name = "hangs"
	f.create(name)
	f.h.SetGuest(Guest{StartHangs: true})
	spec := f.spec()
	spec.StartTimeoutSeconds = ptr.To[int64](v1alpha1.MinStartTimeoutSeconds) // less is no valid ProviderSpec
	_, _, err := f.spi().InitializeMachine(f.Context(), name, "", spec, f.secret())
	f.wantError("initialize", err, errdefs.DeadlineExceeded)
	if got := f.status(name); got != errdefs.Uninitialized {
		f.Errorf("status after a start that hung is %q, want Uninitialized", got)
	}
	f.h.SetGuest(Guest{})
	f.initialize(name) // a start that failed is tried again
	f.wantRunning(name)
	f.delete(name)
	f.wantAbsent(name)
}

func hangingStartCaller(f *fixture) {
	const name = "hangs"
	f.create(name)
	f.h.SetGuest(Guest{StartHangs: true})
	ctx, cancel := context.WithTimeout(f.Context(), time.Second)
	defer cancel()
	f.wantError("initialize", f.operation("initialize").run(ctx, f, name), errdefs.DeadlineExceeded)
	f.delete(name)
	f.wantAbsent(name)
}

func hangingStop(f *fixture) {
	f.h.SetGuest(Guest{StopHangs: true})
	for _, opName := range []string{"shutdown", "delete"} {
		name := "stubborn-" + opName
		f.start(name)
		spec := f.spec()
		spec.StopGracePeriodSeconds = ptr.To[int64](1)
		if _, err := f.operation(opName).call(f.Context(), name, "", spec, f.secret()); err != nil {
			f.Errorf("%s of a machine that does not stop: %v", opName, err)
		}
		if got := f.machines(name); slices.ContainsFunc(got, func(m Machine) bool { return m.Running }) {
			f.Errorf("after %s there is %v", opName, got)
		}
		f.delete(name)
		f.wantAbsent(name)
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// operation is a method of the driver as its metrics call it; the other
// providers of MCM use the same names.
type operation string

const (
	opCreate     operation = "create_machine"
	opInitialize operation = "initialize_machine"
	opDelete     operation = "delete_machine"
	opShutDown   operation = "shut_down_machine"
	opStatus     operation = "get_machine_status"
	opList       operation = "list_machine"
	opVolumes    operation = "get_volume_ids"
)

// input is what MCM hands over. It is out of MCM's caches: read only.
type input struct {
	machine *mcmv1alpha1.Machine
	class   *mcmv1alpha1.MachineClass
	secret  *corev1.Secret
}

// secrets are the texts that must not leave with an error.
func (in input) secrets() []string { return secretsOf(in.secret, in.public()) }

// public is the text of all that errors may name.
func (in input) public() string {
	var s string
	if in.machine != nil {
		s = in.machine.Name + "\n" + in.machine.Spec.ProviderID
	}
	if in.class != nil {
		s += "\n" + in.class.Name + "\n" + string(in.class.ProviderSpec.Raw)
	}
	return s
}

// call is an input that has been checked.
type call struct {
	// machine is the Machine's name; empty for a list.
	machine string
	// providerID is what the Machine has; may be empty.
	providerID string
	// spec is this call's own: decoded, defaulted and valid.
	spec   *v1alpha1.ProviderSpec
	secret *corev1.Secret
}

// serve is the way of every call from MCM to the SPI and back.
func serve[R any](ctx context.Context, p *MachinePlugin, op operation, in input, do func(context.Context, *call) (R, error)) (response R, err error) {
	began := p.options.Clock.Now()
	logger := klog.FromContext(ctx).WithValues("operation", string(op))
	if in.machine != nil {
		logger = logger.WithValues("machine", klog.KObj(in.machine))
	}

	response, err = attempt(klog.NewContext(ctx, logger), p, op, in, do)
	took := p.options.Clock.Since(began)
	if err == nil {
		observeCall(op, took, nil)
		logger.V(2).Info("Call done", "took", took)
		return response, nil
	}
	answer := toStatus(err, in.secrets())
	observeCall(op, took, answer)
	logger.V(2).Info("Call failed", "took", took, "code", answer.Code().String())
	return response, answer
}

// attempt checks the input and calls do with a deadline. A panic of do ends in
// an Internal error.
func attempt[R any](ctx context.Context, p *MachinePlugin, op operation, in input, do func(context.Context, *call) (R, error)) (response R, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			var none R
			response, err = none, errdefs.New(errdefs.Internal, "%s: panic: %v", op, cause)
			klog.FromContext(ctx).Error(nil, "Panic in a call", "panic", clean(fmt.Sprint(cause), false, in.secrets()), "stack", string(debug.Stack()))
		}
	}()
	c, err := check(op, in)
	if err != nil {
		return response, err
	}
	ctx, cancel := context.WithTimeout(ctx, p.limit(op, c.spec))
	defer cancel()
	return do(ctx, c)
}

// check is the same for all calls: everything is judged before the SPI hears of it.
func check(op operation, in input) (*call, error) {
	if in.class == nil {
		return nil, errdefs.New(errdefs.InvalidArgument, "request without a MachineClass")
	}
	if in.class.Provider != v1alpha1.Provider {
		return nil, errdefs.New(errdefs.InvalidArgument, "machine class %s: provider must be %q, got %q: the class is another provider's",
			in.class.Name, v1alpha1.Provider, in.class.Provider)
	}
	spec, err := v1alpha1.Load(in.class.ProviderSpec.Raw)
	if err != nil {
		return nil, errdefs.Wrap(errdefs.KindOf(err), err, "machine class %s", in.class.Name)
	}
	c := &call{spec: spec, secret: in.secret}
	if op != opList {
		if in.machine == nil || in.machine.Name == "" {
			return nil, errdefs.New(errdefs.InvalidArgument, "request without a Machine that has a name")
		}
		c.machine, c.providerID = in.machine.Name, in.machine.Spec.ProviderID
	}
	// What only a new machine needs must not be in the way of finding and removing one.
	makes := op == opCreate || op == opInitialize
	if makes {
		if err := v1alpha1.ValidateMachineName(c.machine, spec); err != nil {
			return nil, err
		}
	}
	var data map[string][]byte
	if in.secret != nil {
		data = in.secret.Data
	}
	needs := spec
	if !makes {
		needs = nil
	}
	if err := v1alpha1.CheckSecret(data, needs); err != nil {
		return nil, errdefs.Wrap(errdefs.KindOf(err), err, "machine class %s", in.class.Name)
	}
	return c, nil
}

// limit is how long the call may take.
func (p *MachinePlugin) limit(op operation, spec *v1alpha1.ProviderSpec) time.Duration {
	var extra int64
	switch op {
	case opInitialize:
		extra = ptr.Deref(spec.StartTimeoutSeconds, 0)
	case opDelete, opShutDown:
		extra = ptr.Deref(spec.StopGracePeriodSeconds, 0)
	default:
	}
	return p.options.CallTimeout + time.Duration(extra)*time.Second
}

// toStatus turns an error into MCM's, as the outermost one.
func toStatus(err error, secrets []string) *status.Status {
	kind := errdefs.KindOf(err)
	return status.New(codeOf(kind), clean(err.Error(), kind == errdefs.OutOfRange, secrets))
}

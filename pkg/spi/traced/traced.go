// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package traced makes an OpenTelemetry span of each call of a spi.PluginSPI: what the call was for, how long it
// took, and the kind and text of its error. Spans of what happens meanwhile, such as requests to vCenter,
// stand below it. It changes nothing: answers and errors are those of the implementation, which it passes a context with the span.
//
// Programs put it around their backend when somebody wants traces. It knows no exporter.
package traced

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
)

// Attributes of the spans. Secrets and user data are in none.
const (
	AttributeMachine    = "mcm.machine"
	AttributeProviderID = "mcm.provider_id"
	AttributeVCH        = "vch.name"
	AttributeDatacenter = "vch.datacenter"
	AttributeErrorKind  = "error.type"
	AttributeMachines   = "mcm.machines"
)

// New returns next with spans of tracer. It is as safe for concurrent use as next is.
func New(next spi.PluginSPI, tracer trace.Tracer) spi.PluginSPI {
	return &plugin{next: next, tracer: tracer}
}

type plugin struct {
	next   spi.PluginSPI
	tracer trace.Tracer
}

// begin starts the span of a call; done ends it with the call's error.
func (p *plugin) begin(ctx context.Context, method, machine, providerID string, spec *v1alpha1.ProviderSpec) (context.Context, trace.Span, func(error)) {
	ctx, span := p.tracer.Start(ctx, method)
	set := func(key, value string) {
		if value != "" {
			span.SetAttributes(attribute.String(key, value))
		}
	}
	set(AttributeMachine, machine)
	set(AttributeProviderID, providerID)
	if spec != nil {
		set(AttributeVCH, spec.VCH.Name)
		set(AttributeDatacenter, spec.VCH.Datacenter)
	}
	return ctx, span, func(err error) {
		if err != nil {
			span.SetAttributes(attribute.String(AttributeErrorKind, string(errdefs.KindOf(err))))
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// CreateMachine is that of spi.PluginSPI.
func (p *plugin) CreateMachine(ctx context.Context, machine string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (providerID string, err error) {
	ctx, span, done := p.begin(ctx, "CreateMachine", machine, "", spec)
	defer func() { done(err) }()
	providerID, err = p.next.CreateMachine(ctx, machine, spec, secret)
	span.SetAttributes(attribute.String(AttributeProviderID, providerID))
	return providerID, err
}

// InitializeMachine is that of spi.PluginSPI.
func (p *plugin) InitializeMachine(ctx context.Context, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (found string, addresses []corev1.NodeAddress, err error) {
	ctx, _, done := p.begin(ctx, "InitializeMachine", machine, providerID, spec)
	defer func() { done(err) }()
	return p.next.InitializeMachine(ctx, machine, providerID, spec, secret)
}

// GetMachineStatus is that of spi.PluginSPI.
func (p *plugin) GetMachineStatus(ctx context.Context, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (found string, addresses []corev1.NodeAddress, err error) {
	ctx, _, done := p.begin(ctx, "GetMachineStatus", machine, providerID, spec)
	defer func() { done(err) }()
	return p.next.GetMachineStatus(ctx, machine, providerID, spec, secret)
}

// DeleteMachine is that of spi.PluginSPI.
func (p *plugin) DeleteMachine(ctx context.Context, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (found string, err error) {
	ctx, _, done := p.begin(ctx, "DeleteMachine", machine, providerID, spec)
	defer func() { done(err) }()
	return p.next.DeleteMachine(ctx, machine, providerID, spec, secret)
}

// ShutDownMachine is that of spi.PluginSPI.
func (p *plugin) ShutDownMachine(ctx context.Context, machine, providerID string, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (found string, err error) {
	ctx, _, done := p.begin(ctx, "ShutDownMachine", machine, providerID, spec)
	defer func() { done(err) }()
	return p.next.ShutDownMachine(ctx, machine, providerID, spec, secret)
}

// ListMachines is that of spi.PluginSPI.
func (p *plugin) ListMachines(ctx context.Context, spec *v1alpha1.ProviderSpec, secret *corev1.Secret) (machines map[string]string, err error) {
	ctx, span, done := p.begin(ctx, "ListMachines", "", "", spec)
	defer func() { done(err) }()
	machines, err = p.next.ListMachines(ctx, spec, secret)
	span.SetAttributes(attribute.Int(AttributeMachines, len(machines)))
	return machines, err
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"reflect"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// traced makes a span of each request that is sent, repetitions and logins among them, but of those that rest
// in vCenter: they belong to nobody. A request that several share belongs to who asked first.
func traced(next soap.RoundTripper, host string, tracer trace.Tracer) soap.RoundTripper {
	if tracer == nil {
		return next
	}
	return roundTripFunc(func(ctx context.Context, req, res soap.HasFault) error {
		if _, is, _ := longPoll(req); is {
			return next.RoundTrip(ctx, req, res)
		}
		method := Method(req)
		ctx, span := tracer.Start(ctx, "vSphere "+method, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(
			attribute.String("server.address", host), attribute.String("rpc.method", method), attribute.String("vsphere.object", object(req)),
			attribute.Int("vsphere.attempt", Attempt(ctx))))
		defer span.End()
		err := next.RoundTrip(ctx, req, res)
		if err != nil {
			told := Convert(err, "%s", method) // its text has no secrets
			span.SetAttributes(attribute.String("error.type", string(errdefs.KindOf(told))))
			span.SetStatus(codes.Error, told.Error())
		}
		return err
	})
}

// object is what a request is sent to: the This of its body.
func object(req soap.HasFault) string {
	body := reflect.ValueOf(req)
	for _, field := range []string{"Req", "This"} {
		for body.Kind() == reflect.Pointer && !body.IsNil() {
			body = body.Elem()
		}
		if body.Kind() != reflect.Struct {
			return ""
		}
		body = body.FieldByName(field)
	}
	if !body.IsValid() {
		return ""
	}
	ref, _ := body.Interface().(types.ManagedObjectReference)
	return ref.Value
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/pflag"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
)

const (
	flagTracingEndpoint = "tracing-endpoint"
	flagTracingRatio    = "tracing-sample-ratio"
)

// flushTimeout is how long a program that ends waits for its last traces to be sent.
const flushTimeout = 3 * time.Second

// tracing are the flags of traces.
type tracing struct {
	endpoint string
	ratio    float64
}

func (t *tracing) addTo(fs *pflag.FlagSet) {
	fs.StringVar(&t.endpoint, flagTracingEndpoint, "",
		"Where to send OpenTelemetry traces by OTLP over gRPC: http://host:4317, or https:// for TLS with the system's certificates. Empty for nowhere.")
	fs.Float64Var(&t.ratio, flagTracingRatio, 1, "Share of the driver's calls of which traces are sent.")
}

func (t *tracing) validate() error {
	if t.ratio <= 0 || t.ratio > 1 {
		return fmt.Errorf("--%s must be greater than 0 and at most 1, got %g", flagTracingRatio, t.ratio)
	}
	if t.endpoint == "" {
		return nil
	}
	u, err := url.Parse(t.endpoint)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.Port() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" {
		return fmt.Errorf("--%s must be http://host:port or https://host:port", flagTracingEndpoint) // what was given may hold credentials
	}
	return nil
}

// tracer returns what makes spans, and what sends the last ones; nil if nobody wants traces. It does not
// wait for the collector: one that cannot be reached is told in the log, and costs the traces.
func (t *tracing) tracer(ctx context.Context, service string) (tracer trace.Tracer, flush func(context.Context), err error) {
	if t.endpoint == "" {
		return nil, func(context.Context) {}, nil
	}
	exporter, err := otlptracegrpc.New(ctx, otlptracegrpc.WithEndpointURL(t.endpoint))
	if err != nil {
		return nil, nil, fmt.Errorf("--%s: %w", flagTracingEndpoint, err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(loud{exporter, klog.FromContext(ctx)}),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(t.ratio))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", service), attribute.String("service.version", version.Version()))),
	)
	return provider.Tracer(version.Name), func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, flushTimeout)
		defer cancel()
		if err := provider.Shutdown(ctx); err != nil {
			klog.FromContext(ctx).Info("Could not send the last traces; look at --"+flagTracingEndpoint, "reason", err.Error())
		}
	}, nil
}

// loud tells of traces that could not be sent in the program's own log, where the library would write lines of its own.
type loud struct {
	sdktrace.SpanExporter
	log klog.Logger
}

// ExportSpans sends spans, or drops them: it never fails.
func (l loud) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	if err := l.SpanExporter.ExportSpans(ctx, spans); err != nil {
		l.log.Info("Could not send traces, they are dropped; look at --"+flagTracingEndpoint, "spans", len(spans), "reason", err.Error())
	}
	return nil
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	"github.com/prometheus/client_golang/prometheus"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/encoding/prototext"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// collector keeps the spans that are sent to it.
type collector struct {
	collectorv1.UnimplementedTraceServiceServer

	mu       sync.Mutex
	services map[string]bool
	spans    []*tracev1.Span
}

// Export is that of the protocol.
func (c *collector) Export(_ context.Context, req *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, of := range req.GetResourceSpans() {
		for _, a := range of.GetResource().GetAttributes() {
			if a.GetKey() == "service.name" {
				c.services[a.GetValue().GetStringValue()] = true
			}
		}
		for _, scope := range of.GetScopeSpans() {
			c.spans = append(c.spans, scope.GetSpans()...)
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

// collecting serves a collector on loopback until the test ends.
func collecting(t *testing.T) (c *collector, endpoint string) {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c = &collector{services: map[string]bool{}}
	server := grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(server, c)
	go func() { _ = server.Serve(listener) }() // ends with Stop
	t.Cleanup(server.Stop)
	return c, "http://" + listener.Addr().String()
}

// lists has a driver with some flags list the machines of a simulated VCH, and ends it.
func lists(t *testing.T, args ...string) *corev1.Secret {
	t.Helper()
	sim, err := vchsim.Start(t.Context(), vchsim.Options{NoForeign: true, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	f, _ := parsed(t, args...)
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	d, end, err := f.Driver(t.Context(), "program", prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	secret := &corev1.Secret{Data: sim.Secret()}
	if _, err := d.ListMachines(ctx, &driver.ListMachinesRequest{MachineClass: classOf(sim), Secret: secret}); err != nil {
		t.Fatal(err)
	}
	if err := end(t.Context()); err != nil {
		t.Errorf("end: %v", err)
	}
	return secret
}

func TestTracesShowACallAndItsRequests(t *testing.T) {
	t.Parallel()
	c, endpoint := collecting(t)
	secret := lists(t, "--tracing-endpoint="+endpoint)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.services["program"] {
		t.Errorf("spans of %v, want those of program", c.services)
	}
	var call *tracev1.Span
	for _, span := range c.spans {
		if span.GetName() == "ListMachines" {
			call = span
		}
		if text := prototext.Format(span); strings.Contains(text, string(secret.Data[v1alpha1.SecretPassword])) {
			t.Errorf("a span holds the password: %s", text)
		}
	}
	if call == nil {
		t.Fatalf("no span of the call among %d", len(c.spans))
	}
	below := 0
	for _, span := range c.spans {
		if string(span.GetParentSpanId()) == string(call.GetSpanId()) && strings.HasPrefix(span.GetName(), "vSphere ") {
			below++
		}
	}
	if below < 3 { // a login, and reads
		t.Errorf("%d requests stand below the call", below)
	}
}

func TestACollectorThatIsAwayCostsOnlyTheTraces(t *testing.T) {
	t.Parallel()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := listener.Close(); err != nil { // nobody listens there now
		t.Fatal(err)
	}
	lists(t, "--tracing-endpoint=http://"+listener.Addr().String())
}

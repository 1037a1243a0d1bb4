// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package traced_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/traced"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

// harness has the spans made around the implementation that it judges.
type harness struct{ spitest.Harness }

func (h harness) SPI() spi.PluginSPI {
	return traced.New(h.Harness.SPI(), noop.NewTracerProvider().Tracer(""))
}

func TestConformance(t *testing.T) {
	t.Parallel()
	spitest.Run(t, func(t *testing.T) spitest.Harness { return harness{world.NewFake(t)} })
}

// shown is what a test compares of a span.
type shown struct {
	Name       string
	Attributes map[string]string
	Failed     bool
}

func TestEachCallIsASpan(t *testing.T) {
	t.Parallel()
	h := world.NewFake(t)
	recorder := tracetest.NewSpanRecorder()
	s := traced.New(h.SPI(), sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder)).Tracer("test"))
	spec, secret := h.Spec(), h.Secret()
	id, err := s.CreateMachine(t.Context(), "m", spec, secret)
	if err != nil {
		t.Fatal(err)
	}
	for _, call := range []func() error{
		func() error { _, _, err := s.InitializeMachine(t.Context(), "m", id, spec, secret); return err },
		func() error { _, _, err := s.GetMachineStatus(t.Context(), "m", id, spec, secret); return err },
		func() error { _, err := s.ListMachines(t.Context(), spec, secret); return err },
		func() error { _, err := s.ShutDownMachine(t.Context(), "m", id, spec, secret); return err },
		func() error { _, err := s.DeleteMachine(t.Context(), "m", id, spec, secret); return err },
	} {
		if err := call(); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := s.GetMachineStatus(t.Context(), "m", id, spec, secret); err == nil {
		t.Fatal("a deleted machine has a status")
	}

	of := func(name string, failed bool, more map[string]string) shown {
		attributes := map[string]string{"vch.name": spec.VCH.Name, "vch.datacenter": spec.VCH.Datacenter}
		for key, value := range more {
			attributes[key] = value
		}
		return shown{name, attributes, failed}
	}
	machine := map[string]string{"mcm.machine": "m", "mcm.provider_id": id}
	want := []shown{
		of("CreateMachine", false, machine), of("InitializeMachine", false, machine), of("GetMachineStatus", false, machine),
		of("ListMachines", false, map[string]string{"mcm.machines": "1"}), of("ShutDownMachine", false, machine), of("DeleteMachine", false, machine),
		of("GetMachineStatus", true, map[string]string{"mcm.machine": "m", "mcm.provider_id": id, "error.type": "NotFound"}),
	}
	var got []shown
	for _, span := range recorder.Ended() {
		attributes := map[string]string{}
		for _, a := range span.Attributes() {
			attributes[string(a.Key)] = a.Value.Emit()
		}
		got = append(got, shown{span.Name(), attributes, span.Status().Code == codes.Error})
		for _, secretValue := range [][]byte{secret.Data[v1alpha1.SecretPassword], secret.Data[v1alpha1.SecretUserData]} {
			if text := span.Status().Description + attributeText(span.Attributes()); len(secretValue) > 0 && strings.Contains(text, string(secretValue)) {
				t.Errorf("the span %s holds a secret: %s", span.Name(), text)
			}
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("spans (-want +got):\n%s", diff)
	}
	if last := recorder.Ended()[len(got)-1].Status().Description; !strings.Contains(last, "m") {
		t.Errorf("the span of a failure does not say why: %q", last)
	}
}

func attributeText(attributes []attribute.KeyValue) string {
	var s strings.Builder
	for _, a := range attributes {
		s.WriteString(a.Value.Emit() + "\n")
	}
	return s.String()
}

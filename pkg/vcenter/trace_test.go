// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// tracing is a world whose requests are recorded as spans.
func tracing(t *testing.T) (*world, *tracetest.SpanRecorder, *sdktrace.TracerProvider) {
	t.Helper()
	recorder := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(recorder))
	return newWorldWith(t, Options{Tracer: provider.Tracer("test")}), recorder, provider
}

func attributesOf(span sdktrace.ReadOnlySpan) map[string]string {
	out := map[string]string{}
	for _, a := range span.Attributes() {
		out[string(a.Key)] = a.Value.Emit()
	}
	return out
}

func TestEachRequestIsASpanOfWhatItIsFor(t *testing.T) {
	w, recorder, provider := tracing(t)
	ctx, parent := provider.Tracer("test").Start(t.Context(), "parent")
	vm := w.vms()[0]
	res, err := methods.PowerOffVM_Task(ctx, w.Vim(), &types.PowerOffVM_Task{This: vm})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Task(ctx, res.Returnval); err != nil {
		t.Fatal(err)
	}
	parent.End()
	names := map[string]int{}
	for _, span := range recorder.Ended() {
		names[span.Name()]++
		if span.Name() != "vSphere PowerOffVM_Task" {
			continue
		}
		got := attributesOf(span)
		if got["vsphere.object"] != vm.Value || got["rpc.method"] != "PowerOffVM_Task" || got["server.address"] == "" || got["vsphere.attempt"] != "1" {
			t.Errorf("attributes %v", got)
		}
		if span.Parent().SpanID() != parent.SpanContext().SpanID() {
			t.Error("the span does not stand below that of the caller")
		}
	}
	if names["vSphere PowerOffVM_Task"] != 1 || names["vSphere Login"] != 1 {
		t.Errorf("spans %v", names)
	}
	if names["vSphere WaitForUpdatesEx"] != 0 {
		t.Error("a request that rests is a span")
	}
}

func TestASpanTellsWhyARequestFailedAndHoldsNoSecret(t *testing.T) {
	w, recorder, _ := tracing(t)
	w.seen.setAfter(func(method string) error {
		if method == "CurrentTime" {
			return &url.Error{Op: "Post", URL: "https://vc/sdk", Err: io.ErrUnexpectedEOF}
		}
		return nil
	})
	if _, err := methods.GetCurrentTime(t.Context(), w.Vim()); err == nil {
		t.Fatal("no error")
	}
	none := types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-none"}
	if _, err := methods.PowerOffVM_Task(t.Context(), w.Vim(), &types.PowerOffVM_Task{This: none}); err == nil {
		t.Fatal("no error")
	}
	var attempts, kinds []string
	for _, span := range recorder.Ended() {
		got := attributesOf(span)
		if kind := got["error.type"]; kind != "" {
			attempts, kinds = append(attempts, got["vsphere.attempt"]), append(kinds, kind)
			if span.Status().Description == "" {
				t.Errorf("%s does not say why", span.Name())
			}
		}
		if text := fmt.Sprint(span.Status(), got, span.Events()); strings.Contains(text, vchsim.DefaultPassword) {
			t.Errorf("%s holds the password: %s", span.Name(), text)
		}
	}
	if want := []string{"1", "2", "3", "1"}; !slices.Equal(attempts, want) {
		t.Errorf("attempts %v, want %v: each repetition is a span", attempts, want)
	}
	if want := []string{"Unavailable", "Unavailable", "Unavailable", "NotFound"}; !slices.Equal(kinds, want) {
		t.Errorf("kinds %v, want %v", kinds, want)
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func TestAnswersAreSpoilt(t *testing.T) {
	t.Parallel()
	const right = "<Envelope>right</Envelope>"
	for _, test := range []struct {
		how      spoil
		status   int
		body     string
		executed bool
	}{
		{how: "", status: http.StatusOK, body: right, executed: true},
		{how: truncated, status: http.StatusOK, body: right[:len(right)/2], executed: true},
		{how: garbage, status: http.StatusOK, body: strings.Repeat("\xff\x00<&\x1b", 1+len(right)/5), executed: true},
		{how: html, status: http.StatusOK, body: page},
		{how: unavailable, status: http.StatusServiceUnavailable, body: page},
		{how: broken, status: http.StatusInternalServerError, body: "Internal Server Error"},
	} {
		t.Run(string(test.how), func(t *testing.T) {
			t.Parallel()
			executed := false
			a := &Answers{}
			server := httptest.NewServer(a.Wrap(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				executed = true
				_, _ = io.WriteString(w, right)
			})))
			defer server.Close()
			if test.how != "" {
				a.set(test.how, 1)
			}
			response, err := http.Post(server.URL+"/sdk", "text/xml", strings.NewReader("<x/>"))
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(response.Body)
			if err = errors.Join(err, response.Body.Close()); err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status || string(body) != test.body || executed != test.executed {
				t.Errorf("status %d, executed %t, body %q", response.StatusCode, executed, body)
			}
			want := 1
			if test.how == "" {
				want = 0
			}
			if spoilt := a.set("", 0); spoilt != want {
				t.Errorf("%d answers were spoilt, want %d", spoilt, want)
			}
		})
	}
}

// TestFaultsOfNetworkAndVCenterEnd strikes with every kind that needs no Pod, and calls
// the vCenter before and after.
func TestFaultsOfNetworkAndVCenterEnd(t *testing.T) {
	t.Parallel()
	w := &World{answers: &Answers{}, log: func(string, ...any) {}}
	var err error
	if w.Sim, err = vchsim.Start(t.Context(), vchsim.Options{Dir: t.TempDir(), Wrap: w.answers.Wrap}); err != nil {
		t.Fatal(err)
	}
	if w.proxy, err = newProxy(strings.TrimSuffix(strings.TrimPrefix(w.Sim.URL(), "https://"), "/sdk")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	w.address = w.proxy.Listen
	w.vcenter.Datacenter = w.Sim.Datacenter
	before, err := w.Inventory(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range append(append(append(networkKinds(), answerKinds()...), faultKinds()...), guestKinds()...) {
		_, end, err := kind.strike(t.Context(), w, 0.5)
		if err != nil {
			t.Fatalf("%s: %v", kind.Name, err)
		}
		if kind.Name == "refused" {
			if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", w.address); err == nil {
				t.Errorf("%s: a connection is accepted: %v", kind.Name, conn.Close())
			}
		}
		if err := end(t.Context()); err != nil {
			t.Fatalf("%s: %v", kind.Name, err)
		}
		now, err := through(t, w)
		if err != nil {
			t.Fatalf("after %s: %v", kind.Name, err)
		}
		if err := before.Equal(now); err != nil {
			t.Errorf("after %s: %v", kind.Name, err)
		}
	}
	if w.proxy.Listen != w.address {
		t.Errorf("the proxy has moved from %s to %s", w.address, w.proxy.Listen)
	}
}

// through reads the inventory as the driver would, through the proxy.
func through(t *testing.T, w *World) (*stack.Inventory, error) {
	t.Helper()
	vcenter := w.vcenter
	vcenter.Secret = w.access()
	return vcenter.Inventory(t.Context())
}

func TestSamplesBecomeTablesAndCharts(t *testing.T) {
	t.Parallel()
	samples := []Sample{
		{At: time.Second, Machines: 3, Sessions: 1, Programs: map[string]Usage{"driver": {Memory: 1 << 20, Goroutines: 5, Threads: 4, Files: 3}}},
		{At: 2 * time.Second, Machines: 4, Sessions: 2},
	}
	var table strings.Builder
	if err := WriteCSV(&table, samples); err != nil {
		t.Fatal(err)
	}
	want := "seconds,machines,sessions,driver MiB,driver goroutines,driver threads,driver files\n1.0,3,1,1.0,5.0,4.0,3.0\n2.0,4,2,,,,\n"
	if diff := cmp.Diff(want, table.String()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	samples[1].Programs = samples[0].Programs
	for name, write := range map[string]func(io.Writer, []Sample) error{"memory": WriteMemory, "goroutines": WriteGoroutines, "sessions": WriteSessions} {
		var drawn strings.Builder
		if err := write(&drawn, samples); err != nil || !strings.HasPrefix(drawn.String(), "<svg") {
			t.Errorf("%s: %v, %.20q", name, err, drawn.String())
		}
	}
}

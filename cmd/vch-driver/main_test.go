// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/cmi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func TestVersionIsPrintedAndNothingStarted(t *testing.T) {
	t.Parallel()
	code, out := run(t, nil, "--version", "--endpoint=unix:///nowhere/x")
	if code != 0 || !strings.HasPrefix(out, version.Name+" v") || strings.Count(out, "\n") != 1 {
		t.Errorf("code %d, %q, want one line with name and version", code, out)
	}
}

func TestWrongFlagsAreRefusedInOneLineThatNamesThem(t *testing.T) {
	t.Parallel()
	at := "--endpoint=" + socket(t)
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"an unknown flag":           {[]string{"--nonsense"}, "--nonsense"},
		"an argument":               {[]string{"serve"}, `"serve"`},
		"an endpoint of no kind":    {[]string{"--endpoint=nowhere"}, "--endpoint"},
		"an empty endpoint":         {[]string{"--endpoint="}, "--endpoint"},
		"a path that is relative":   {[]string{"--endpoint=unix://x/y"}, "--endpoint"},
		"no calls":                  {[]string{at, "--max-concurrent-calls=0"}, "--max-concurrent-calls"},
		"calls that are no number":  {[]string{at, "--max-concurrent-calls=many"}, "--max-concurrent-calls"},
		"an end in the past":        {[]string{at, "--shutdown-timeout=-1s"}, "--shutdown-timeout"},
		"no time for a call":        {[]string{at, "--driver-call-timeout=0s"}, "--driver-call-timeout"},
		"no concurrency":            {[]string{at, "--vcenter-max-concurrent-requests=0"}, "--vcenter-max-concurrent-requests"},
		"no time for a request":     {[]string{at, "--vcenter-request-timeout=0s"}, "--vcenter-request-timeout"},
		"a directory that is not":   {[]string{at, "--credentials-dir=/nowhere"}, "--credentials-dir"},
		"profiling at no address":   {[]string{at, "--profiling", "--metrics-address="}, "--profiling"},
		"metrics at no address":     {[]string{at, "--metrics-address=nowhere"}, "--metrics-address"},
		"TCP without TLS":           {[]string{"--endpoint=tcp://127.0.0.1:0"}, "TLS"},
		"insecure for all to reach": {[]string{"--endpoint=tcp://0.0.0.0:0", "--insecure"}, "loopback"},
		"TLS for a socket":          {[]string{at, "--tls-cert-file=/x"}, "unix socket"},
		"a socket in no directory":  {[]string{"--endpoint=unix:///nowhere/cmi.sock"}, "/nowhere"},
		"probe: an endpoint":        {[]string{"probe", "--endpoint=nowhere"}, "--endpoint"},
		"probe: an argument":        {[]string{"probe", "x"}, `"x"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			code, out := run(t, nil, tc.args...)
			last := out[strings.LastIndex(strings.TrimSuffix(out, "\n"), "\n")+1:]
			if code != 1 || !strings.HasPrefix(last, "vch-driver: ") || !strings.Contains(last, tc.want) {
				t.Errorf("code %d, want 1 and a last line with %q:\n%s", code, tc.want, out)
			}
		})
	}
}

func TestTheVariableIsTheDefaultOfTheEndpoint(t *testing.T) {
	t.Parallel()
	at := socket(t)
	env := []string{endpointEnv + "=" + at}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	p := newProgram(ctx, env, "--metrics-address=")
	if err := p.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		if code, out := run(t, env, "probe"); code != 0 {
			return errors.New(out)
		}
		return nil
	})
	// The flag counts more.
	if code, out := run(t, env, "probe", "--endpoint="+socket(t)); code != 1 {
		t.Errorf("probe of nothing: %d, %s", code, out)
	}
	if err := p.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(); err != nil {
		t.Errorf("the end: %v\n%s", err, p.out)
	}
	if code, out := run(t, []string{endpointEnv + "=nowhere"}); code != 1 || !strings.Contains(out, "--endpoint") {
		t.Errorf("a wrong variable: %d, %s", code, out)
	}
}

func TestProbeTellsByItsCode(t *testing.T) {
	t.Parallel()
	s := serving(t, socket(t), nil)
	for name, tc := range map[string]struct {
		args []string
		code int
		want string
	}{
		"as a whole":         {nil, 0, "SERVING\n"},
		"a service":          {[]string{"--service=cmi.v1.Machine"}, 0, "SERVING\n"},
		"an unknown service": {[]string{"--service=other"}, 1, s.endpoint},
		"no time":            {[]string{"--timeout=0s"}, 1, s.endpoint},
	} {
		if code, out := run(t, nil, append([]string{"probe", "--endpoint=" + s.endpoint}, tc.args...)...); code != tc.code || !strings.Contains(out, tc.want) {
			t.Errorf("%s: code %d, %s", name, code, out)
		}
	}
	if code, out := run(t, nil, "probe", "--endpoint="+socket(t), "--timeout=2s"); code != 1 || !strings.Contains(out, "health") {
		t.Errorf("nobody serves: code %d, %s", code, out)
	}

	sick := socket(t)
	e, err := cmi.ParseEndpoint(sick)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := cmi.Listen(t.Context(), e)
	if err != nil {
		t.Fatal(err)
	}
	answers := health.NewServer()
	answers.SetServingStatus("", grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	other := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(other, answers)
	go other.Serve(listener)
	defer other.Stop()
	if code, out := run(t, nil, "probe", "--endpoint="+sick); code != 1 || !strings.Contains(out, "NOT_SERVING") {
		t.Errorf("not serving: code %d, %s", code, out)
	}
}

func TestOverTCPWithoutTLSOnLoopback(t *testing.T) {
	t.Parallel()
	s := serving(t, "tcp://"+freeAddress(t), nil, "--insecure")
	s.works("the start")
	if !strings.Contains(s.out.String(), "--insecure") {
		t.Errorf("it does not warn: %s", s.out)
	}
	if code, out := run(t, nil, "probe", "--insecure", "--endpoint="+s.endpoint); code != 0 {
		t.Errorf("probe: %d, %s", code, out)
	}
}

func TestMetricsAndHealthAreServed(t *testing.T) {
	t.Parallel()
	s := serving(t, socket(t), nil)
	s.works("the start")
	text := s.metricsText()
	for _, want := range []string{"grpc_server_handled_total", `grpc_method="GetVolumeIDs"`, "go_memstats_sys_bytes", "mcm_vch_image_pulls_running 0"} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
	if code, _ := s.get("/healthz"); code != http.StatusOK {
		t.Errorf("/healthz: %d", code)
	}
}

func TestProfilesAreServedOnlyWhenAskedFor(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		args []string
		want int
	}{
		"by default": {nil, http.StatusNotFound},
		"asked for":  {[]string{"--profiling"}, http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serving(t, socket(t), nil, tc.args...)
			for _, path := range []string{"/debug/pprof/", "/debug/pprof/cmdline", "/debug/pprof/heap", "/debug/pprof/goroutine?debug=1"} {
				if code, _ := s.get(path); code != tc.want {
					t.Errorf("%s: %d, want %d", path, code, tc.want)
				}
			}
		})
	}
}

func TestSIGTERMLetsCallsEndAndLogsOut(t *testing.T) {
	t.Parallel()
	sim := simulated(t, vchsim.Options{NoForeign: true, Guest: vchsim.GuestOptions{Delay: 1500 * time.Millisecond}})
	s := serving(t, socket(t), nil)
	created := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		defer cancel()
		_, err := s.machines().CreateMachine(ctx, &cmiv1.CreateMachineRequest{
			MachineName: "m-1", ProviderSpec: specOf(t, sim, nil), Secrets: sim.Secret(),
		})
		created <- err
	}()
	eventually(t, func() error {
		if sim.Calls()["PowerOnVM_Task"] == 0 {
			return errors.New("the machine is not being started")
		}
		return nil
	})
	if sim.Sessions() == 0 {
		t.Error("there is no session: this test could not fail")
	}
	s.signal(syscall.SIGTERM)
	if err := <-created; err != nil {
		t.Errorf("the call that was under way: %v", err)
	}
	if err := s.awaitEnd(); err != nil {
		t.Errorf("the end: %v\n%s", err, s.out)
	}
	if n := sim.Sessions(); n > 0 {
		t.Errorf("%d sessions are left", n)
	}
	if _, err := os.Stat(strings.TrimPrefix(s.endpoint, "unix://")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left: %v", err)
	}
}

func TestACallThatTakesTooLongIsCancelledAndItsSessionLoggedOut(t *testing.T) {
	t.Parallel()
	sim := simulated(t, vchsim.Options{NoForeign: true, Guest: vchsim.GuestOptions{Hang: true}})
	s := serving(t, socket(t), nil, "--shutdown-timeout=300ms")
	created := make(chan error, 1)
	go func() {
		_, err := s.machines().CreateMachine(context.Background(), &cmiv1.CreateMachineRequest{
			MachineName: "m-1", ProviderSpec: specOf(t, sim, nil), Secrets: sim.Secret(),
		})
		created <- err
	}()
	eventually(t, func() error {
		if sim.Calls()["PowerOnVM_Task"] == 0 {
			return errors.New("the machine is not being started")
		}
		return nil
	})
	s.signal(syscall.SIGINT)
	began := time.Now()
	if err := s.awaitEnd(); err != nil {
		t.Errorf("the end: %v\n%s", err, s.out)
	}
	if took := time.Since(began); took > 15*time.Second {
		t.Errorf("the end took %s", took)
	}
	if err := <-created; status.Code(err) != codes.Unavailable && status.Code(err) != codes.Canceled {
		t.Errorf("the call: %v", err)
	}
	if n := sim.Sessions(); n > 0 {
		t.Errorf("%d sessions are left", n)
	}
}

func TestASecondSignalEndsItAtOnce(t *testing.T) {
	t.Parallel()
	sim := simulated(t, vchsim.Options{NoForeign: true, Guest: vchsim.GuestOptions{Hang: true}})
	s := serving(t, socket(t), nil)
	go func() {
		_, _ = s.machines().CreateMachine(context.Background(), &cmiv1.CreateMachineRequest{
			MachineName: "m-1", ProviderSpec: specOf(t, sim, nil), Secrets: sim.Secret(),
		})
	}()
	eventually(t, func() error {
		if sim.Calls()["PowerOnVM_Task"] == 0 {
			return errors.New("the machine is not being started")
		}
		return nil
	})
	s.signal(syscall.SIGTERM)
	eventually(t, func() error {
		if !strings.Contains(s.out.String(), "Signal received") {
			return errors.New("the first signal is not seen")
		}
		return nil
	})
	s.signal(syscall.SIGTERM)
	var ended *exec.ExitError
	if err := s.awaitEnd(); !errors.As(err, &ended) || ended.ExitCode() != -1 {
		t.Errorf("it ended with %v", err)
	}
}

func TestASuccessorTakesTheSocketOfOneThatWasKilled(t *testing.T) {
	t.Parallel()
	at := socket(t)
	first := serving(t, at, nil)
	if code, out := run(t, nil, "--endpoint="+at, "--metrics-address="); code != 1 || !strings.Contains(out, "another process serves") {
		t.Errorf("a second one beside a live one: %d, %s", code, out)
	}
	first.works("a second one was refused")
	first.signal(syscall.SIGKILL)
	_ = first.awaitEnd()
	serving(t, at, nil).works("a kill of the first one")
}

func TestTheProgramUsesItsOwnCredentials(t *testing.T) {
	t.Parallel()
	sim := simulated(t, vchsim.Options{NoForeign: true})
	own := sim.Secret()
	s := serving(t, socket(t), nil, "--credentials-dir="+directory(t, own))
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if _, err := s.machines().ListMachines(ctx, &cmiv1.ListMachinesRequest{ProviderSpec: specOf(t, sim, nil)}); err != nil {
		t.Errorf("a request without a Secret: %v", err)
	}
	before := sim.Logins()
	_, err := s.machines().ListMachines(ctx, &cmiv1.ListMachinesRequest{
		ProviderSpec: specOf(t, sim, nil), Secrets: map[string][]byte{"vsphereHost": own["vsphereHost"]},
	})
	if status.Code(err) != codes.Unauthenticated || sim.Logins() != before {
		t.Errorf("a request with a host alone: %v, %d logins", err, sim.Logins()-before)
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/cmi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// asMain makes the test binary behave as the command, so that signals can be tried.
const asMain = "VCH_DRIVER_TEST_AS_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// limit ends what hangs.
const limit = time.Minute

// program is the command with arguments, in a process of its own.
type program struct {
	*exec.Cmd

	out *process.Output
}

func newProgram(ctx context.Context, env []string, args ...string) *program {
	p := &program{Cmd: exec.CommandContext(ctx, os.Args[0], args...), out: &process.Output{}}
	p.Env = append(append(os.Environ(), asMain+"=1"), env...)
	p.Stdout, p.Stderr = p.out, p.out
	return p
}

// run returns the exit code and all that was printed.
func run(t *testing.T, env []string, args ...string) (code int, out string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	p := newProgram(ctx, env, args...)
	err := p.Run()
	if p.ProcessState == nil || ctx.Err() != nil {
		t.Fatalf("%v: %v, %v\n%s", args, err, ctx.Err(), p.out)
	}
	return p.ProcessState.ExitCode(), p.out.String()
}

func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "drv") //nolint:usetesting // a test's own directory has too long a name for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return "unix://" + filepath.Join(dir, "cmi.sock")
}

// freeAddress is an address that nobody uses now.
func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// server is a driver that serves.
type server struct {
	*program
	testing.TB

	endpoint, metrics string
	ended             chan error
}

// serving starts a driver and waits until it serves.
func serving(t *testing.T, endpoint string, env []string, args ...string) *server {
	t.Helper()
	s := &server{TB: t, endpoint: endpoint, metrics: freeAddress(t), ended: make(chan error, 1)}
	ctx, cancel := context.WithCancel(context.Background())
	s.program = newProgram(ctx, env, append([]string{"--endpoint=" + endpoint, "--metrics-address=" + s.metrics}, args...)...)
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.ended <- s.Wait()
	}()
	t.Cleanup(func() { cancel(); <-done })
	d := s.driver()
	waiting, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	if err := d.Wait(waiting); err != nil {
		t.Fatalf("%v\n%s", err, s.out)
	}
	return s
}

func (s *server) driver() *cmi.Driver {
	s.Helper()
	e, err := cmi.ParseEndpoint(s.endpoint)
	if err != nil {
		s.Fatal(err)
	}
	d, err := cmi.NewDriver(cmi.DriverOptions{Endpoint: e})
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { d.Close() })
	return d
}

// conn is a connection of a client that knows nothing of us.
func (s *server) conn(options ...grpc.DialOption) *grpc.ClientConn {
	s.Helper()
	target := strings.Replace(s.endpoint, "tcp://", "passthrough:///", 1)
	conn, err := grpc.NewClient(target, append([]grpc.DialOption{grpc.WithTransportCredentials(insecure.NewCredentials())}, options...)...)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { conn.Close() })
	return conn
}

func (s *server) machines(options ...grpc.DialOption) cmiv1.MachineClient {
	s.Helper()
	return cmiv1.NewMachineClient(s.conn(options...))
}

// works checks that the server answers, over a new connection.
func (s *server) works(after string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	conn := s.conn()
	defer conn.Close()
	if _, err := cmiv1.NewIdentityClient(conn).Probe(ctx, &cmiv1.ProbeRequest{}); err != nil {
		s.Errorf("after %s: probe: %v", after, err)
	}
	if _, err := cmiv1.NewMachineClient(conn).GetVolumeIDs(ctx, &cmiv1.GetVolumeIDsRequest{PVSpecList: []byte("[{}]")}); err != nil {
		s.Errorf("after %s: a normal call: %v", after, err)
	}
}

// signal sends a signal.
func (s *server) signal(which syscall.Signal) {
	s.Helper()
	if err := s.Process.Signal(which); err != nil {
		s.Fatal(err)
	}
}

// awaitEnd waits for the end of the process, which is how it ended.
func (s *server) awaitEnd() error {
	s.Helper()
	select {
	case err := <-s.ended:
		return err
	case <-time.After(limit):
		s.Fatalf("it has not ended\n%s", s.out)
		return nil
	}
}

// metricsText is what /metrics says.
func (s *server) metricsText() string {
	s.Helper()
	code, text := s.get("/metrics")
	if code != http.StatusOK {
		s.Fatalf("/metrics: %d, %s", code, text)
	}
	return text
}

// get asks the port of metrics.
func (s *server) get(path string) (code int, text string) {
	s.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.metrics+path, nil)
	if err != nil {
		s.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		s.Fatalf("%s: %v", path, err)
	}
	return response.StatusCode, string(body)
}

// metric is the value of a metric without labels.
func (s *server) metric(name string) float64 {
	s.Helper()
	for lines := bufio.NewScanner(strings.NewReader(s.metricsText())); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), name+" "); ok {
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				s.Fatal(err)
			}
			return number
		}
	}
	s.Fatalf("there is no metric %s", name)
	return 0
}

// memory is all that the process has got from the system for Go: it never falls.
func (s *server) memory() int { return int(s.metric("go_memstats_sys_bytes")) >> 20 }

// eventually repeats check until it is content.
func eventually(t testing.TB, check func() error) {
	t.Helper()
	over := time.After(limit)
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-over:
			t.Fatalf("still: %v", err)
		case <-ticker.C:
		}
	}
}

func simulated(t *testing.T, options vchsim.Options) *vchsim.Sim {
	t.Helper()
	options.Dir = t.TempDir()
	sim, err := vchsim.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	return sim
}

// specOf is the simulator's ProviderSpec with changes.
func specOf(t *testing.T, sim *vchsim.Sim, changes map[string]any) []byte {
	t.Helper()
	encoded, err := json.Marshal(sim.ProviderSpec())
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]any{}
	if err := json.Unmarshal(encoded, &all); err != nil {
		t.Fatal(err)
	}
	for key, value := range changes {
		all[key] = value
	}
	if encoded, err = json.Marshal(all); err != nil {
		t.Fatal(err)
	}
	return encoded
}

// directory is one with a file for each value.
func directory(t *testing.T, data map[string][]byte) string {
	t.Helper()
	dir := t.TempDir()
	for key, value := range data {
		if err := os.WriteFile(filepath.Join(dir, key), value, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

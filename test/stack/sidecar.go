// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/cluster"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
)

// sidecar is the driver in a process of its own, and what its container in the
// Deployment mounts.
type sidecar struct {
	// sockets is the directory of the socket. The path of a socket has room for some
	// hundred bytes only, so it is not in the directory of the installation.
	sockets string
	// credentials is empty unless the driver has its own.
	credentials string
	metrics     int // port
	process     *process.Process
}

// endpoint is where the driver serves.
func (s *sidecar) endpoint() string { return "unix://" + filepath.Join(s.sockets, "cmi.sock") }

// mount makes the directories that the driver's container has as volumes.
func (s *Stack) mount() error {
	side := &sidecar{credentials: filepath.Join(s.options.Dir, "credentials")}
	if err := os.Mkdir(side.credentials, 0o700); err != nil {
		return fmt.Errorf("make the directory of the driver's credentials: %w", err)
	}
	if s.options.OwnCredentials {
		for _, key := range v1alpha1.ConnectionKeys() {
			value, found := s.vcenter.Secret[key]
			if !found {
				continue
			}
			if err := os.WriteFile(filepath.Join(side.credentials, key), []byte(value), 0o600); err != nil {
				return fmt.Errorf("write the driver's credentials: %w", err)
			}
		}
	}
	var err error
	if side.sockets, err = os.MkdirTemp("", "vch-"); err != nil {
		return fmt.Errorf("make a directory for the driver's socket: %w", err)
	}
	s.sidecar = side
	return nil
}

// StartDriver starts the driver of a Sidecar installation, unless it runs, and
// returns when it is ready.
func (s *Stack) StartDriver(ctx context.Context) error {
	side := s.sidecar
	if side == nil {
		return errors.New("the driver is part of the machine-controller")
	}
	if side.process != nil {
		return nil
	}
	if err := s.launchDriver(ctx); err != nil {
		return err
	}
	// As the kubelet asks it.
	return s.ready(ctx, side.process, process.Exec(s.options.Programs.Path(VCHDriver), "probe", "--endpoint="+side.endpoint()))
}

// launchDriver starts the driver, which does not run, and does not wait for it.
func (s *Stack) launchDriver(ctx context.Context) error {
	side := s.sidecar
	flags, err := s.flags(VCHDriver)
	if err != nil {
		return err
	}
	ports, err := cluster.FreePorts(ctx, 1)
	if err != nil {
		return err
	}
	side.metrics = ports[0]
	flags = append(flags, "--endpoint="+side.endpoint(), "--credentials-dir="+side.credentials,
		fmt.Sprintf("--metrics-address=127.0.0.1:%d", side.metrics),
		fmt.Sprintf("--profiling=%t", s.options.Profiling), "--v=3")
	side.process, err = s.start(ctx, VCHDriver, s.options.Programs.Path(VCHDriver), flags)
	return err
}

// KillDriver ends the driver of a Sidecar installation as a crash would, alone.
func (s *Stack) KillDriver() { s.StopDriver(0) }

// StopDriver asks the driver of a Sidecar installation to end and kills it when it
// has not within grace. That is no error for Err. It may be repeated, and does
// nothing if the driver is part of the machine-controller.
func (s *Stack) StopDriver(grace time.Duration) {
	if s.sidecar == nil || s.sidecar.process == nil {
		return
	}
	s.sidecar.process.Stop(grace)
	s.sidecar.process = nil
}

// Endpoint is where the driver of a Sidecar installation serves CMI.
func (s *Stack) Endpoint() string { return s.sidecar.endpoint() }

// callCount is a line of gRPC's metrics.
var callCount = regexp.MustCompile(`^grpc_server_(started|handled)_total\{.*grpc_method="(\w+)",grpc_service="cmi\.v1\.Machine".*\} (\S+)$`)

// Calls are MCM's calls of one method since the driver's process started.
type Calls struct{ UnderWay, Ended int }

// Calls asks the driver of a Sidecar installation for the calls of each method of CMI.
func (s *Stack) Calls(ctx context.Context) (map[string]Calls, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/metrics", s.sidecar.metrics), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make a request for the driver's metrics: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("get the driver's metrics: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	return countCalls(response.Body)
}

// countCalls reads the metrics of a gRPC server.
func countCalls(metrics io.Reader) (map[string]Calls, error) {
	calls := map[string]Calls{}
	lines := bufio.NewScanner(metrics)
	for lines.Scan() {
		found := callCount.FindStringSubmatch(lines.Text())
		if found == nil {
			continue
		}
		value, err := strconv.ParseFloat(found[3], 64)
		if err != nil {
			return nil, fmt.Errorf("read the driver's metrics: %w", err)
		}
		count, of := int(value), calls[found[2]]
		if found[1] == "handled" {
			of.Ended += count
			count = -count
		}
		of.UnderWay += count
		calls[found[2]] = of
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the driver's metrics: %w", err)
	}
	if len(calls) == 0 {
		return nil, errors.New("the driver's metrics count no calls")
	}
	return calls, nil
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"fmt"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
)

// controller is MCM or the machine-controller, and how to start it again.
type controller struct {
	name, path string
	args       []string
	port       int
	process    *process.Process
}

// Kill ends one program of the Pod as a crash would: MCM, MachineController or, in a
// Sidecar installation, VCHDriver. Revive starts it again. A program that does not run
// is no error, one that the Pod does not have is.
func (s *Stack) Kill(name string) error {
	if name == VCHDriver && s.sidecar != nil {
		s.KillDriver()
		return nil
	}
	for _, c := range s.controllers {
		if c.name == name {
			c.process.Stop(0)
			return nil
		}
	}
	return fmt.Errorf("kill %s: the installation has no such program", name)
}

// Revive starts every program of the Pod that has ended, however that came, with the
// flags that it had, and returns their names. It does not wait until they are ready. It
// is what the kubelet does, without its back-off.
func (s *Stack) Revive(ctx context.Context) ([]string, error) {
	var names []string
	if s.sidecar != nil && (s.sidecar.process == nil || s.sidecar.process.Err() != nil) {
		if err := s.launchDriver(ctx); err != nil {
			return nil, err
		}
		names = append(names, VCHDriver)
	}
	for _, c := range s.controllers {
		if c.process.Err() == nil {
			continue
		}
		var err error
		if c.process, err = s.start(ctx, c.name, c.path, c.args); err != nil {
			return names, err
		}
		names = append(names, c.name)
	}
	return names, nil
}

// Metrics are the addresses of the metrics of the Pod's programs, by name.
func (s *Stack) Metrics() map[string]string { return s.pages("metrics") }

// Profiles are the addresses below which the Pod's programs serve their profiles, by
// name. They do with Options.Profiling.
func (s *Stack) Profiles() map[string]string { return s.pages("debug/pprof/") }

// pages are the addresses of one page of the Pod's programs.
func (s *Stack) pages(path string) map[string]string {
	at := map[string]string{}
	add := func(name string, port int) { at[name] = fmt.Sprintf("http://127.0.0.1:%d/%s", port, path) }
	for _, c := range s.controllers {
		add(c.name, c.port)
	}
	if s.sidecar != nil && s.sidecar.metrics != 0 {
		add(VCHDriver, s.sidecar.metrics)
	}
	return at
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// Programs are the programs of an installation and what they need of the sources.
type Programs struct {
	// Root is the directory of this repository.
	Root string
	// ControlPlane is the directory with what hack/controlplane.sh builds.
	ControlPlane string
	// Bin is the directory with what is built from this repository.
	Bin string
	// CRDs is the directory with MCM's custom resource definitions.
	CRDs string
}

// MachineController, VCHDriver, VCHSim and VCHCtl are this repository's programs, MCM and
// Kubectl are among those of the control plane.
const (
	MCM               = "machine-controller-manager"
	Kubectl           = "kubectl"
	MachineController = "machine-controller"
	VCHDriver         = "vch-driver"
	VCHSim            = "vchsim"
	VCHCtl            = "vchctl"
)

// Path is the path of one of this repository's programs.
func (p *Programs) Path(program string) string { return filepath.Join(p.Bin, program) }

// Tool is the path of one of the control plane's programs.
func (p *Programs) Tool(program string) string { return filepath.Join(p.ControlPlane, program) }

// Build builds this repository's programs into bin and those of the control plane
// into the user's cache, unless controlPlane names a directory where they are
// already. Progress lines go to out. It runs in any directory of the repository.
func Build(ctx context.Context, out io.Writer, bin, controlPlane string) (*Programs, error) {
	root, err := output(ctx, out, ".", "go", "list", "-m", "-f", "{{.Dir}}")
	if err != nil {
		return nil, fmt.Errorf("find the root of the repository: %w", err)
	}
	const mcm = "github.com/gardener/machine-controller-manager"
	if _, err := output(ctx, out, root, "go", "mod", "download", mcm); err != nil {
		return nil, fmt.Errorf("fetch MCM's sources: %w", err)
	}
	sources, err := output(ctx, out, root, "go", "list", "-m", "-f", "{{.Dir}}", mcm)
	if err != nil {
		return nil, fmt.Errorf("find MCM's sources: %w", err)
	}
	if controlPlane == "" {
		if controlPlane, err = output(ctx, out, root, filepath.Join("hack", "controlplane.sh")); err != nil {
			return nil, fmt.Errorf("build the control plane: %w", err)
		}
	}
	p := &Programs{Root: root, ControlPlane: controlPlane, Bin: bin, CRDs: filepath.Join(sources, "kubernetes", "crds")}
	for _, program := range []string{MachineController, VCHDriver, VCHSim, VCHCtl} {
		if err := p.build(ctx, out, program); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func (p *Programs) build(ctx context.Context, out io.Writer, program string) error {
	start := time.Now()
	if _, err := output(ctx, out, p.Root, "go", "build", "-ldflags=-s -w", "-o", p.Path(program), "./cmd/"+program); err != nil {
		return fmt.Errorf("build %s: %w", program, err)
	}
	_, err := fmt.Fprintf(out, "%s built in %d s\n", program, int(time.Since(start).Seconds()))
	return err
}

// output runs a command in a directory and returns what it prints, without the
// line end. What it prints to stderr goes to out at once.
func output(ctx context.Context, out io.Writer, dir, name string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = dir
	command.Stderr = out
	// A build that is cancelled removes what it has begun.
	command.Cancel = func() error { return command.Process.Signal(os.Interrupt) }
	command.WaitDelay = 10 * time.Second
	var stdout bytes.Buffer
	command.Stdout = &stdout
	if err := command.Run(); err != nil {
		return "", fmt.Errorf("run %s: %w", strings.Join(append([]string{name}, args...), " "), errors.Join(err, ctx.Err()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

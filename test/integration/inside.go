// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/onsi/ginkgo/v2/types"
	"golang.org/x/sys/unix"
	"sigs.k8s.io/yaml"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/cluster"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

// Names that the framework insists on.
const (
	className  = "test-mc-v1"
	secretName = "test-mc-secret"
	namespace  = "integration"
)

// specs is how many specs the framework has.
const specs = 10

// report is the name of the file with what became of them.
const report = "report.json"

// workspace is where the framework runs.
func (s specification) workspace() string { return filepath.Join(s.Dir, "workspace") }

// runInside runs the suite in the private namespaces.
func (s specification) runInside(ctx context.Context) error {
	if os.Getpid() != 1 {
		return errors.New("not in a PID namespace of its own: this would end processes of others")
	}
	if err := raiseLoopback(); err != nil {
		return err
	}
	clusterDir, err := tempDir(s.Dir, "cluster")
	if err != nil {
		return err
	}
	c, err := cluster.Start(ctx, cluster.Options{Programs: s.Programs.ControlPlane, Dir: clusterDir})
	if err != nil {
		return err
	}
	defer c.Stop()
	stackDir, err := tempDir(s.Dir, "stack")
	if err != nil {
		return err
	}
	installed, err := stack.Start(ctx, stack.Options{
		Programs: s.Programs, Cluster: c, Dir: stackDir, Namespace: namespace, Join: true, Sidecar: s.Sidecar, NoControllers: true,
	})
	if err != nil {
		return err
	}
	defer installed.Stop()
	if s.Sidecar {
		if err := installed.StartDriver(ctx); err != nil {
			return err
		}
	}
	w := workspace{dir: s.workspace(), programs: s.Programs, cluster: c}
	if err := w.prepare(ctx, installed); err != nil {
		return err
	}
	err = errors.Join(w.runSuite(ctx), installed.Err())
	if s.Sidecar {
		err = errors.Join(err, wasAsked(ctx, installed))
	}
	if err != nil {
		return fmt.Errorf("%w\n%s", err, w.logs())
	}
	return nil
}

// wasAsked returns an error if nobody has asked the driver for a machine: then the
// machine-controller did not know of it.
func wasAsked(ctx context.Context, s *stack.Stack) error {
	calls, err := s.Calls(ctx)
	if err == nil && calls["CreateMachine"].Ended == 0 {
		err = errors.New("the driver was never asked for a machine")
	}
	return err
}

// raiseLoopback brings the loopback interface of the network namespace up.
func raiseLoopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer unix.Close(socket) //nolint:errcheck // nothing was written
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("name the loopback interface: %w", err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, request); err != nil {
		return fmt.Errorf("bring the loopback interface up: %w", err)
	}
	return nil
}

// workspace is the tree of directories that the framework expects around the
// suite's working directory.
type workspace struct {
	dir      string
	programs *stack.Programs
	cluster  *cluster.Cluster
}

func (w *workspace) at(path ...string) string {
	return filepath.Join(append([]string{w.dir}, path...)...)
}

// startMakefile is a Makefile whose target start runs a controller with the
// variables that the framework gives it. The framework knows the process again by
// the program's name and its first flag.
func startMakefile(program, flags string) string {
	return "start:\n\t@exec " + program + " --control-kubeconfig=$(CONTROL_KUBECONFIG) --target-kubeconfig=$(TARGET_KUBECONFIG)" +
		" --namespace=$(CONTROL_NAMESPACE) --leader-elect=$(LEADER_ELECT) --address=127.0.0.1 " + flags + " --v=3\n"
}

func (w *workspace) prepare(ctx context.Context, s *stack.Stack) error {
	for _, dir := range []string{"test/integration/controller", ".ci/controllers-test/logs", "dev/mcm/.git", "dev/mcm/kubernetes"} {
		if err := os.MkdirAll(w.at(dir), 0o700); err != nil {
			return fmt.Errorf("make the workspace: %w", err)
		}
	}
	flags := "--machine-creation-timeout=5m --machine-health-timeout=2m --machine-drain-timeout=2m" +
		" --machine-safety-apiserver-statuscheck-period=10s --machine-safety-apiserver-statuscheck-timeout=5s"
	if s.DriverProcess() != stack.MachineController {
		flags += " --cmi-endpoint=" + s.Endpoint()
	}
	driver := startMakefile(w.programs.Path(stack.MachineController), flags)
	mcm := startMakefile(w.programs.Tool(stack.MCM), "--machine-safety-overshooting-period=$(MACHINE_SAFETY_OVERSHOOTING_PERIOD)")
	// The framework merges this into both classes.
	patch := `{"providerSpec": {"tags": {"mcm-integration-test": "true"}}}`
	class, err := w.class(ctx, s)
	if err != nil {
		return err
	}
	err = errors.Join(
		os.WriteFile(w.at("Makefile"), []byte(driver), 0o600),
		os.WriteFile(w.at("dev/mcm/Makefile"), []byte(mcm), 0o600),
		os.WriteFile(w.at(".ci/controllers-test/machine-class-patch.json"), []byte(patch), 0o600),
		os.WriteFile(w.at("class.yaml"), class, 0o600),
		os.CopyFS(w.at("dev/mcm/kubernetes/crds"), os.DirFS(w.programs.CRDs)),
	)
	if err != nil {
		return fmt.Errorf("fill the workspace: %w", err)
	}
	return nil
}

// class applies the Secret and returns the class, both made of the samples.
func (w *workspace) class(ctx context.Context, s *stack.Stack) ([]byte, error) {
	samples, err := s.Samples()
	if err != nil {
		return nil, err
	}
	secret, class := samples["Secret"], samples["MachineClass"]
	secret.SetName(secretName)
	if err := s.Apply(ctx, secret); err != nil {
		return nil, err
	}
	class.SetName(className)
	class.Object["secretRef"] = map[string]any{"name": secretName, "namespace": namespace}
	content, err := yaml.Marshal(class.Object)
	if err != nil {
		return nil, fmt.Errorf("encode the class: %w", err)
	}
	return content, nil
}

func (w *workspace) runSuite(ctx context.Context) error {
	command := exec.CommandContext(ctx, w.programs.Path(suite), "-test.timeout=20m", "-ginkgo.no-color", "-ginkgo.json-report="+w.at(report))
	command.Dir = w.at("test/integration/controller")
	command.Env = append(os.Environ(),
		"CONTROL_KUBECONFIG="+w.cluster.AdminKubeconfig(), "TARGET_KUBECONFIG="+w.cluster.AdminKubeconfig(),
		"CONTROL_CLUSTER_NAMESPACE="+namespace, "IS_CONTROL_CLUSTER_SEED=false", "TARGET_CLUSTER_NAME=loopback",
		"MACHINECLASS_V1="+w.at("class.yaml"))
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("run the suite: %w", err)
	}
	return nil
}

// count says how many specs have passed. It reads the report of the suite: an empty
// one is no success either.
func (s specification) count() error {
	passed := 0
	content, err := os.ReadFile(filepath.Join(s.workspace(), report))
	if err != nil {
		err = fmt.Errorf("%s: read the report: %w", s.Name, err)
	} else {
		var suites []types.Report
		if err = json.Unmarshal(content, &suites); err != nil {
			err = fmt.Errorf("%s: decode the report: %w", s.Name, err)
		}
		for i := range suites {
			passed += suites[i].SpecReports.WithLeafNodeType(types.NodeTypeIt).CountWithState(types.SpecStatePassed)
		}
	}
	if passed != specs {
		err = errors.Join(err, fmt.Errorf("%s: %d specs passed, want %d", s.Name, passed, specs))
	}
	_, failed := fmt.Fprintf(os.Stdout, "%s: %d/%d specs passed\n", s.Name, passed, specs)
	return errors.Join(err, failed)
}

// logs are the ends of the controllers' logs.
func (w *workspace) logs() string {
	text := ""
	for _, name := range []string{"mc_process.log", "mcm_process.log"} {
		file := w.at(".ci/controllers-test/logs", name)
		text += fmt.Sprintf("the end of %s:\n%s\n", file, process.Tail(file, 40))
	}
	return text
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	machineclient "github.com/gardener/machine-controller-manager/pkg/client/clientset/versioned/typed/machine/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/cluster"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
)

// startTimeout is how long one program may take until it is ready.
const startTimeout = 2 * time.Minute

// stopTimeout is how long the simulated vCenter may take to end the nodes.
const stopTimeout = 20 * time.Second

// Options say what to install.
type Options struct {
	Programs *Programs
	// Cluster is the control cluster, and the target cluster if Join is set.
	Cluster *cluster.Cluster
	// Dir is an existing, empty directory for logs and kubeconfigs.
	Dir string
	// Namespace is made for the installation.
	Namespace string
	// Join makes machines join the cluster. At most one installation of a
	// cluster can do that: MCM takes all nodes for its own.
	Join bool
	// Sidecar takes the variant of the manifests in which the driver is a process of
	// its own. Otherwise it is part of the machine-controller.
	Sidecar bool
	// OwnCredentials gives vCenter's credentials to that process and to nobody else:
	// the Secret of the samples then has userData only.
	OwnCredentials bool
	// Image serves an image registry beside the vCenter: the root disks of the samples'
	// machines are made from its node image. Otherwise they are children of a disk that
	// was prepared by hand.
	Image bool
	// VCHSimArgs are further flags of the simulated vCenter.
	VCHSimArgs []string
	// MCMArgs are further flags of MCM.
	MCMArgs []string
	// Profiling makes all programs of the Pod serve their profiles beside their metrics.
	Profiling bool
	// VCenter is a vCenter that serves already, as when the test itself simulates it. The
	// installation then starts none, and leaves it alone.
	VCenter *VCenter
	// NoControllers leaves MCM, the machine-controller and the driver out;
	// StartControllers and StartDriver can start them later.
	NoControllers bool
}

// VCenter is what the simulated vCenter says about itself when it serves.
type VCenter struct {
	URL        string `json:"url"`
	Username   string `json:"username"`
	Password   string `json:"password"`
	Thumbprint string `json:"thumbprint"`
	VCH        string `json:"vch"`
	Datacenter string `json:"datacenter"`
	PID        int    `json:"pid"`
	// Image is the reference of the node image, empty without a registry.
	Image string `json:"image"`
	// ProviderSpec and Secret are ready to use for this VCH.
	ProviderSpec map[string]any    `json:"providerSpec"`
	Secret       map[string]string `json:"secret"`
}

// Stack is a running installation.
type Stack struct {
	options     Options
	vcenter     VCenter
	deployment  appsv1.Deployment // that of the manifests
	kubeconfig  string            // with the rights of its service account
	simulator   *process.Process
	sidecar     *sidecar // nil: the driver is part of the machine-controller
	controllers []*controller
	// Kube and Machines are clients with all rights.
	Kube     kubernetes.Interface
	Machines machineclient.MachineV1alpha1Interface
}

// Start installs and returns when everything runs. The control plane must have
// MCM's custom resource definitions. When it fails, nothing is left running.
func Start(ctx context.Context, options Options) (_ *Stack, err error) {
	if options.OwnCredentials && !options.Sidecar {
		return nil, errors.New("only a driver in a process of its own can have its own credentials")
	}
	s := &Stack{options: options}
	defer func() {
		if err != nil {
			s.Stop()
		}
	}()
	if s.Kube, err = kubernetes.NewForConfig(options.Cluster.Admin()); err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	if s.Machines, err = machineclient.NewForConfig(options.Cluster.Admin()); err != nil {
		return nil, fmt.Errorf("make a client for machines: %w", err)
	}
	if err := s.startVCenter(ctx); err != nil {
		return nil, err
	}
	if err := s.install(ctx); err != nil {
		return nil, err
	}
	if options.Sidecar {
		if err := s.mount(); err != nil {
			return nil, err
		}
	}
	if options.NoControllers {
		return s, nil
	}
	return s, s.StartControllers(ctx)
}

// Stop ends all programs of the installation. The objects in the cluster stay. It
// may be repeated.
func (s *Stack) Stop() {
	s.StopControllers()
	s.KillDriver()
	if s.sidecar != nil {
		_ = os.RemoveAll(s.sidecar.sockets) // an empty directory is left at worst
	}
	if s.simulator != nil {
		s.simulator.Stop(stopTimeout) // it ends its nodes
	}
}

// StopControllers ends MCM and the machine-controller as a crash would. A driver
// in a process of its own goes on.
func (s *Stack) StopControllers() {
	for _, c := range s.controllers {
		c.process.Stop(0)
	}
	s.controllers = nil
}

// Err is not nil when a program has ended that was not stopped; it says which one
// and why.
func (s *Stack) Err() error {
	var all []error
	for _, p := range s.Processes() {
		all = append(all, p.Err())
	}
	return errors.Join(all...)
}

// KubeletLogs returns the files of the kubelets of the VMs that run, if machines join as nodes.
func (s *Stack) KubeletLogs() []string {
	files, _ := filepath.Glob(filepath.Join(s.options.Dir, "*", "k*", "log")) // the pattern is right
	return files
}

// Processes are the running programs of the installation, the simulated vCenter first.
func (s *Stack) Processes() []*process.Process {
	var all []*process.Process
	if s.simulator != nil {
		all = append(all, s.simulator)
	}
	for _, c := range s.controllers {
		all = append(all, c.process)
	}
	if s.sidecar != nil && s.sidecar.process != nil {
		all = append(all, s.sidecar.process)
	}
	return all
}

// VCenter describes the simulated vCenter.
func (s *Stack) VCenter() VCenter { return s.vcenter }

// Namespace is the namespace of the installation.
func (s *Stack) Namespace() string { return s.options.Namespace }

// Joins says whether machines join the cluster as nodes.
func (s *Stack) Joins() bool { return s.options.Join }

// Cluster is the control plane of the installation.
func (s *Stack) Cluster() *cluster.Cluster { return s.options.Cluster }

// DriverProcess is the name of the process that the driver runs in.
func (s *Stack) DriverProcess() string {
	if s.options.Sidecar {
		return VCHDriver
	}
	return MachineController
}

// ReadyFile is the path of the file with which the simulated vCenter describes itself.
func (s *Stack) ReadyFile() string { return filepath.Join(s.options.Dir, "vcenter.json") }

func (s *Stack) startVCenter(ctx context.Context) error {
	if s.options.VCenter != nil {
		s.vcenter = *s.options.VCenter
		return nil
	}
	args := append([]string{"--listen=127.0.0.1:0", "--ready-file=" + s.ReadyFile()}, s.options.VCHSimArgs...)
	if s.options.Image {
		args = append(args, "--registry")
	}
	if s.options.Join {
		args = append(args, "--kubeconfig="+s.options.Cluster.AdminKubeconfig(), "--kubemark="+s.options.Programs.Tool("kubemark"))
	}
	var err error
	s.simulator, err = s.start(ctx, VCHSim, s.options.Programs.Path(VCHSim), args)
	if err != nil {
		return err
	}
	return s.ready(ctx, s.simulator, func(context.Context) error {
		content, err := os.ReadFile(s.ReadyFile())
		if errors.Is(err, fs.ErrNotExist) {
			return errors.New("it does not serve yet")
		}
		if err != nil {
			return fmt.Errorf("read what it says about itself: %w", err)
		}
		if err := json.Unmarshal(content, &s.vcenter); err != nil {
			return fmt.Errorf("decode what it says about itself: %w", err)
		}
		return nil
	})
}

// StartControllers starts the driver, if it is a process of its own that does not
// run, then MCM and the machine-controller, and returns when all are healthy.
func (s *Stack) StartControllers(ctx context.Context) error {
	if s.sidecar != nil {
		if err := s.StartDriver(ctx); err != nil {
			return err
		}
	}
	ports, err := cluster.FreePorts(ctx, 2)
	if err != nil {
		return err
	}
	target := "none"
	if s.options.Join {
		target = s.kubeconfig
	}
	common := func(port int) []string {
		return []string{
			"--control-kubeconfig=" + s.kubeconfig, "--target-kubeconfig=" + target, "--namespace=" + s.options.Namespace,
			"--address=127.0.0.1", fmt.Sprintf("--port=%d", port), "--kube-api-qps=200", "--kube-api-burst=400", "--v=3",
			fmt.Sprintf("--profiling=%t", s.options.Profiling),
		}
	}
	mcm := append(append(common(ports[0]), "--machine-safety-overshooting-period=300ms"), s.options.MCMArgs...)
	if err := s.startController(ctx, MCM, s.options.Programs.Tool(MCM), mcm, ports[0]); err != nil {
		return err
	}
	driver := append(common(ports[1]),
		"--machine-creation-timeout=3m", "--machine-health-timeout=2m", "--machine-drain-timeout=1m",
		"--machine-safety-orphan-vms-period=15s", "--machine-safety-apiserver-statuscheck-period=10s", "--machine-safety-apiserver-statuscheck-timeout=5s")
	if s.sidecar != nil {
		driver = append(driver, "--cmi-endpoint="+s.Endpoint())
	}
	return s.startController(ctx, MachineController, s.options.Programs.Path(MachineController), driver, ports[1])
}

// startController runs a container of the Deployment with its flags and with
// those that make it fit for a test: the last one of a name wins.
func (s *Stack) startController(ctx context.Context, name, path string, args []string, port int) error {
	flags, err := s.flags(name)
	if err != nil {
		return err
	}
	c := &controller{name: name, path: path, args: append(flags, args...), port: port}
	if c.process, err = s.start(ctx, c.name, c.path, c.args); err != nil {
		return err
	}
	s.controllers = append(s.controllers, c)
	return s.ready(ctx, c.process, process.HTTP(fmt.Sprintf("http://127.0.0.1:%d/healthz", port), nil))
}

func (s *Stack) start(ctx context.Context, name, path string, args []string) (*process.Process, error) {
	return process.Start(ctx, process.Command{Name: name, Path: path, Args: args, LogDir: s.options.Dir, Env: []string{"TMPDIR=" + s.options.Dir}})
}

func (s *Stack) ready(ctx context.Context, p *process.Process, probe func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return p.WaitReady(ctx, probe)
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Command vchsim serves a simulated vCenter with a VCH for tests and demos, until
// it is told to end. test/vchsim says what is in that world.
//
// With --ready-file, others learn where it serves and how to use it: the file
// appears when the first request can be answered and holds one JSON object (see
// ready). Nothing in it is worth protecting: the world dies with the program.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vchsim:", err)
		os.Exit(1)
	}
}

// ready is what stands in the ready file.
type ready struct {
	// URL is the address of the vSphere API; Username and Password log in there.
	URL        string `json:"url"`
	Username   string `json:"username"`
	Password   string `json:"password"`
	Thumbprint string `json:"thumbprint"`
	VCH        string `json:"vch"`
	Datacenter string `json:"datacenter"`
	// PID is the simulator's process id; SIGTERM ends it and all that it started.
	PID int `json:"pid"`
	// Image is the reference of the node image in the registry, RegistryCA the PEM
	// certificate that signs the registry's. Without a registry there are none; without
	// RegistryCA it speaks http.
	Image      string `json:"image,omitempty"`
	RegistryCA string `json:"registryCA,omitempty"`
	// ProviderSpec and Secret are ready to use for this VCH. With a registry, machines
	// have the node image.
	ProviderSpec *v1alpha1.ProviderSpec `json:"providerSpec"`
	Secret       map[string]string      `json:"secret"`
}

const (
	// defaultContainers is the number of docker's containers unless a flag says otherwise.
	defaultContainers = 2
	// newestData is VIC's last data version.
	newestData = 10
)

func command() *cobra.Command {
	var (
		options   vchsim.Options
		faults    []string
		readyFile string
		registry  registryFlags
	)
	cmd := &cobra.Command{
		Use:           "vchsim",
		Short:         "Serve a simulated vCenter that holds a VCH",
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, text := range faults {
				rule, err := vchsim.ParseFaultRule(text)
				if err != nil {
					return fmt.Errorf("flag --fault: %w", err)
				}
				options.Faults = append(options.Faults, rule)
			}
			options.Registry = registry.options()
			return serve(cmd.Context(), options, readyFile, cmd.OutOrStdout())
		},
	}
	cmd.SetVersionTemplate("{{.Version}}\n")
	options.VCHDataVersion = new(int)
	f := cmd.Flags()
	f.StringVar(&options.Listen, "listen", "127.0.0.1:0", "address to serve on; port 0 is any free one")
	f.StringVar(&options.VCH, "vch", vchsim.DefaultVCH, "name of the VCH")
	f.IntVar(options.VCHDataVersion, "vch-data-version", newestData, "data version that the VCHs' configurations have: what older versions of VIC stored")
	f.StringVar(&options.Datacenter, "datacenter", vchsim.DefaultDatacenter, "name of the datacenter")
	f.StringVar(&options.Username, "username", vchsim.DefaultUsername, "user that may log in")
	f.StringVar(&options.Password, "password", vchsim.DefaultPassword, "the user's password")
	f.IntVar(&options.OtherVMs, "vms", 0, "number of VMs outside of all VCHs")
	f.IntVar(&options.DockerContainers, "docker-containers", defaultContainers, "number of container VMs that docker made in the VCH")
	f.BoolVar(&options.NoForeign, "no-foreign", false, "leave out the second VCH and other clusters' machines")
	f.BoolVar(&options.VSAN, "vsan", false, "make the datastores vSAN datastores")
	f.StringVar(&options.NFS, "nfs", "", "nfs://HOST/PATH of the VCH's volume store share; there is none otherwise")
	f.BoolVar(&options.NoDefaultStore, "no-default-store", false, "leave out the volume store default")
	f.BoolVar(&registry.serve, "registry", false, "serve an image registry with a node image as well, on loopback, by http")
	f.StringVar(&registry.listen, "registry-listen", "127.0.0.1:0", "address of that registry; port 0 is any free one")
	f.BoolVar(&registry.tls, "registry-tls", false, "make it speak https, with an authority of its own")
	f.DurationVar(&registry.delay, "registry-delay", 0, "time before that registry sends a blob")
	f.DurationVar(&options.Latency, "latency", 0, "added to each request")
	f.StringArrayVar(&faults, "fault", nil, "METHOD=PROBABILITY[:KIND]: make calls fail; may be repeated. KIND is a vSphere fault (default InvalidState), task:FAULT, HTTP503, ConnectionReset or ResponseLost")
	f.DurationVar(&options.Guest.Delay, "guest-delay", 0, "time from a VM's power-on to its guest's first word")
	f.StringVar(&options.Guest.Fail, "guest-fail", "", "text that guests write instead of starting")
	f.BoolVar(&options.Guest.Diary, "guest-diary", false, "make each guest add a line with its machine's name to the file "+vchsim.Diary+" of its volumes")
	f.StringVar(&options.Kubeconfig, "kubeconfig", "", "kubeconfig of a cluster that started machines join as hollow kubelets")
	f.StringVar(&options.Kubemark, "kubemark", "kubemark", "the kubemark program; only with --kubeconfig")
	f.StringVar(&readyFile, "ready-file", "", "file to write when the simulator serves")
	f.StringVar(&options.Dir, "dir", "", "directory for the simulated datastores (default the system's temporary directory)")
	return cmd
}

// registryFlags say whether there is a registry.
type registryFlags struct {
	serve, tls bool
	listen     string
	delay      time.Duration
}

func (f registryFlags) options() *images.Options {
	if !f.serve {
		return nil
	}
	return &images.Options{Listen: f.listen, TLS: f.tls, Delay: f.delay}
}

func serve(ctx context.Context, options vchsim.Options, readyFile string, out io.Writer) error {
	if options.DockerContainers == 0 {
		options.DockerContainers = -1 // 0 would be the default
	}
	sim, err := vchsim.Start(ctx, options)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer sim.Close()
	if readyFile != "" {
		if err := writeReady(readyFile, sim); err != nil {
			return err
		}
		defer func() {
			// It would name a program that is gone; if it cannot be removed, its pid tells.
			_ = os.Remove(readyFile)
		}()
	}
	if _, err := fmt.Fprintf(out, "%s serves VCH %s of datacenter %s since %s\n", sim.URL(), sim.VCHName, sim.Datacenter, time.Now().Format(time.TimeOnly)); err != nil {
		return fmt.Errorf("say where it serves: %w", err)
	}
	if err := sayImage(out, sim); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// sayImage says where the node image is, and what a ProviderSpec needs to get it.
func sayImage(out io.Writer, sim *vchsim.Sim) error {
	if sim.NodeImage() == "" {
		return nil
	}
	needs := "registries.insecure: [" + sim.Registry().Host() + "]"
	if ca := sim.RegistryCA(); ca != nil {
		needs = "this as registries.caBundle:\n" + string(ca)
	}
	if _, err := fmt.Fprintf(out, "the node image is %s; a ProviderSpec needs %s\n", sim.NodeImage(), strings.TrimSpace(needs)); err != nil {
		return fmt.Errorf("say where the node image is: %w", err)
	}
	return nil
}

// writeReady writes the ready file in one step: whoever sees it sees all of it.
func writeReady(file string, sim *vchsim.Sim) error {
	content := ready{
		URL: sim.URL(), Username: sim.Username, Password: sim.Password, Thumbprint: sim.Thumbprint(),
		VCH: sim.VCHName, Datacenter: sim.Datacenter, PID: os.Getpid(),
		Image: sim.NodeImage(), RegistryCA: string(sim.RegistryCA()),
		ProviderSpec: sim.ProviderSpec(), Secret: map[string]string{},
	}
	if content.Image != "" {
		content.ProviderSpec = sim.ImageSpec()
	}
	for key, value := range sim.Secret() {
		content.Secret[key] = string(value)
	}
	encoded, err := json.MarshalIndent(content, "", "  ")
	if err != nil {
		return fmt.Errorf("encode ready file: %w", err)
	}
	temporary, err := os.CreateTemp(filepath.Dir(file), ".vchsim-ready-")
	if err != nil {
		return fmt.Errorf("write ready file %s: %w", file, err)
	}
	_, err = temporary.Write(append(encoded, '\n'))
	if err = errors.Join(err, temporary.Close()); err == nil {
		err = os.Rename(temporary.Name(), file)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write ready file %s: %w", file, err), os.Remove(temporary.Name()))
	}
	return nil
}

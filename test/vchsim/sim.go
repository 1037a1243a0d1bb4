// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/simulator/vpx"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

// Sim is a running world. Close ends it.
type Sim struct {
	// VCHName and Datacenter are the names that the world was made with.
	VCHName, Datacenter string
	// Username and Password log in; SetPassword does not change this field.
	Username, Password string

	options  Options
	dir      string // of datastores and kubelets; removed by Close
	service  *simulator.Service
	registry *simulator.Registry
	changes  changes
	server   *http.Server
	running  sync.WaitGroup
	closing  sync.Once
	closed   chan struct{}

	counters   counters
	host       esx
	imports    imports
	faults     injector
	index      index
	locks      diskLocks
	calls      overrides
	collectors collectors
	guests     guests
	joiners    joiners
	disks      rootDisks
	images     *images.Registry // nil if there is none
	nodeImage  string
	places     places
	vch        vch
}

// Start makes a world and serves it over TLS. ctx bounds the making only; the
// world ends with Close.
func Start(ctx context.Context, options Options) (*Sim, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Sim{
		VCHName: options.VCH, Datacenter: options.Datacenter,
		Username: options.Username, Password: options.Password,
		options: options, closed: make(chan struct{}),
	}
	if s.dir, err = os.MkdirTemp(options.Dir, "vchsim-"); err != nil {
		return nil, fmt.Errorf("make directory of the simulated datastores: %w", err)
	}
	if err := s.start(ctx); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *Sim) start(ctx context.Context) error {
	for _, f := range s.options.Faults {
		if err := s.faults.add(f); err != nil {
			return err
		}
	}
	if err := s.joiners.start(s); err != nil {
		return err
	}
	s.guests.start(s.options.Guest)
	if err := s.makeWorld(ctx); err != nil {
		return err
	}
	if err := s.serveImages(); err != nil {
		return err
	}
	l, err := s.listen(ctx)
	if err != nil {
		return err
	}
	s.registry.Handler = s.intercept
	s.serve(l)
	s.serveHost()
	return nil
}

// newService makes an empty vCenter.
func (s *Sim) newService() {
	ctx := simulator.NewContext()
	s.service = simulator.New(simulator.NewServiceInstance(ctx, vpx.ServiceContent, vpx.RootFolder))
	s.registry = ctx.Map
	s.calls.register(s)
	s.index.register(s)
	s.collectors.register(s)
}

// Close ends the server, the guests and the kubelets, and removes all files. It
// may be called more than once; only the first call does something.
func (s *Sim) Close() {
	// What could not be removed lies in the directory of the caller or of the system.
	_ = s.close()
}

func (s *Sim) close() error {
	var err error
	s.closing.Do(func() {
		close(s.closed)
		s.guests.close()
		s.joiners.close()
		if s.server != nil {
			err = s.shutdown()
		}
		s.running.Wait()
		if s.images != nil {
			s.images.Close()
		}
		err = errors.Join(err, s.removeAll())
	})
	return err
}

// shutdown lets calls that are being answered end, but not for long: a client
// may be waiting for something that never comes.
func (s *Sim) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	var errs []error
	for _, server := range []*http.Server{s.server, s.host.server} {
		if server == nil || server.Shutdown(ctx) == nil {
			continue
		}
		if err := server.Close(); err != nil {
			errs = append(errs, fmt.Errorf("close the server: %w", err))
		}
	}
	return errors.Join(errs...)
}

// removeAll removes the world's files. Tasks outlive their calls and may still
// be making some, so one attempt may not be enough.
func (s *Sim) removeAll() error {
	var err error
	for range 50 {
		if err = os.RemoveAll(s.dir); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("remove the simulated datastores: %w", err)
}

// URL returns the address of the vSphere API without credentials.
func (s *Sim) URL() string {
	u := *s.service.Listen
	u.User = nil
	return u.String()
}

// Thumbprint returns the SHA-1 thumbprint of the server's certificate, in
// vCenter's spelling.
func (s *Sim) Thumbprint() string { return soap.ThumbprintSHA1(s.certificate().Leaf) }

// CACert returns the PEM certificate that the server's certificate is signed with.
func (s *Sim) CACert() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.certificate().Certificate[0]})
}

// ApplianceRef returns the VCH's appliance VM.
func (s *Sim) ApplianceRef() types.ManagedObjectReference { return s.vch.appliance }

// ApplianceUUID returns the BIOS UUID of the VCH's appliance VM.
func (s *Sim) ApplianceUUID() string { return s.vch.uuid }

// Dir returns the directory that holds the world's files until Close.
func (s *Sim) Dir() string { return s.dir }

func (s *Sim) datastoreDir(name string) string { return filepath.Join(s.dir, "datastores", name) }

// ProviderSpec returns a new, valid spec for machines of this VCH: one DHCP
// network, a child disk of ImageDisk, the tags Cluster and Role.
func (s *Sim) ProviderSpec() *v1alpha1.ProviderSpec {
	return &v1alpha1.ProviderSpec{
		VCH: v1alpha1.VirtualContainerHost{Datacenter: s.Datacenter, Name: s.VCHName},
		Tags: map[string]string{
			"kubernetes.io/cluster/" + Cluster: "1",
			"kubernetes.io/role/" + Role:       "1",
		},
		RootDisk: &v1alpha1.RootDisk{VMDK: ImageDisk},
		Command:  []string{"/bin/k3s", "agent"},
		Networks: []v1alpha1.Network{{Name: ExternalNetwork}},
	}
}

// Secret returns new data of a Secret that leads to this Sim and trusts it by its
// certificate, and into its registry. Its userData holds the placeholders that
// machine-controller-manager fills in.
func (s *Sim) Secret() map[string][]byte {
	data := map[string][]byte{
		v1alpha1.SecretHost:     []byte(s.service.Listen.Host),
		v1alpha1.SecretUsername: []byte(s.Username),
		v1alpha1.SecretPassword: []byte(s.password()),
		v1alpha1.SecretCABundle: s.CACert(),
		v1alpha1.SecretUserData: []byte("#cloud-config\n# machine <<MACHINE_NAME>>\nbootstrap-token: <<BOOTSTRAP_TOKEN>>\n"),
	}
	if s.options.Registry != nil && s.options.Registry.Username != "" {
		data[v1alpha1.SecretDockerConfig] = s.images.DockerConfig()
	}
	return data
}

// now is the guests' clock, in whole seconds as the tether writes it.
func now() int64 { return time.Now().Unix() }

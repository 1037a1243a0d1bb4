// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Command vch-driver is the driver for Virtual Container Hosts as a process of its
// own: it offers the gRPC services of the Cloud Machine Interface, version 1, on a
// unix socket, or over TCP with TLS on both sides. The machine-controller calls
// it when it is started with --cmi-endpoint; docs/grpc.md says when that is
// the better way.
//
// It keeps nothing: it may be killed and started again at any time. On SIGTERM or
// SIGINT it refuses new calls, lets those that are under way end within
// --shutdown-timeout, logs out of vCenter, and exits with code 0. A second signal
// ends it at once.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"k8s.io/component-base/logs"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/cmd/internal/backend"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/cmi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
)

// endpointEnv is the variable that CMI prescribes.
const endpointEnv = "CMI_ENDPOINT"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	context.AfterFunc(ctx, stop) // a second signal ends the process
	err := command(os.Getenv(endpointEnv)).ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "vch-driver:", err)
		os.Exit(1)
	}
}

// settings are the flags of the server.
type settings struct {
	endpoint        string
	insecure        bool
	tls             cmi.TLSFiles
	credentialsDir  string
	metricsAddress  string
	profiling       bool
	maxCalls        int
	shutdownTimeout time.Duration
	backend         backend.Flags
}

func command(endpoint string) *cobra.Command {
	if endpoint == "" {
		endpoint = cmi.DefaultEndpoint
	}
	var s settings
	cmd := &cobra.Command{
		Use:           "vch-driver",
		Short:         "Serve the driver for Virtual Container Hosts as a gRPC plugin (CMI v1)",
		Version:       version.String(),
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logs.InitLogs()
			klog.EnableContextualLogging(true) // InitLogs turns off that lines say for which machine they are
			defer logs.FlushLogs()
			return s.serve(cmd.Context(), cmd.ErrOrStderr())
		},
	}
	cmd.SetVersionTemplate("{{.Version}}\n")
	f := cmd.Flags()
	f.StringVar(&s.endpoint, "endpoint", endpoint, "Where to serve: unix:///path or tcp://host:port. The variable "+endpointEnv+" is its default.")
	f.BoolVar(&s.insecure, "insecure", false, "Serve TCP without TLS; only on a loopback address.")
	f.StringVar(&s.tls.CertFile, "tls-cert-file", "", "Certificate of the server, PEM; required for TCP. Read again at each handshake.")
	f.StringVar(&s.tls.KeyFile, "tls-key-file", "", "Key of that certificate, PEM.")
	f.StringVar(&s.tls.CAFile, "tls-client-ca-file", "", "Certificates that sign those of clients, PEM.")
	f.StringVar(&s.credentialsDir, "credentials-dir", "",
		"Directory with a file for each of the Secret's vsphere* keys. They are used for requests whose Secret has none of these keys, and read for each.")
	f.StringVar(&s.metricsAddress, "metrics-address", ":10260", "Where to serve /metrics and /healthz by HTTP; empty for nowhere.")
	f.BoolVar(&s.profiling, "profiling", false, "Serve /debug/pprof/ there as well, as MCM's programs do with this flag.")
	f.IntVar(&s.maxCalls, "max-concurrent-calls", cmi.DefaultMaxConcurrentCalls, "Number of calls that may be under way at the same time.")
	f.DurationVar(&s.shutdownTimeout, "shutdown-timeout", 25*time.Second, "How long calls that are under way may go on after a signal to end.")
	s.backend.AddTo(f)
	logs.AddFlags(f)
	cmd.AddCommand(probeCommand(endpoint))
	return cmd
}

func (s *settings) validate() (cmi.Endpoint, error) {
	endpoint, err := cmi.ParseEndpoint(s.endpoint)
	switch {
	case err != nil:
		return endpoint, fmt.Errorf("--endpoint: %w", err)
	case s.profiling && s.metricsAddress == "":
		return endpoint, errors.New("--profiling needs a --metrics-address")
	case s.maxCalls < 1:
		return endpoint, fmt.Errorf("--max-concurrent-calls must be at least 1, got %d", s.maxCalls)
	case s.shutdownTimeout < 0:
		return endpoint, fmt.Errorf("--shutdown-timeout must not be negative, got %s", s.shutdownTimeout)
	}
	return endpoint, s.backend.Validate()
}

// serve runs the server until ctx ends or something fails.
func (s *settings) serve(ctx context.Context, stderr io.Writer) (err error) {
	endpoint, err := s.validate()
	if err != nil {
		return err
	}
	logger := klog.FromContext(ctx)
	logger.Info("Starting", "version", version.Version(), "endpoint", endpoint.String())
	registry := prometheus.NewRegistry()
	driver, logout, err := s.backend.Driver(ctx, "vch-driver", registry)
	if err != nil {
		return err
	}
	defer func() {
		if out := logout(ctx); out != nil {
			logger.Error(out, "Sessions are left to vCenter's time-out")
		}
	}()
	options := cmi.ServerOptions{
		Logger: logger, CallTimeout: s.backend.CallTimeout, MaxConcurrentCalls: s.maxCalls, Registerer: registry,
	}
	if options.Credentials, err = cmi.ServerCredentials(endpoint, s.tls, s.insecure); err != nil {
		return fmt.Errorf("--insecure, --tls-cert-file, --tls-key-file, --tls-client-ca-file: %w", err)
	}
	if s.credentialsDir != "" {
		options.Own = cmi.OwnCredentials(s.credentialsDir)
		if _, err := options.Own(); err != nil {
			return fmt.Errorf("--credentials-dir: %w", err)
		}
	}
	server, err := cmi.NewServer(driver, options)
	if err != nil {
		return err
	}
	return s.run(ctx, server, endpoint, registry, stderr)
}

// run serves calls and metrics.
func (s *settings) run(ctx context.Context, server *cmi.Server, endpoint cmi.Endpoint, registry prometheus.Gatherer, stderr io.Writer) error {
	logger := klog.FromContext(ctx)
	listener, err := cmi.Listen(ctx, endpoint)
	if err != nil {
		return err
	}
	ended := make(chan error, 2)
	web, err := s.metrics(ctx, registry, ended)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	go func() { ended <- server.Serve(listener) }()
	server.Ready()
	logger.Info("Serving", "endpoint", endpoint.String(), "metrics", s.metricsAddress)
	if endpoint.Network() == "tcp" && s.insecure {
		fmt.Fprintln(stderr, "vch-driver: --insecure: whoever can reach", endpoint.String(), "can delete machines") //nolint:errcheck // nothing to do about it
	}
	select {
	case err = <-ended:
	case <-ctx.Done():
		logger.Info("Signal received, waiting for the calls that are under way", "limit", s.shutdownTimeout)
	}
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.shutdownTimeout)
	defer cancel()
	server.Stop(stopping)
	if web != nil {
		err = errors.Join(err, web.Close())
	}
	logger.Info("Stopped")
	return err
}

// profile adds what net/http/pprof serves, as MCM does in its programs.
func profile(mux *http.ServeMux) {
	mux.HandleFunc("/debug/pprof/", pprof.Index) // heap, goroutine and the others by name
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
}

// metrics serves the driver's metrics, MCM's, those of the process and gRPC's. Its error goes to ended.
func (s *settings) metrics(ctx context.Context, registry prometheus.Gatherer, ended chan<- error) (*http.Server, error) {
	if s.metricsAddress == "" {
		return nil, nil //nolint:nilnil // no server is wanted
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", s.metricsAddress)
	if err != nil {
		return nil, fmt.Errorf("--metrics-address: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(prometheus.Gatherers{prometheus.DefaultGatherer, registry}, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "ok\n") // the client has gone
	})
	if s.profiling {
		profile(mux)
	}
	web := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	go func() {
		if err := web.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			ended <- fmt.Errorf("serve metrics: %w", err)
		}
	}()
	return web, nil
}

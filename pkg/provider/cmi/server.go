// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/go-logr/logr"
	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"
	"k8s.io/utils/clock"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
)

// DefaultMaxConcurrentCalls is above what one machine-controller has under way by
// default: 50 workers that create, 50 that delete, and a few lists. Each can
// hold a message of MaxMessageBytes.
const DefaultMaxConcurrentCalls = 128

// Limits of what a client can make the server hold. Objects of Kubernetes are
// below 2 MiB, and a request has one of them and a Secret of at most 1 MiB.
const (
	// MaxMessageBytes is how large a request may be.
	MaxMessageBytes = 4 << 20
	maxHeaderBytes  = 64 << 10
	// maxConnections is a backstop far above what clients need: one connection each.
	maxConnections = 1024
	// bufferBytes is a connection's buffer in each direction. Few connections are
	// busy, and many idle ones must cost little.
	bufferBytes = 4 << 10
	// handshakeTimeout ends connections that say nothing.
	handshakeTimeout = 10 * time.Second
	// idleTimeout ends connections without calls; clients connect again by themselves.
	idleTimeout = 5 * time.Minute
	// pingInterval and pingTimeout find peers that are gone.
	pingInterval, pingTimeout = time.Minute, 20 * time.Second
	// minPingInterval is how often clients may ask whether the server lives.
	minPingInterval = 5 * time.Second
)

// ServerOptions of a Server. The zero value works.
type ServerOptions struct {
	// Logger gets failed calls at V(1), beginning and end of each call at V(4), and
	// messages without their secrets at V(6); the driver's own lines as well.
	// Default: discarded.
	Logger logr.Logger
	// Credentials secure connections. Default: none, for sockets that the file system guards.
	Credentials credentials.TransportCredentials
	// Own, if set, returns the driver's own values of v1alpha1.ConnectionKeys. A
	// request whose Secret has none of these keys gets them. It is asked for
	// every call. An error fails the call and makes Probe answer FailedPrecondition.
	Own func() (map[string][]byte, error)
	// CallTimeout is that of the driver; see provider.Options. The server's own
	// limit is a second line above it. Default: provider.DefaultCallTimeout.
	CallTimeout time.Duration
	// MaxConcurrentCalls is how many calls of the service Machine may be under way.
	// More are answered Unavailable. Default: DefaultMaxConcurrentCalls.
	MaxConcurrentCalls int
	// Registerer gets gRPC's metrics. Default: none are kept.
	Registerer prometheus.Registerer
	// Clock measures durations. Default: the real one.
	Clock clock.PassiveClock
}

// Server serves a driver. It is made by NewServer, serves once, and may be used
// from many goroutines.
type Server struct {
	options ServerOptions
	grpc    *grpc.Server
	health  *health.Server
	state   *state
	gate    *gate
	// stopped is closed when the server stops, and clients' streams end with it.
	stopped  chan struct{}
	stopping sync.Once
	// handshakes are the connections that are no clients yet.
	handshakes handshakes
}

// NewServer returns a server of driver that answers Probe with "not ready" until Ready is called.
func NewServer(driver provider.Driver, options ServerOptions) (*Server, error) {
	if options.CallTimeout <= 0 {
		options.CallTimeout = provider.DefaultCallTimeout
	}
	if options.MaxConcurrentCalls <= 0 {
		options.MaxConcurrentCalls = DefaultMaxConcurrentCalls
	}
	if options.Credentials == nil {
		options.Credentials = insecure.NewCredentials()
	}
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	if options.Logger.GetSink() == nil {
		options.Logger = logr.Discard()
	}
	s := &Server{
		options: options, health: health.NewServer(), state: newState(), stopped: make(chan struct{}),
		gate: newGate(options.MaxConcurrentCalls, options.Clock),
	}
	metrics := grpcprom.NewServerMetrics(grpcprom.WithServerHandlingTimeHistogram(grpcprom.WithHistogramBuckets(durationBuckets())))
	if options.Registerer != nil {
		if err := options.Registerer.Register(metrics); err != nil {
			return nil, err
		}
	}
	s.grpc = grpc.NewServer(s.serverOptions(metrics)...)
	cmiv1.RegisterIdentityServer(s.grpc, &identityServer{state: s.state, own: options.Own})
	cmiv1.RegisterMachineServer(s.grpc, &machineServer{driver: driver, own: options.Own})
	grpc_health_v1.RegisterHealthServer(s.grpc, s.health)
	reflection.Register(s.grpc)
	metrics.InitializeMetrics(s.grpc)
	s.setHealth(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
	return s, nil
}

func (s *Server) serverOptions(metrics *grpcprom.ServerMetrics) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(s.options.Credentials),
		grpc.ChainUnaryInterceptor(s.unaryInterceptors(metrics)...),
		grpc.ChainStreamInterceptor(s.streamInterceptors(metrics)...),
		grpc.MaxRecvMsgSize(MaxMessageBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(uint32(s.options.MaxConcurrentCalls) + 16), //nolint:gosec // a flag's value; some more for probes
		grpc.ReadBufferSize(bufferBytes),
		grpc.WriteBufferSize(bufferBytes),
		grpc.SharedWriteBuffer(true),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveParams(keepalive.ServerParameters{MaxConnectionIdle: idleTimeout, Time: pingInterval, Timeout: pingTimeout}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: minPingInterval, PermitWithoutStream: true}),
		// A call that is cut off is still cleaning up: vCenter's session must not go away under it.
		grpc.WaitForHandlers(true),
	}
}

// durationBuckets are those of MCM's driver metrics, with a few for the fast calls.
func durationBuckets() []float64 {
	return []float64{0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}
}

// Serve answers calls on l until Stop is called, which it takes for no error. It closes l.
func (s *Server) Serve(l net.Listener) error {
	err := s.grpc.Serve(s.handshakes.listener(netutil.LimitListener(l, maxConnections)))
	if errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// Ready makes Probe and the health service say that calls are welcome.
func (s *Server) Ready() {
	if s.state.ready() {
		s.setHealth(grpc_health_v1.HealthCheckResponse_SERVING)
	}
}

// Fail makes Probe answer FailedPrecondition with cause, and the health service
// that the server does not serve. There is no way back.
func (s *Server) Fail(cause error) {
	s.state.fail(cause)
	s.setHealth(grpc_health_v1.HealthCheckResponse_NOT_SERVING)
}

// Stop ends the server: new calls are refused at once, running ones may end until
// ctx is done and are cancelled then. It returns when all have ended. A
// cancelled call of the driver ends by itself, in seconds.
func (s *Server) Stop(ctx context.Context) {
	s.stopping.Do(func() {
		s.Fail(errStopping)
		s.health.Shutdown()
		close(s.stopped)
		s.handshakes.end()
	})
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.grpc.GracefulStop()
	}()
	select {
	case <-done:
	case <-ctx.Done():
		s.grpc.Stop()
		<-done
	}
}

func (s *Server) setHealth(status grpc_health_v1.HealthCheckResponse_ServingStatus) {
	for _, service := range []string{"", cmiv1.Identity_ServiceDesc.ServiceName, cmiv1.Machine_ServiceDesc.ServiceName} {
		s.health.SetServingStatus(service, status)
	}
}

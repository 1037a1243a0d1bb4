// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	mcmcodes "github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	mcmstatus "github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/stats"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/klog/v2"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
)

const (
	// probeInterval and probeLimit are for waiting until a server is ready.
	probeInterval, probeLimit = 200 * time.Millisecond, 5 * time.Second
	// firstBackoff and lastBackoff are between attempts to connect. MCM repeats
	// a call after five seconds; the connection should be there by then.
	firstBackoff, lastBackoff = 100 * time.Millisecond, 3 * time.Second
	// clientPing and clientPingTimeout find a server that is stopped or stuck.
	clientPing, clientPingTimeout = 20 * time.Second, 10 * time.Second
	// maxResponseBytes has room for a list of some hundred thousand machines.
	maxResponseBytes = 64 << 20
)

// capabilities are the methods that a server has.
type capabilities struct {
	methods []cmiv1.PluginCapability_RPC_Type
	// connection is the connection that was there before they were asked for.
	connection int64
}

// NewDriver returns a driver that is served at an endpoint. It does not wait for
// it: see Wait. An error means that the options do not fit together.
func NewDriver(options DriverOptions) (*Driver, error) {
	if options.CallTimeout <= 0 {
		options.CallTimeout = provider.DefaultCallTimeout
	}
	if options.Credentials == nil {
		options.Credentials = insecure.NewCredentials()
	}
	d := &Driver{options: options, margin: margin}
	metrics := grpcprom.NewClientMetrics(grpcprom.WithClientHandlingTimeHistogram(grpcprom.WithHistogramBuckets(durationBuckets())))
	if options.Registerer != nil {
		if err := options.Registerer.Register(metrics); err != nil {
			return nil, fmt.Errorf("register the metrics of the CMI client: %w", err)
		}
	}
	curve := backoff.DefaultConfig
	curve.BaseDelay, curve.MaxDelay = firstBackoff, lastBackoff
	conn, err := grpc.NewClient(options.Endpoint.Target(),
		grpc.WithTransportCredentials(options.Credentials),
		grpc.WithNoProxy(), // requests hold credentials: they go where the endpoint says and nowhere else
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: curve, MinConnectTimeout: probeLimit}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: clientPing, Timeout: clientPingTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponseBytes)),
		grpc.WithChainUnaryInterceptor(metrics.UnaryClientInterceptor()),
		grpc.WithStatsHandler(connectionWatch{changed: func() { d.connection.Add(1) }}),
		grpc.WithUserAgent(PluginName),
	)
	if err != nil {
		return nil, fmt.Errorf("prepare a connection to the driver at %s: %w", options.Endpoint, err)
	}
	d.conn, d.identity, d.machines = conn, cmiv1.NewIdentityClient(conn), cmiv1.NewMachineClient(conn)
	return d, nil
}

// Close ends the connection and all calls that are under way.
func (d *Driver) Close() error { return d.conn.Close() }

// Wait asks the server until it is ready, and then what it is and what it can do.
// It returns an error with the server's last answer when ctx ends, and at once
// when what answers is no CMI driver or one that cannot create and delete.
func (d *Driver) Wait(ctx context.Context) error {
	logger := klog.FromContext(ctx).WithValues("endpoint", d.options.Endpoint.String())
	var last error
	err := wait.PollUntilContextCancel(ctx, probeInterval, true, func(ctx context.Context) (bool, error) {
		answer := d.probe(ctx)
		if code := status.Code(answer); last != nil && (code == codes.DeadlineExceeded || code == codes.Canceled) {
			return false, nil // silence, often because the wait ends here, is no answer
		}
		if answer != nil && (last == nil || last.Error() != answer.Error()) {
			logger.Info("Waiting for the driver", "answer", answer.Error())
		}
		last = answer
		if status.Code(answer) == codes.Unimplemented {
			return false, fmt.Errorf("what serves at %s is no CMI driver: %w", d.options.Endpoint, answer)
		}
		return answer == nil, nil
	})
	switch {
	case err != nil && ctx.Err() != nil && last != nil:
		return fmt.Errorf("wait for the driver at %s: %w; its last answer: %w", d.options.Endpoint, err, last)
	case err != nil:
		return err
	}
	info, err := d.identity.GetPluginInfo(ctx, &cmiv1.GetPluginInfoRequest{})
	if err != nil {
		return fmt.Errorf("ask the driver at %s for its name: %w", d.options.Endpoint, err)
	}
	can, err := d.can(ctx)
	if err != nil {
		return fmt.Errorf("ask the driver at %s for its capabilities: %w", d.options.Endpoint, err)
	}
	for _, needed := range []cmiv1.PluginCapability_RPC_Type{cmiv1.PluginCapability_RPC_CREATE_MACHINE, cmiv1.PluginCapability_RPC_DELETE_MACHINE} {
		if !slices.Contains(can, needed) {
			return fmt.Errorf("the driver %s %s at %s lacks the capability %s, which every driver must have",
				info.GetName(), info.GetVersion(), d.options.Endpoint, needed)
		}
	}
	logger.Info("The driver is ready", "name", info.GetName(), "version", info.GetVersion(), "capabilities", fmt.Sprint(can))
	return nil
}

// errNotReady is the answer of a server that is still starting.
var errNotReady = errors.New("the driver is still starting")

// probe is nil for a server that is ready.
func (d *Driver) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeLimit)
	defer cancel()
	response, err := d.identity.Probe(ctx, &cmiv1.ProbeRequest{})
	switch {
	case err != nil:
		return err
	case response.GetReady() != nil && !response.GetReady().GetValue():
		return errNotReady
	}
	return nil
}

// can are the server's capabilities. They are asked for once or twice in a
// connection: the next one may be to another release of the driver. Of two
// connections at a time, the older one is only finishing its calls.
func (d *Driver) can(ctx context.Context) ([]cmiv1.PluginCapability_RPC_Type, error) {
	connection := d.connection.Load()
	if known := d.capabilities.Load(); known != nil && known.connection == connection {
		return known.methods, nil
	}
	response, err := d.identity.GetPluginCapabilities(ctx, &cmiv1.GetPluginCapabilitiesRequest{})
	if err != nil {
		return nil, err
	}
	found := &capabilities{connection: connection}
	for _, capability := range response.GetCapabilities() {
		found.methods = append(found.methods, capability.GetRpc().GetType())
	}
	d.capabilities.Store(found)
	return found.methods, nil
}

// connectionWatch tells when a connection has begun or ended.
type connectionWatch struct{ changed func() }

var _ stats.Handler = connectionWatch{}

func (connectionWatch) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context { return ctx }

func (connectionWatch) HandleRPC(context.Context, stats.RPCStats) {}

func (connectionWatch) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context { return ctx }

func (w connectionWatch) HandleConn(_ context.Context, event stats.ConnStats) {
	switch event.(type) {
	case *stats.ConnBegin, *stats.ConnEnd:
		w.changed()
	}
}

// answer is what comes back beside a response.
type answer struct {
	addresses []corev1.NodeAddress
	// code and info are of an error.
	code mcmcodes.Code
	info map[string]string
}

// send is the way of every call to the server and back.
func send[Q proto.Message, R any](
	ctx context.Context, d *Driver, c call, method func(context.Context, Q, ...grpc.CallOption) (R, error), request Q,
) (response R, a answer, err error) {
	var none R
	if c.class == nil && c.needs != cmiv1.PluginCapability_RPC_GET_VOLUME_IDS {
		return none, a, c.fail(mcmcodes.InvalidArgument, "request without a MachineClass")
	}
	// The transport would answer ResourceExhausted, which MCM takes for a VCH without capacity.
	if size := proto.Size(request); size > MaxMessageBytes {
		return none, a, c.fail(mcmcodes.InvalidArgument, "the request has %d bytes and must have %d at most: ProviderSpec or Secret is too large", size, MaxMessageBytes)
	}
	ctx, cancel := context.WithTimeout(ctx, extentOf(request, "", d.options.CallTimeout).limit+d.margin)
	defer cancel()
	can, err := d.can(ctx)
	switch {
	case err != nil:
		a.code, _, err = d.statusOf(c, err)
		return none, a, err
	case !slices.Contains(can, c.needs):
		return none, a, c.fail(mcmcodes.Unimplemented, "the driver at %s lacks the capability %s", d.options.Endpoint, c.needs)
	}
	if c.class != nil {
		ctx = withRequest(ctx, c.machine, c.class, c.method)
	}
	var trailer metadata.MD
	response, err = method(ctx, request, grpc.Trailer(&trailer))
	addresses, failed := addressesOf(trailer)
	if failed != nil {
		return none, a, c.fail(mcmcodes.Internal, "the driver at %s: %v", d.options.Endpoint, failed)
	}
	a.addresses = addresses
	if err != nil {
		a.code, a.info, err = d.statusOf(c, err)
		return none, a, err
	}
	return response, a, nil
}

// statusOf turns an error of gRPC into one of MCM: what a driver of ours said
// stays as it is, anything else says where it happened.
func (d *Driver) statusOf(c call, err error) (mcmcodes.Code, map[string]string, *mcmstatus.Status) {
	s := status.Convert(err)
	code, info := fromGRPC(s)
	text := s.Message()
	if info == nil {
		text = fmt.Sprintf("the driver at %s: %s", d.options.Endpoint, text)
	}
	return code, info.GetMetadata(), provider.StatusOf(code, text, c.machine, c.class, c.secret)
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"fmt"
	"path"
	"runtime/debug"
	"time"

	"github.com/go-logr/logr"
	grpcprom "github.com/grpc-ecosystem/go-grpc-middleware/providers/prometheus"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/logging"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/recovery"
	"github.com/grpc-ecosystem/go-grpc-middleware/v2/interceptors/selector"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"k8s.io/klog/v2"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
)

// Verbosity of a server's log, as docs/monitoring.md has it. The driver has a line
// for each call at V(2) itself.
const (
	levelFailed  = 1
	levelCall    = 4
	levelMessage = 6
)

// identityLimit is how long calls may take that do no work.
const identityLimit = 10 * time.Second

// unaryInterceptors are what every call goes through, the outermost first.
func (s *Server) unaryInterceptors(metrics *grpcprom.ServerMetrics) []grpc.UnaryServerInterceptor {
	return []grpc.UnaryServerInterceptor{
		metrics.UnaryServerInterceptor(),
		s.withLogger,
		logging.UnaryServerInterceptor(logging.LoggerFunc(logCall), logOptions(s.options.Logger)...),
		recovery.UnaryServerInterceptor(recovery.WithRecoveryHandlerContext(recovered)),
		selector.UnaryServerInterceptor(withLimit, selector.MatchFunc(isNot(cmiv1.Machine_ServiceDesc.ServiceName))),
		selector.UnaryServerInterceptor(s.admit, selector.MatchFunc(is(cmiv1.Machine_ServiceDesc.ServiceName))),
	}
}

// streamInterceptors are for reflection and for those who watch the health.
func (s *Server) streamInterceptors(metrics *grpcprom.ServerMetrics) []grpc.StreamServerInterceptor {
	return []grpc.StreamServerInterceptor{
		metrics.StreamServerInterceptor(),
		recovery.StreamServerInterceptor(recovery.WithRecoveryHandlerContext(recovered)),
		s.endWithServer,
	}
}

func is(service string) func(context.Context, interceptors.CallMeta) bool {
	return func(_ context.Context, c interceptors.CallMeta) bool { return c.Service == service }
}

func isNot(service string) func(context.Context, interceptors.CallMeta) bool {
	return func(_ context.Context, c interceptors.CallMeta) bool { return c.Service != service }
}

// withLogger gives the call a logger and the log of calls the machine's name. The
// driver adds that to its own lines by itself.
func (s *Server) withLogger(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	logger := s.options.Logger
	if class := first(ctx, keyClassName, ""); class != "" {
		logger = logger.WithValues("machineClass", shown(class))
	}
	ctx = klog.NewContext(ctx, logger)
	if named, ok := req.(message); ok {
		ctx = logging.InjectFields(ctx, logging.Fields{"machine", klog.KRef(shown(first(ctx, keyNamespace, "")), shown(named.GetMachineName())).String()})
	}
	return handler(ctx, req)
}

// logOptions says what is logged. The fields of a line are made before logCall can
// say that nobody wants it, so events below the logger's verbosity are left out.
func logOptions(logger logr.Logger) []logging.Option {
	var events []logging.LoggableEvent
	for event, verbosity := range map[logging.LoggableEvent]int{
		logging.FinishCall: levelFailed, logging.StartCall: levelCall, logging.PayloadReceived: levelMessage, logging.PayloadSent: levelMessage,
	} {
		if logger.V(verbosity).Enabled() {
			events = append(events, event)
		}
	}
	return []logging.Option{
		logging.WithLogOnEvents(events...),
		logging.WithDurationField(logging.DurationToDurationField),
		logging.WithDisableLoggingFields(logging.SystemTag[0], logging.ComponentFieldKey, logging.MethodTypeFieldKey),
		logging.WithLevels(func(code codes.Code) logging.Level {
			if code == codes.OK || code == codes.NotFound { // MCM asks before it creates
				return logging.LevelInfo
			}
			return logging.LevelWarn
		}),
	}
}

// logCall writes what the logging interceptor says into the call's logger. Messages
// lose their secrets first; and nothing is an error of the log, since all errors
// are the client's to handle. Probes come every few seconds, so calls that are
// not of the service Machine say little.
func logCall(ctx context.Context, level logging.Level, text string, fields ...any) {
	logger := klog.FromContext(ctx)
	verbosity := levelCall
	if level != logging.LevelInfo {
		verbosity = levelFailed
	}
	values := make([]any, 0, len(fields))
	for pairs := logging.Fields(fields).Iterator(); pairs.Next(); {
		key, value := pairs.At()
		switch m, isMessage := value.(proto.Message); {
		case key == "grpc.start_time" || key == "grpc.request.deadline":
			continue // the line has a time, and who sets no deadline does not care
		case key == logging.ServiceFieldKey && value != cmiv1.Machine_ServiceDesc.ServiceName:
			verbosity = max(verbosity, levelCall)
		case isMessage:
			verbosity = levelMessage
			if !logger.V(verbosity).Enabled() {
				return
			}
			value = Redact(m)
		}
		values = append(values, key, value)
	}
	logger.V(verbosity).Info(text, values...)
}

// recovered turns a panic of the server into an error. One of the driver does not
// come here: the driver turns it into an error by itself. Its value is not for
// the client, for who knows what is in it.
func recovered(ctx context.Context, cause any) error {
	klog.FromContext(ctx).Error(nil, "Panic in a call", "panic", fmt.Sprintf("%T", cause), "stack", string(debug.Stack()))
	return refusal(codes.Internal, "panic in the driver's server; its log has the stack")
}

// withLimit ends calls that do no work after a while.
func withLimit(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	ctx, cancel := context.WithTimeout(ctx, identityLimit)
	defer cancel()
	return handler(ctx, req)
}

// admit lets a call of the service Machine through the gate, with a limit of time.
func (s *Server) admit(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	select {
	case <-s.stopped: // gRPC says so to clients a little later
		return nil, refusal(codes.Unavailable, errStopping.Error())
	default:
	}
	extent := extentOf(req, first(ctx, keyNamespace, ""), s.options.CallTimeout)
	name := ""
	if named, ok := req.(message); ok {
		name = shown(named.GetMachineName())
	}
	leave, err := s.gate.enter(path.Base(info.FullMethod), extent.machine, name)
	if err != nil {
		return nil, err
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, extent.limit)
	defer cancel()
	return handler(ctx, req)
}

// endWithServer ends a stream when the server stops: a client that watches the
// health for ever would hold the end up.
func (s *Server) endWithServer(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		select {
		case <-s.stopped:
			cancel()
		case <-ctx.Done():
		}
	}()
	return handler(srv, endingStream{stream, ctx})
}

// endingStream is a stream with another context.
type endingStream struct {
	grpc.ServerStream

	ctx context.Context //nolint:containedctx // grpc.ServerStream is made so
}

func (s endingStream) Context() context.Context { return s.ctx }

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr/funcr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// meanings is what each fault must mean to the caller, whatever call meets it.
func meanings() map[string]errdefs.Kind {
	return map[string]errdefs.Kind{
		"HTTP503": errdefs.Unavailable, "ConnectionReset": errdefs.Unavailable, "ResponseLost": errdefs.Unavailable,
		"NotAuthenticated": errdefs.Unauthenticated, "InvalidLogin": errdefs.Unauthenticated,
		"NoPermission": errdefs.PermissionDenied,
		// Never NotFound: that would say that the machine does not exist.
		"ManagedObjectNotFound": errdefs.Aborted, "NotFound": errdefs.Aborted,
		"TaskInProgress": errdefs.Aborted, "ConcurrentAccess": errdefs.Aborted, "FileLocked": errdefs.Aborted, "RequestCanceled": errdefs.Aborted,
		"InvalidState": errdefs.FailedPrecondition, "InvalidPowerState": errdefs.FailedPrecondition, "MethodDisabled": errdefs.FailedPrecondition,
		"NotSupported": errdefs.FailedPrecondition, "ResourceInUse": errdefs.FailedPrecondition, "FileNotFound": errdefs.FailedPrecondition, "CannotDeleteFile": errdefs.FailedPrecondition,
		"DuplicateName": errdefs.AlreadyExists, "AlreadyExists": errdefs.AlreadyExists, "FileAlreadyExists": errdefs.AlreadyExists,
		"InsufficientResourcesFault": errdefs.ResourceExhausted, "InsufficientCpuResourcesFault": errdefs.ResourceExhausted,
		"InsufficientMemoryResourcesFault": errdefs.ResourceExhausted, "NoDiskSpace": errdefs.ResourceExhausted,
		"HostNotConnected": errdefs.Unavailable, "HostCommunication": errdefs.Unavailable,
		"GuestOperationsUnavailable": errdefs.Unavailable, "NetworkDisruptedAndConfigRolledBack": errdefs.Unavailable,
		"Timedout":        errdefs.DeadlineExceeded,
		"InvalidArgument": errdefs.InvalidArgument, "InvalidDatastorePath": errdefs.InvalidArgument,
		"InvalidGuestLogin": errdefs.Internal, "SystemErrorFault": errdefs.Internal, "VimFault": errdefs.Internal,
	}
}

// Planted secrets: none may ever be seen outside of vCenter.
const (
	plantedPassword = "planted-Passw0rd-Zx81"
	plantedToken    = "planted-t0ken-Qy77"
)

// logs collects all that is logged.
type logs struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logs) context(ctx context.Context) context.Context {
	return klog.NewContext(ctx, funcr.New(func(prefix, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.buf.WriteString(prefix + args + "\n")
	}, funcr.Options{Verbosity: 10}))
}

// operations are what machine-controller-manager asks for, in order.
func (w site) operations(ctx context.Context, machine string) []func() error {
	return w.operationsOf(ctx, w.SPI(), machine)
}

func (w site) operationsOf(ctx context.Context, s spi.PluginSPI, machine string) []func() error {
	spec, secret := w.Spec(), &corev1.Secret{Data: w.Sim.Secret()}
	secret.Data[v1alpha1.SecretUserData] = []byte("token: " + plantedToken)
	return []func() error{
		func() error { _, err := s.CreateMachine(ctx, machine, spec, secret); return err },
		func() error { _, _, err := s.InitializeMachine(ctx, machine, "", spec, secret); return err },
		func() error { _, _, err := s.GetMachineStatus(ctx, machine, "", spec, secret); return err },
		func() error { _, err := s.ListMachines(ctx, spec, secret); return err },
		func() error { _, err := s.ShutDownMachine(ctx, machine, "", spec, secret); return err },
		func() error { _, err := s.DeleteMachine(ctx, machine, "", spec, secret); return err },
	}
}

// methodsOf returns the vSphere methods that each operation calls.
func (w site) methodsOf(ctx context.Context) [][]string {
	w.Helper()
	var out [][]string
	for i, op := range w.operations(ctx, "scout") {
		w.TakeCalls()
		if err := op(); err != nil {
			w.Fatalf("operation %d without any fault: %v", i, err)
		}
		_, calls := w.TakeCalls()
		out = append(out, slices.Sorted(maps.Keys(calls)))
	}
	return out
}

func TestEachKindOfFaultKeepsItsMeaningUnderFaults(t *testing.T) {
	t.Parallel()
	table := meanings()
	for _, kind := range vchsim.FaultKinds() {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			want, ok := table[kind]
			if !ok {
				t.Fatalf("the simulator knows fault %s, this table does not", kind)
			}
			var l logs
			ctx := l.context(t.Context())
			w := newSite(t, vchsim.Options{Password: plantedPassword})
			seen := ""
			for i, methods := range w.methodsOf(ctx) {
				for _, method := range methods {
					for _, k := range []string{kind, "task:" + kind} {
						if w.Sim.SetFault(vchsim.FaultRule{Method: method, Kind: k, Count: 1}) != nil {
							continue // not a method with a task, or not a fault of tasks
						}
						w.Sim.ClearFaults()
						seen += w.strike(ctx, i, vchsim.FaultRule{Method: method, Kind: k, Count: 1}, want)
					}
				}
			}
			if left := w.Leftovers(); len(left) > 0 || len(w.Machines()) > 0 {
				t.Errorf("left: %v %v", left, w.Machines())
			}
			for what, text := range map[string]string{"an error": seen, "the log": l.buf.String()} {
				for _, secret := range []string{plantedPassword, plantedToken} {
					if strings.Contains(text, secret) {
						t.Errorf("%s holds %s", what, secret)
					}
				}
			}
			if l.buf.Len() == 0 {
				t.Error("nothing was logged: the search shows nothing")
			}
		})
	}
}

// strike brings a machine to operation i, lets the rule strike there, and takes
// the machine away again. It returns the text of the error.
func (w site) strike(ctx context.Context, i int, rule vchsim.FaultRule, want errdefs.Kind) (text string) {
	w.Helper()
	const machine = "struck"
	ops := w.operations(ctx, machine)
	for _, op := range ops[:min(i, 2)] { // create, initialize
		if err := op(); err != nil {
			w.Fatal(err)
		}
	}
	if err := w.Sim.SetFault(rule); err != nil {
		w.Fatal(err)
	}
	err := ops[i]()
	w.Sim.ClearFaults()
	w.Settle()
	if err != nil {
		text = err.Error() + "\n"
		if got := errdefs.KindOf(err); got != want {
			w.Errorf("operation %d with %s at %s: %s (%v), want %s", i, rule.Kind, rule.Method, got, err, want)
		}
	}
	if err := ops[len(ops)-1](); err != nil {
		w.Fatalf("delete after operation %d with %s at %s: %v", i, rule.Kind, rule.Method, err)
	}
	return text
}

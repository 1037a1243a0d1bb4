// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
)

func programKinds() []Kind {
	killed := func(name, does string, programs ...string) Kind {
		return Kind{
			Name: name, Does: does, Undone: "it is started again at once",
			strike: func(_ context.Context, w *World, _ float64) (string, undo, error) {
				var errs []error
				for _, program := range programs {
					errs = append(errs, w.kill(program))
				}
				return "", nil, errors.Join(errs...)
			},
		}
	}
	return []Kind{
		killed("kill-driver", "vch-driver is killed with -9", stack.VCHDriver),
		killed("kill-machine-controller", "the machine-controller is killed with -9", stack.MachineController),
		killed("kill-mcm", "machine-controller-manager is killed with -9", stack.MCM),
		killed("kill-pod", "all three are killed with -9", stack.MCM, stack.MachineController, stack.VCHDriver),
		frozen("freeze-driver", stack.VCHDriver),
		frozen("freeze-machine-controller", stack.MachineController),
		{
			Name: "apiserver-restarted", Does: "kube-apiserver is killed with -9", Undone: "it is started again",
			strike: func(_ context.Context, w *World, _ float64) (string, undo, error) {
				w.Stack.Cluster().KillAPIServer()
				return "", w.Stack.Cluster().StartAPIServer, nil
			},
		},
		{
			Name: "leader-changed", Does: "somebody else takes the machine-controller's lease and renews it: the machine-controller ends itself and waits as a standby", Undone: "he gives it back",
			Least:  14 * time.Second, // the machine-controller gives up after 10
			strike: stealLease,
		},
	}
}

// frozen is a kind that stops a program for a while: to it, the clock jumps forward.
func frozen(name, program string) Kind {
	return Kind{
		Name: name, Does: program + " is stopped (SIGSTOP), as when its node is suspended: to it, the clock jumps", Undone: "SIGCONT",
		strike: func(_ context.Context, w *World, _ float64) (string, undo, error) {
			pid, err := w.signal(program, syscall.SIGSTOP)
			if err != nil {
				return "", nil, err
			}
			return "", func(context.Context) error {
				if err := syscall.Kill(pid, syscall.SIGCONT); err != nil && !errors.Is(err, syscall.ESRCH) {
					return fmt.Errorf("continue %s: %w", program, err)
				}
				return nil
			}, nil
		},
	}
}

const (
	lease = "machine-controller"
	rival = "chaos"
)

// stealLease holds the lease of the machine-controller.
func stealLease(ctx context.Context, w *World, _ float64) (string, undo, error) {
	if err := w.holdLease(ctx, rival, 15); err != nil {
		return "", nil, err
	}
	stop := every(ctx, time.Second, func(ctx context.Context) {
		// Whoever lost it asks for it as often.
		if err := w.holdLease(ctx, rival, 15); err != nil {
			w.logf("hold the lease: %v", err)
		}
	})
	return "", func(ctx context.Context) error {
		stop()
		return w.holdLease(ctx, "", 1)
	}, nil
}

func (w *World) holdLease(ctx context.Context, holder string, seconds int32) error {
	return untilItWorks(ctx, func(ctx context.Context) error {
		leases := w.Stack.Kube.CoordinationV1().Leases(w.Stack.Namespace())
		found, err := leases.Get(ctx, lease, metav1.GetOptions{})
		if err != nil {
			return err
		}
		found.Spec.HolderIdentity, found.Spec.LeaseDurationSeconds = ptr.To(holder), ptr.To(seconds)
		found.Spec.RenewTime = ptr.To(metav1.NowMicro())
		_, err = leases.Update(ctx, found, metav1.UpdateOptions{})
		return err
	})
}

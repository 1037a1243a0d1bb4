// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
)

// steps counts SOAP calls and lets one of them go wrong.
type steps struct {
	t      testing.TB
	mu     sync.Mutex
	n      int
	fault  *spitest.Fault
	struck bool
	ever   bool // struck at any time
	calls  map[string]int
}

func newSteps(t testing.TB) *steps {
	t.Helper()
	return &steps{t: t, calls: map[string]int{}}
}

func (s *steps) inject(f spitest.Fault) (heal func() bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n, s.fault, s.struck = 0, &f, false
	return func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.fault = nil
		return s.struck
	}
}

// everStruck reports whether a fault has struck.
func (s *steps) everStruck() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ever
}

// take empties the count.
func (s *steps) take() (total int, calls map[string]int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls, s.calls = s.calls, map[string]int{}
	for n := range maps.Values(calls) {
		total += n
	}
	return total, calls
}

type roundTripper func(context.Context, soap.HasFault, soap.HasFault) error

func (r roundTripper) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	return r(ctx, req, res)
}

func (s *steps) wrap(next soap.RoundTripper) soap.RoundTripper {
	return roundTripper(func(ctx context.Context, req, res soap.HasFault) error {
		if r, ok := req.(*methods.ReconfigVM_TaskBody); ok && r.Req.Spec.ChangeVersion == "" {
			s.t.Error("a reconfigure carries no changeVersion: it would overwrite what others changed meanwhile")
		}
		s.mu.Lock()
		s.n++
		s.calls[strings.TrimSuffix(strings.TrimPrefix(fmt.Sprintf("%T", req), "*methods."), "Body")]++
		var f spitest.Fault
		mode := "pass"
		if s.fault != nil {
			f = *s.fault
			switch {
			case s.n == f.Step:
				s.struck, s.ever = true, true
				mode = "strike"
			case s.n > f.Step && f.Kill:
				mode = "dead"
			}
		}
		s.mu.Unlock()
		switch {
		case mode == "pass":
			return next.RoundTrip(ctx, req, res)
		case mode == "strike" && f.Cancel != nil:
			f.Cancel()
			return next.RoundTrip(ctx, req, res)
		case mode == "strike" && f.After:
			if err := next.RoundTrip(ctx, req, res); err != nil {
				return err
			}
		}
		return faultOf(f.Kind)
	})
}

// mortal cuts the calls of a process off when its life ends: those that are under way and those that come.
func mortal(life context.Context, next soap.RoundTripper) soap.RoundTripper {
	return roundTripper(func(ctx context.Context, req, res soap.HasFault) error {
		if life.Err() != nil {
			return &url.Error{Op: "Post", URL: "https://vc/sdk", Err: io.ErrUnexpectedEOF}
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(life, cancel)()
		return next.RoundTrip(ctx, req, res)
	})
}

// faultOf is what vCenter says when it means kind.
func faultOf(kind errdefs.Kind) error {
	var f types.BaseMethodFault
	switch kind {
	case errdefs.PermissionDenied:
		f = &types.NoPermission{PrivilegeId: "VirtualMachine.Inventory.Create"}
	case errdefs.ResourceExhausted:
		f = &types.InsufficientMemoryResourcesFault{Requested: 1}
	case errdefs.Aborted:
		f = &types.TaskInProgress{}
	case errdefs.Internal:
		f = &types.SystemError{Reason: "simulated"}
	default:
		f = &types.HostNotConnected{}
	}
	return soap.WrapVimFault(f)
}

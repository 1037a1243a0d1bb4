// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"reflect"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// roundTripFunc is a layer of the chain.
type roundTripFunc func(ctx context.Context, req, res soap.HasFault) error

// RoundTrip calls f.
func (f roundTripFunc) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	return f(ctx, req, res)
}

// Method returns the name of the vSphere method that a request body calls, for
// example PowerOnVM_Task. Middleware and Observer see the same names.
func Method(req soap.HasFault) string {
	t := reflect.TypeOf(req)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return ""
	}
	return strings.TrimSuffix(t.Name(), "Body")
}

// longPoll returns how long a request asks vCenter to wait; bounded is false if
// it asks for no end. Requests that do not wait are answered with false, false.
func longPoll(req soap.HasFault) (wait time.Duration, is, bounded bool) {
	body, ok := req.(*methods.WaitForUpdatesExBody)
	if !ok {
		return 0, false, false
	}
	if body.Req == nil || body.Req.Options == nil || body.Req.Options.MaxWaitSeconds == nil {
		return 0, true, false
	}
	return time.Duration(*body.Req.Options.MaxWaitSeconds) * time.Second, true, true
}

// observe tells the observer of each request.
func observe(next soap.RoundTripper, c clock.PassiveClock, observer func(context.Context, string, time.Duration, error)) soap.RoundTripper {
	if observer == nil {
		return next
	}
	return roundTripFunc(func(ctx context.Context, req, res soap.HasFault) error {
		begin := c.Now()
		err := next.RoundTrip(ctx, req, res)
		observer(ctx, Method(req), c.Since(begin), err)
		return err
	})
}

// bound ends a call that vCenter does not answer in time.
func bound(next soap.RoundTripper, host string, limit time.Duration) soap.RoundTripper {
	return roundTripFunc(func(ctx context.Context, req, res soap.HasFault) error {
		within := limit
		if wait, is, bounded := longPoll(req); is {
			if !bounded {
				return next.RoundTrip(ctx, req, res)
			}
			within += wait
		}
		limited, cancel := context.WithTimeout(ctx, within)
		defer cancel()
		err := next.RoundTrip(limited, req, res)
		if err != nil && limited.Err() != nil && ctx.Err() == nil {
			return errdefs.Wrap(errdefs.DeadlineExceeded, err, "vCenter %s did not answer %s within %s", host, Method(req), within)
		}
		return err
	})
}

// unauthenticated reports whether vCenter refused a call because the session is
// not (any more) logged in. The property collector says so in the answer
// instead of a fault.
func unauthenticated(err error, res soap.HasFault) bool {
	if err != nil {
		return hasFault(err, "NotAuthenticated")
	}
	body, ok := res.(*methods.RetrievePropertiesExBody)
	if !ok || body.Res == nil || body.Res.Returnval == nil {
		return false
	}
	for _, object := range body.Res.Returnval.Objects {
		for _, missing := range object.MissingSet {
			if isFault(missing.Fault.Fault, "NotAuthenticated") {
				return true
			}
		}
	}
	return false
}

// reset empties a response body, so that the next attempt does not find the
// last one's fault in it.
func reset(res soap.HasFault) {
	if v := reflect.ValueOf(res); v.Kind() == reflect.Pointer && !v.IsNil() {
		v.Elem().SetZero()
	}
}

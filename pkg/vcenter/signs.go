// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// tooLate is the cause of contexts that end since vCenter did not answer in time,
// not since a caller gave up. It is a context.DeadlineExceeded.
type tooLate struct{}

// Error says so.
func (tooLate) Error() string { return "vCenter did not answer in time" }

// Is makes it what it would be without a cause.
func (tooLate) Is(target error) bool { return target == context.DeadlineExceeded }

// statusError is an answer of HTTP to a SOAP request that holds no SOAP.
type statusError struct {
	code int
	text string
	// after is how long vCenter asks to wait; negative if it does not say.
	after time.Duration
}

// Error names the status.
func (e *statusError) Error() string { return e.text }

// statuses is a transport that turns the statuses of SOAP requests into errors:
// govmomi's do not tell the code nor the header.
type statuses struct {
	next  http.RoundTripper
	clock clock.PassiveClock
}

// RoundTrip sends a request.
func (s *statuses) RoundTrip(req *http.Request) (*http.Response, error) {
	res, err := s.next.RoundTrip(req)
	// Faults come as 500.
	if err != nil || req.URL.Path != vim25.Path || res.StatusCode < 400 || res.StatusCode == http.StatusInternalServerError {
		return res, err
	}
	drain(res)
	return nil, &statusError{res.StatusCode, res.Status, retryAfter(res.Header.Get("Retry-After"), s.clock.Now())}
}

// retryAfter reads the header of that name: seconds or a date.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(strings.TrimSpace(header), 10, 31); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(header); err == nil {
		return max(0, at.Sub(now))
	}
	return -1
}

// verdict is what the end of a call says: of the load of vCenter, whether it
// lives, and whether the same request may have another answer in a moment.
type verdict struct {
	sign    sign
	outcome outcome
	passing bool
	// after is how long vCenter asks to wait; negative if it does not say.
	after time.Duration
}

// judge reads the end of a call that had the context ctx.
func judge(ctx context.Context, err error) verdict {
	v := verdict{sign: signGood, outcome: outcomeAnswer, after: -1}
	if err == nil {
		return v
	}
	if fault := faultOf(err); fault != nil {
		// Which faults there are is vCenter's affair; that there is one shows that it lives.
		v.sign, v.passing = faultSign(fault), isFault(fault, "HostCommunication")
		return v
	}
	_, late := errors.AsType[tooLate](context.Cause(ctx))
	if errors.Is(err, context.Canceled) || ctx.Err() != nil && !late {
		return verdict{signNone, outcomeNone, false, -1}
	}
	if status, ok := errors.AsType[*statusError](err); ok {
		v.after = status.after
		switch status.code {
		case http.StatusTooManyRequests: // by somebody who lives
			v.sign, v.passing = signStrong, true
		case http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			v.sign, v.outcome, v.passing = signStrong, outcomeFailure, true
		case http.StatusBadGateway:
			v.sign, v.outcome, v.passing = signWeak, outcomeFailure, true
		}
		return v
	}
	switch {
	case !isTransport(err):
		return v
	case isLate(err):
		// Its time is over: it is not repeated.
		return verdict{signStrong, outcomeFailure, false, -1}
	}
	return verdict{signWeak, outcomeFailure, true, -1}
}

// faultSign reads a fault as a sign of load.
func faultSign(fault types.BaseMethodFault) sign {
	switch {
	case isFault(fault, "Timedout"), slices.ContainsFunc(lineage(fault), func(n string) bool { return strings.HasPrefix(n, "TooManyConcurrent") }):
		return signStrong
	case isFault(fault, "TaskInProgress"):
		return signWeak
	default:
		return signGood
	}
}

// taskSign reads the faults of tasks that an answer brings: there overload is
// told more often than in the answer to the call that began the task.
func taskSign(res soap.HasFault) sign {
	body, ok := res.(*methods.WaitForUpdatesExBody)
	if !ok || body.Res == nil || body.Res.Returnval == nil {
		return signGood
	}
	worst := signGood
	for _, filter := range body.Res.Returnval.FilterSet {
		for _, object := range filter.ObjectSet {
			if object.Obj.Type != "Task" {
				continue
			}
			for _, change := range object.ChangeSet {
				switch e := change.Val.(type) {
				case types.LocalizedMethodFault:
					worst = max(worst, faultSign(e.Fault))
				case *types.LocalizedMethodFault:
					worst = max(worst, faultSign(e.Fault))
				}
			}
		}
	}
	return worst
}

// isTransport reports that there was no answer, or one that is not vCenter's. A
// certificate that is not trusted is none of these: a person must act, and only
// sessions with that trust are concerned.
func isTransport(err error) bool {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return false
	}
	if e, ok := errors.AsType[*errdefs.Error](err); ok {
		return e.Kind == errdefs.DeadlineExceeded // of bound
	}
	return isNetwork(err) || isGarbled(err)
}

// isLate reports that Options.CallTimeout, or that of the connection, was over.
func isLate(err error) bool {
	if errdefs.Is(err, errdefs.DeadlineExceeded) || errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	e, ok := errors.AsType[net.Error](err)
	return ok && e.Timeout()
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/vmware/govmomi/vim25/soap"
	"k8s.io/klog/v2"
)

const (
	// firstPause is that before the first repetition; it doubles up to longestPause.
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
	// budgetBurst is how many repetitions may be saved up, and how many there are at first.
	budgetBurst = 10
)

// repeatable is the table of methods that may be sent again when their answer is
// lost, with the reason. What is not listed is never repeated here: its caller
// looks whether it took effect. Not listed with intent:
//
//   - Login: each that took effect is a session more, and a wrong password counts.
//   - ContinueRetrievePropertiesEx: its token is used up by the first attempt.
//   - WaitForUpdatesEx: what the collector thinks was told, only its user can say.
//   - CreatePropertyCollector, CreateContainerView: one whose answer was lost stays
//     as long as the session.
//   - DestroyPropertyFilter and other removals: repeated, they say that nothing is there.
//   - SearchDatastore_Task: reads, but makes a task.
var repeatable = map[string]string{ //nolint:gochecknoglobals // a constant table
	"RetrieveServiceContent":         "reads, without a session",
	"CurrentTime":                    "reads",
	"RetrieveProperties":             "reads",
	"RetrievePropertiesEx":           "reads; what a lost answer would have continued, vCenter forgets",
	"FindByInventoryPath":            "reads",
	"FindByUuid":                     "reads",
	"FindAllByUuid":                  "reads",
	"FindByDatastorePath":            "reads",
	"FindChild":                      "reads",
	"HasPrivilegeOnEntities":         "reads",
	"FetchUserPrivilegeOnEntities":   "reads",
	"ConvertNamespacePathToUuidPath": "reads",
	"HttpNfcLeaseGetManifest":        "reads",
	"CreateFilter":                   "a filter more, whose updates its collector's user does not know and skips; it goes with the collector",
}

// budget is how many repetitions there may be: a share of the calls, and a few
// saved ones. So a vCenter in trouble gets hardly more load than a healthy one.
// That of failsafe-go limits repetitions under way at the same time instead, which
// one caller after another does not exceed.
type budget struct{ share, saved float64 }

func newBudget(share float64) *budget { return &budget{share: max(0, share), saved: budgetBurst} }

// earn adds the share of one call.
func (b *budget) earn() { b.saved = min(budgetBurst, b.saved+b.share) }

// spend takes one repetition if there is one.
func (b *budget) spend() bool {
	if b.share <= 0 || b.saved < 1 {
		return false
	}
	b.saved--
	return true
}

// attemptKey is the key of the number of an attempt in a context.
type attemptKey struct{}

// Attempt returns which attempt of a call a request is, for Options.Observer and
// Options.Middleware: 1, or more if the call is repeated since vCenter could not
// be reached. A call that is repeated after a renewal of the session begins with 1.
func Attempt(ctx context.Context) int {
	if n, ok := ctx.Value(attemptKey{}).(int); ok {
		return n
	}
	return 1
}

// pause is how long to wait before an attempt: half of it is random, so that
// those who failed together do not come back together. chance is in [0, 1).
func pause(attempt int, asked time.Duration, chance float64) time.Duration {
	d := min(longestPause, firstPause<<min(attempt-2, 10))
	return max(asked, d/2+time.Duration(chance*float64(d/2)))
}

// repeat is the layer that repeats calls that may be repeated. Neither the caller's
// deadline nor limit, which is that of a single call, is exceeded by it.
//
// The retry policy of failsafe-go is not used: it waits by the system's clock.
func (h *host) repeat(next soap.RoundTripper, attempts int, limit time.Duration) soap.RoundTripper {
	return roundTripFunc(func(ctx context.Context, req, res soap.HasFault) error {
		method := Method(req)
		h.earn()
		if _, ok := repeatable[method]; !ok {
			return next.RoundTrip(ctx, req, res)
		}
		begin := h.clock.Now()
		err := next.RoundTrip(ctx, req, res)
		for attempt := 2; attempt <= attempts && h.again(ctx, err); attempt++ {
			d := pause(attempt, judge(ctx, err).after, rand.Float64()) //nolint:gosec // no secret
			left := limit - h.clock.Since(begin) - d
			if deadline, ok := ctx.Deadline(); ok {
				left = min(left, deadline.Sub(h.clock.Now())-d)
			}
			if left <= 0 || !h.spend() {
				return err
			}
			klog.FromContext(ctx).V(4).Info("Repeating a call", "vcenter", h.name, "method", method, "attempt", attempt, "pause", d, "reason", err.Error())
			if !h.rest(ctx, d) {
				return err
			}
			last := err
			limited, cancel := context.WithTimeoutCause(context.WithValue(ctx, attemptKey{}, attempt), left, tooLate{})
			reset(res)
			err = next.RoundTrip(limited, req, res)
			over := limited.Err() != nil
			cancel()
			if err != nil && over {
				return last // it says more than that there was no time left
			}
		}
		return err
	})
}

// again reports whether the same request may have another answer in a moment.
func (h *host) again(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() == nil && h.refused() == nil && judge(ctx, err).passing
}

func (h *host) rest(ctx context.Context, d time.Duration) bool {
	timer := h.clock.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C():
		return true
	case <-ctx.Done():
		return false
	}
}

func (h *host) earn() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.budget.earn()
}

func (h *host) spend() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.budget.spend() {
		h.denied++
		return false
	}
	h.retries++
	return true
}

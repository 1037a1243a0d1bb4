// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// gate lets in one call for a machine at a time, and not too many altogether.
type gate struct {
	clock clock.PassiveClock
	most  int

	mu    sync.Mutex
	calls int
	busy  map[string]occupant
}

// occupant is the call that a machine has under way.
type occupant struct {
	method string
	since  time.Time
}

func newGate(most int, c clock.PassiveClock) *gate {
	return &gate{clock: c, most: most, busy: map[string]occupant{}}
}

// enter lets a call in or says why not. machine is the machine's key, empty for
// calls that are for no single machine. Too many calls are Unavailable and not
// ResourceExhausted, for MCM would take that for a lack of capacity in the
// VCH and the autoscaler would turn to another pool.
func (g *gate) enter(method, machine, name string) (leave func(), err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.calls >= g.most {
		return nil, refusal(codes.Unavailable, fmt.Sprintf(
			"%s: the driver has %d calls under way, which is its limit; try again, or raise --max-concurrent-calls", method, g.calls))
	}
	if other, found := g.busy[machine]; found && machine != "" {
		return nil, refusal(codes.Aborted, fmt.Sprintf(
			"%s of machine %s: %s is under way for it since %s; try again when that has ended", method, name, other.method,
			g.clock.Since(other.since).Round(time.Second)))
	}
	g.calls++
	if machine != "" {
		g.busy[machine] = occupant{method: method, since: g.clock.Now()}
	}
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.calls--
		delete(g.busy, machine)
	}, nil
}

// extent is what a request says about the size of its work.
type extent struct {
	// machine is a key that all requests for one machine have in common; empty for
	// requests that are for no single machine.
	machine string
	// limit is how long the call may take altogether.
	limit time.Duration
}

// outline is the part of a ProviderSpec that extentOf needs. Whether the rest is
// right is for the driver to say, which decodes all of it; that costs tens of
// microseconds, once is enough.
type outline struct {
	VCH struct {
		Datacenter string `json:"datacenter"`
		Name       string `json:"name"`
	} `json:"vch"`
	Tags                   map[string]string `json:"tags"`
	StartTimeoutSeconds    *int64            `json:"startTimeoutSeconds"`
	StopGracePeriodSeconds *int64            `json:"stopGracePeriodSeconds"`
}

// extentOf reads a request as far as it can be read. Two classes can name one VCH
// in two ways; then the keys differ, and the backend's own lock takes care of
// the machine. timeout is that of a call of the driver.
func extentOf(req any, namespace string, timeout time.Duration) extent {
	e := extent{limit: timeout}
	named, ok := req.(message)
	if !ok {
		return e
	}
	var spec outline
	key := []string{namespace}
	if err := json.Unmarshal(named.GetProviderSpec(), &spec); err == nil {
		key = []string{spec.VCH.Datacenter, spec.VCH.Name}
		for _, tag := range slices.Sorted(maps.Keys(spec.Tags)) {
			if strings.HasPrefix(tag, identity.ClusterTagPrefix) {
				key = append(key, tag)
			}
		}
	}
	switch req.(type) {
	case *cmiv1.CreateMachineRequest: // MCM's two steps, create and initialize
		e.limit += timeout + seconds(spec.StartTimeoutSeconds, v1alpha1.DefaultStartTimeoutSeconds, v1alpha1.MaxStartTimeoutSeconds)
	case *cmiv1.DeleteMachineRequest, *cmiv1.ShutDownMachineRequest:
		e.limit += seconds(spec.StopGracePeriodSeconds, v1alpha1.DefaultStopGracePeriodSeconds, v1alpha1.MaxStopGracePeriodSeconds)
	}
	if named.GetMachineName() != "" {
		e.machine = strings.Join(append(key, named.GetMachineName()), "\x00")
	}
	return e
}

// seconds is a value of a ProviderSpec that nobody has validated yet.
func seconds(value *int64, otherwise, most int64) time.Duration {
	return time.Duration(min(max(ptr.Deref(value, otherwise), 0), most)) * time.Second
}

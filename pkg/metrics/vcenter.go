// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// host is a metric of a vCenter that has one sample.
func host(name, kind, help string, value func(s vcenter.HostStats) float64) family[vcenter.HostStats] {
	return family[vcenter.HostStats]{
		Description: Description{"vcenter_" + name, kind, []string{"vcenter"}, help},
		samples:     func(s vcenter.HostStats, _ time.Time) []sample { return at(value(s), s.Host) },
	}
}

// store is a metric of a datastore.
func store(name, help string, value func(s vcenter.DatastoreStats) int) family[vcenter.HostStats] {
	return family[vcenter.HostStats]{
		Description: Description{"datastore_" + name, gauge, []string{"vcenter", "datastore"}, help},
		samples: func(s vcenter.HostStats, _ time.Time) []sample {
			var all []sample
			for _, d := range s.Datastores {
				all = append(all, sample{float64(value(d)), []string{s.Host, d.ID}})
			}
			return all
		},
	}
}

func hostFamilies() []family[vcenter.HostStats] {
	return []family[vcenter.HostStats]{
		host("sessions", gauge, "Sessions with vCenter that are logged in.",
			func(s vcenter.HostStats) float64 { return float64(s.Sessions) }),
		host("request_limit", gauge, "Requests that may be under way at once now.",
			func(s vcenter.HostStats) float64 { return float64(s.Limit) }),
		host("request_limit_min", gauge, "The least to which that limit is lowered.",
			func(s vcenter.HostStats) float64 { return float64(s.MinLimit) }),
		host("request_limit_max", gauge, "That limit while vCenter is not overloaded.",
			func(s vcenter.HostStats) float64 { return float64(s.MaxLimit) }),
		host("requests_in_flight", gauge, "Requests under way, long polls not counted.",
			func(s vcenter.HostStats) float64 { return float64(s.InFlight) }),
		host("requests_waiting", gauge, "Requests that wait for their turn.",
			func(s vcenter.HostStats) float64 { return float64(s.Waiting) }),
		host("long_polls", gauge, "Requests that rest in vCenter until something changes.",
			func(s vcenter.HostStats) float64 { return float64(s.LongPolls) }),
		host("tasks", gauge, "Tasks of vCenter that somebody waits for.",
			func(s vcenter.HostStats) float64 { return float64(s.Tasks) }),
		host("overloads_total", counter, "Signs of overload that lowered the limit of requests, or would have if it could be lower.",
			func(s vcenter.HostStats) float64 { return float64(s.Overloads) }),
		host("retries_total", counter, "Requests that were sent again.",
			func(s vcenter.HostStats) float64 { return float64(s.Retries) }),
		host("retries_denied_total", counter, "Requests that were not sent again since the budget was used up.",
			func(s vcenter.HostStats) float64 { return float64(s.RetriesDenied) }),
		breakerState(),
		unanswered(),
		host("failures", gauge, "Requests without an answer since the last answer.",
			func(s vcenter.HostStats) float64 { return float64(s.Failures) }),
		store("operation_limit", "Heavy operations that may be under way at once on a datastore which has some now.",
			func(s vcenter.DatastoreStats) int { return s.Limit }),
		store("operations_in_flight", "Heavy operations under way on a datastore.",
			func(s vcenter.DatastoreStats) int { return s.InFlight }),
		store("operations_waiting", "Heavy operations that wait for their turn on a datastore.",
			func(s vcenter.DatastoreStats) int { return s.Waiting }),
	}
}

func breakerState() family[vcenter.HostStats] {
	return family[vcenter.HostStats]{
		Description: Description{
			"vcenter_breaker_state", gauge,
			[]string{"vcenter", "state"},
			"1 for the state of the circuit breaker, 0 for the others: closed, open (requests fail at once), half-open (one is tried).",
		},
		samples: func(s vcenter.HostStats, _ time.Time) []sample {
			var all []sample
			for _, state := range []vcenter.BreakerState{vcenter.BreakerClosed, vcenter.BreakerOpen, vcenter.BreakerHalfOpen} {
				all = append(all, sample{truth(s.Breaker == state), []string{s.Host, string(state)}})
			}
			return all
		},
		join: larger,
	}
}

func unanswered() family[vcenter.HostStats] {
	return family[vcenter.HostStats]{
		Description: Description{
			"vcenter_unanswered_seconds", gauge,
			[]string{"vcenter"},
			"Time since when vCenter does not answer; 0 while the circuit breaker is closed.",
		},
		samples: func(s vcenter.HostStats, now time.Time) []sample {
			if s.Breaker == vcenter.BreakerClosed || s.Since.IsZero() {
				return at(0, s.Host)
			}
			return at(max(0, now.Sub(s.Since).Seconds()), s.Host)
		},
		join: larger,
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containercache"
)

// watch is a metric of the cache of a VCH that has one sample.
func watch(name, kind, help string, value func(s containercache.Stats) float64) family[containercache.Stats] {
	return family[containercache.Stats]{
		Description: Description{"cache_" + name, kind, []string{"vcenter", "vch"}, help},
		samples:     func(s containercache.Stats, _ time.Time) []sample { return at(value(s), s.VCenter, s.VCH) },
	}
}

func cacheFamilies() []family[containercache.Stats] {
	synced := watch("synced", gauge, "1 if the cache answers questions, 0 if they all go to vCenter.",
		func(s containercache.Stats) float64 { return truth(s.Synced) })
	synced.join = smaller
	return []family[containercache.Stats]{
		synced,
		age(),
		watch("vms", gauge, "Container VMs that are known.",
			func(s containercache.Stats) float64 { return float64(s.VMs) }),
		watch("machines", gauge, "Those with a proven mark.",
			func(s containercache.Stats) float64 { return float64(s.Machines) }),
		watch("updates_total", counter, "Changes of VMs that were taken in.",
			func(s containercache.Stats) float64 { return float64(s.Updates) }),
		watch("resyncs_total", counter, "Times that all was read anew, since a session or collector was lost.",
			func(s containercache.Stats) float64 { return float64(s.Resyncs) }),
		queries(),
	}
}

func age() family[containercache.Stats] {
	return family[containercache.Stats]{
		Description: Description{
			"cache_age_seconds", gauge,
			[]string{"vcenter", "vch"},
			"Time since vCenter last said what changed, or that nothing did; absent before the first time.",
		},
		samples: func(s containercache.Stats, now time.Time) []sample {
			if s.Heard.IsZero() {
				return nil
			}
			return at(max(0, now.Sub(s.Heard).Seconds()), s.VCenter, s.VCH)
		},
		join: larger,
	}
}

func queries() family[containercache.Stats] {
	return family[containercache.Stats]{
		Description: Description{
			"cache_queries_total", counter,
			[]string{"vcenter", "vch", "result"},
			"Questions that were answered from memory (result hit), or that went to vCenter (miss).",
		},
		samples: func(s containercache.Stats, _ time.Time) []sample {
			return []sample{
				{float64(s.Hits), []string{s.VCenter, s.VCH, "hit"}},
				{float64(s.Misses), []string{s.VCenter, s.VCH, "miss"}},
			}
		},
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containercache

import "time"

// Stats is the state of the watch of one VCH.
type Stats struct {
	// VCenter is the host name of its vCenter, VCH the path of its datacenter and its name: dc-1/vch-1. Sessions of
	// several users that watch the same VCH have the same.
	VCenter, VCH string
	// Synced says that the cache answers questions: it knows all container VMs, and vCenter has confirmed it
	// lately. While it does not, every question goes to vCenter.
	Synced bool
	// VMs counts the container VMs that are known, Machines those with a proven mark.
	VMs, Machines int
	// Heard is when vCenter last said what changed, or that nothing did; zero before the first time. What the cache
	// answers is at most that old.
	Heard time.Time
	// Updates counts the changes of VMs that were taken in, Resyncs how often all was read anew since a session
	// or collector was lost. Both only grow while the VCH is watched.
	Updates, Resyncs uint64
	// Hits counts questions that were answered from memory, Misses those that went to vCenter.
	Hits, Misses uint64
}

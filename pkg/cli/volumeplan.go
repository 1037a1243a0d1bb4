// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"strings"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// pruneAge is how old a volume is at least that prune removes: a machine that is
// being made has its volumes before it has a VM.
const pruneAge = 10 * time.Minute

// volumeRemoval is a volume that goes, and why. The JSON names are for scripts: they
// stay, as all of this file.
type volumeRemoval struct {
	Name      string        `json:"name"`
	Store     string        `json:"store"`
	Driver    volume.Driver `json:"driver"`
	Location  string        `json:"location"`
	Capacity  int64         `json:"capacity"`
	Anonymous bool          `json:"anonymous"`
	// Machine is whom the volume was made for, if the driver made it.
	Machine string    `json:"machine,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Reason  string    `json:"reason"`
}

// keptVolume is a volume that stays although it would go otherwise, and why.
type keptVolume struct {
	Name   string `json:"name"`
	Store  string `json:"store"`
	Reason string `json:"reason"`
}

// volumePrunePlan is what volume prune removes.
type volumePrunePlan struct {
	Volumes   []volumeRemoval   `json:"volumes"`
	Leftovers []volume.Leftover `json:"leftovers"`
	Kept      []keptVolume      `json:"kept"`
	// Capacity is that of the volumes, in bytes: the most that can become free.
	Capacity int64 `json:"capacity"`
}

// planVolumePrune says which volumes go of those that the filter wants: those that no
// VM has and that were made for one machine, or with all, every one.
func planVolumePrune(volumes []volumeInfo, all bool, now time.Time) volumePrunePlan {
	plan := volumePrunePlan{Volumes: []volumeRemoval{}, Leftovers: []volume.Leftover{}, Kept: []keptVolume{}}
	for i := range volumes {
		v := &volumes[i]
		if !all && !v.Anonymous {
			continue
		}
		using, unproven := splitUsers(v.Users)
		if len(using) > 0 {
			continue
		}
		reason := ""
		switch {
		case v.UsersError != "":
			reason = v.UsersError
		case len(unproven) > 0:
			reason = unprovenText(unproven)
		case v.Damage != "":
			reason = "it is damaged: see it with vchctl volume inspect, and remove it by name with vchctl volume rm"
		case !v.Created.IsZero() && now.Sub(v.Created) < pruneAge:
			reason = "it is less than 10 minutes old, and may be for a machine that has no VM yet"
		}
		if reason != "" {
			plan.Kept = append(plan.Kept, keptVolume{v.Name, v.Store, reason})
			continue
		}
		plan.add(newVolumeRemoval(v))
	}
	return plan
}

func newVolumeRemoval(v *volumeInfo) volumeRemoval {
	reason := "no VM has it"
	if v.Anonymous {
		reason = "anonymous, and no VM has it"
	}
	return volumeRemoval{
		Name: v.Name, Store: v.Store, Driver: v.Driver, Location: v.Location, Capacity: v.Capacity, Anonymous: v.Anonymous,
		Machine: v.Metadata.Labels[volume.LabelMachine], Created: v.Created, Reason: reason,
	}
}

func (p *volumePrunePlan) add(r volumeRemoval) {
	p.Volumes, p.Capacity = append(p.Volumes, r), p.Capacity+r.Capacity
}

func (p *volumePrunePlan) empty() bool { return len(p.Volumes)+len(p.Leftovers) == 0 }

// named counts the volumes that have a name of their own.
func (p *volumePrunePlan) named() int {
	n := 0
	for _, v := range p.Volumes {
		if !v.Anonymous {
			n++
		}
	}
	return n
}

// count is what the plan has, such as 2 volumes (up to 3 GiB) and 1 leftover.
func (p *volumePrunePlan) count() string {
	var parts []string
	if len(p.Volumes) > 0 {
		text := countText(len(p.Volumes), "volume", "volumes")
		if p.Capacity > 0 {
			text += " (up to " + bytesText(p.Capacity) + ")"
		}
		parts = append(parts, text)
	}
	if len(p.Leftovers) > 0 {
		parts = append(parts, countText(len(p.Leftovers), "leftover", "leftovers"))
	}
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, " and ")
}

// keptTexts says why volumes stay, a line for each reason.
func (p *volumePrunePlan) keptTexts() []string {
	names := map[string][]string{}
	for _, k := range p.Kept {
		names[k.Reason] = append(names[k.Reason], k.Name)
	}
	var texts []string
	for reason, of := range names {
		texts = append(texts, "Kept "+someText(of)+": "+reason+".")
	}
	slices.Sort(texts)
	return texts
}

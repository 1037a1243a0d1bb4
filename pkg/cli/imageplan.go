// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// removal is an image disk that goes, and why. The JSON names are for scripts:
// they stay, as all of this file.
type removal struct {
	image.Key
	Path      string   `json:"path"`
	Names     []string `json:"names"`
	UsedBytes int64    `json:"usedBytes"`
	Reason    string   `json:"reason"`
}

func newRemoval(disk image.Disk, reason string) removal {
	return removal{Key: disk.Key, Path: disk.Path, Names: append([]string{}, disk.Names...), UsedBytes: disk.UsedBytes, Reason: reason}
}

// prunePlan is what image prune removes.
type prunePlan struct {
	Disks     []removal        `json:"disks"`
	Leftovers []image.Leftover `json:"leftovers"`
	// Unproven are VMs for which alone disks stay that would go otherwise.
	Unproven []image.User `json:"unproven"`
}

// planPrune says what goes: all leftovers, and of the disks that no VM has those
// that no name leads to, or with all, every one.
func planPrune(disks []image.Disk, users map[image.Key][]image.User, leftovers []image.Leftover, all bool) prunePlan {
	plan := prunePlan{Disks: []removal{}, Leftovers: append([]image.Leftover{}, leftovers...), Unproven: []image.User{}}
	for _, disk := range disks {
		if len(disk.Names) > 0 && !all {
			continue
		}
		if by := users[disk.Key]; len(by) > 0 {
			if !slices.ContainsFunc(by, func(u image.User) bool { return !u.Unproven }) {
				plan.Unproven = append(plan.Unproven, by...)
			}
			continue
		}
		reason := "no VM uses it"
		if len(disk.Names) == 0 {
			reason = "no name leads to it, and no VM uses it"
		}
		plan.Disks = append(plan.Disks, newRemoval(disk, reason))
	}
	slices.SortFunc(plan.Unproven, func(a, b image.User) int { return strings.Compare(a.Name+"\x00"+a.VM, b.Name+"\x00"+b.VM) })
	plan.Unproven = slices.Compact(plan.Unproven)
	return plan
}

func (p prunePlan) empty() bool { return len(p.Disks)+len(p.Leftovers) == 0 }

func (p prunePlan) keys() []image.Key {
	keys := make([]image.Key, 0, len(p.Disks))
	for _, disk := range p.Disks {
		keys = append(keys, disk.Key)
	}
	return keys
}

// only returns the part of the plan that these disks are.
func (p prunePlan) only(keys []image.Key) []removal {
	return slices.DeleteFunc(slices.Clone(p.Disks), func(r removal) bool { return !slices.Contains(keys, r.Key) })
}

// planRemove says which of the disks go that somebody named. Those that a VM has
// are in the error, with what to do about it.
func planRemove(disks []image.Disk, users map[image.Key][]image.User) ([]removal, []error) {
	var plan []removal
	var refused []error
	for _, disk := range disks {
		if by := users[disk.Key]; len(by) > 0 {
			refused = append(refused, inUse(disk, by))
			continue
		}
		plan = append(plan, newRemoval(disk, "it was named, and no VM uses it"))
	}
	return plan, refused
}

// inUse is why a disk cannot be removed.
func inUse(disk image.Disk, users []image.User) error {
	using, unproven := splitUsers(users)
	text := "image disk " + diskText(disk) + " stays"
	if len(using) > 0 {
		text += ": it has children in " + vmsText(using) + "; delete their machines first"
	}
	if len(unproven) > 0 {
		text += ": " + unprovenText(unproven)
	}
	return errdefs.New(errdefs.FailedPrecondition, "%s", text)
}

// diskText names a disk, such as 0123456789ab of 8Gi (docker.io/library/k3s:v1).
func diskText(disk image.Disk) string {
	text := shortDigest(disk.Digest) + " of " + sizeText(disk.Size)
	if len(disk.Names) > 0 {
		text += " (" + strings.Join(disk.Names, ", ") + ")"
	}
	return text
}

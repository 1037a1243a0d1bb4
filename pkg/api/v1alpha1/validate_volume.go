// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

func validateVolumes(volumes []Volume, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(volumes) > MaxVolumes {
		errs = append(errs, field.TooMany(path, len(volumes), MaxVolumes))
	}
	names, mounts := map[string]bool{}, map[string]bool{}
	for i := range volumes {
		v, at := &volumes[i], path.Index(i)
		errs = append(errs, validateVolumeName(v.Name, at.Child("name"))...)
		// The name becomes part of a key, and VMX files do not tell upper from lower case.
		if folded := strings.ToLower(v.Name); folded != "" {
			if names[folded] {
				errs = append(errs, field.Duplicate(at.Child("name"), clip(v.Name)))
			}
			names[folded] = true
		}
		errs = append(errs, validateMountPath(v.MountPath, at.Child("mountPath"))...)
		if mounts[v.MountPath] && v.MountPath != "" {
			errs = append(errs, field.Duplicate(at.Child("mountPath"), clip(v.MountPath)))
		}
		mounts[v.MountPath] = true
		errs = append(errs, validateVolume(v, at)...)
	}
	return errs
}

// validateVolumeName judges the name as it will be for any machine.
func validateVolumeName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return nil
	}
	if strings.ContainsAny(strings.ReplaceAll(name, PlaceholderMachine, ""), "{}") {
		return field.ErrorList{field.Invalid(path, clip(name), "must have no braces but those of {machine}, the only placeholder")}
	}
	v := Volume{Name: name}
	if longest := len(v.NameFor(strings.Repeat("m", maxHostNameBytes))); longest > volume.MaxName {
		reason := fmt.Sprintf("has %d characters, at most %d are allowed", longest, volume.MaxName)
		if longest != len(name) {
			reason = fmt.Sprintf("has %d characters with a machine's name of %d, at most %d are allowed", longest, maxHostNameBytes, volume.MaxName)
		}
		return field.ErrorList{field.Invalid(path, clip(name), reason)}
	}
	if volume.ValidateName(v.NameFor("m")) != nil {
		return field.ErrorList{field.Invalid(path, clip(name), "must begin with a letter or digit and have only letters, digits, and _ . - beside {machine}")}
	}
	return nil
}

// validateVolume judges what a volume has beside its name and its path.
func validateVolume(v *Volume, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if v.Store != "" {
		at := path.Child("store")
		errs = append(errs, validateName(v.Store, at, MaxStoreLabelBytes)...)
		if strings.ContainsAny(v.Store, "|:") {
			errs = append(errs, field.Invalid(at, clip(v.Store), "must be the label of a volume store, which has no '|' and no ':'"))
		}
	}
	if q := v.Capacity; q != nil &&
		(q.Cmp(*resource.NewQuantity(volume.MinCapacity, resource.BinarySI)) < 0 || q.Cmp(*resource.NewQuantity(volume.MaxCapacity, resource.BinarySI)) > 0) {
		errs = append(errs, field.Invalid(path.Child("capacity"), q.String(), "must be between 8Mi and 2Ti"))
	}
	if modes := []VolumeMode{VolumeReadWrite, VolumeReadOnly}; v.Mode != "" && !slices.Contains(modes, v.Mode) {
		errs = append(errs, field.NotSupported(path.Child("mode"), VolumeMode(clip(string(v.Mode))), modes))
	}
	at := path.Child("retainPolicy")
	switch policies := []RetainPolicy{RetainVolume, DeleteVolume}; {
	case v.RetainPolicy != "" && !slices.Contains(policies, v.RetainPolicy):
		errs = append(errs, field.NotSupported(at, RetainPolicy(clip(string(v.RetainPolicy))), policies))
	case v.RetainPolicy == DeleteVolume && !v.Anonymous() && !strings.Contains(v.Name, PlaceholderMachine):
		errs = append(errs, field.Forbidden(at, "Delete is for what one machine has alone: the name must have {machine} in it, or be left out"))
	}
	return errs
}

// guestPaths are what VIC's guest needs as it is, and all below them: the kernel's file
// systems, its own, the modules of its kernel, and files that it mounts others over. It would
// end or hang with a volume there (VIC, lib/tether/ops_linux.go:61-68,183-236,
// cmd/tether/ops_linux.go:120-135, isos/bootstrap/bootstrap:44-73).
func guestPaths() []string {
	return []string{"/.tether", "/dev", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf", "/lib/modules", "/proc", "/sys"}
}

// guestParents are directories that hide one of those when a volume is mounted there, or, as
// /run, that the guest has a hand in; below them there is room.
func guestParents() []string { return []string{"/", "/etc", "/lib", "/run"} }

func validateMountPath(p string, at *field.Path) field.ErrorList {
	errs := validateName(p, at, MaxPathBytes)
	if p == "" {
		return errs
	}
	if strings.Contains(p, "|") {
		errs = append(errs, field.Invalid(at, clip(p), BadListText(p)))
	}
	if !strings.HasPrefix(p, "/") {
		return append(errs, field.Invalid(at, clip(p), "must be absolute"))
	}
	clean := path.Clean(p)
	if clean != p {
		errs = append(errs, field.Invalid(at, clip(p), "must not have '.', '..', an empty part or a slash at its end; write "+clip(clean)))
	}
	if slices.Contains(guestParents(), clean) {
		errs = append(errs, field.Invalid(at, clip(p), "must not be a directory that VIC's guest needs as it is; one below it may be"))
	}
	for _, own := range guestPaths() {
		if strings.HasPrefix(clean+"/", own+"/") {
			errs = append(errs, field.Invalid(at, clip(p), "must not be at or below "+own+", which VIC's guest needs as it is"))
		}
	}
	return errs
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// validateTags judges the tags: the two that are part of the mark, and all as
// annotations of the executor configuration.
func validateTags(tags map[string]string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(tags) > MaxTags {
		errs = append(errs, field.TooMany(path, len(tags), MaxTags))
	}
	errs = append(errs, validateMarkTags(tags, path)...)
	seen := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		at := path.Key(clip(key))
		if reason := badTagKey(key); reason != "" {
			errs = append(errs, field.Invalid(at, clip(key), "key "+reason))
		}
		// VMX files do not tell upper from lower case.
		folded := strings.ToLower(key)
		if other, ok := seen[folded]; ok {
			errs = append(errs, field.Invalid(at, clip(key), fmt.Sprintf("key must differ from %q by more than case", clip(other))))
		}
		seen[folded] = key
		value := tags[key]
		if len(value) > MaxTagValueBytes {
			errs = append(errs, field.TooLong(at, value, MaxTagValueBytes))
		}
		if reason := badText(value); reason != "" {
			errs = append(errs, field.Invalid(at, clip(value), reason))
		}
		if value == nilText {
			errs = append(errs, field.Invalid(at, value, "must not be VIC's word for an empty value"))
		}
	}
	return errs
}

// validateMarkTags finds every fault for which identity.Tags would refuse the tags.
func validateMarkTags(tags map[string]string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	for _, prefix := range []string{identity.ClusterTagPrefix, identity.RoleTagPrefix} {
		var keys []string
		for key := range tags {
			if strings.HasPrefix(key, prefix) {
				keys = append(keys, clip(key))
			}
		}
		slices.Sort(keys)
		switch {
		case len(keys) == 0:
			errs = append(errs, field.Required(path, fmt.Sprintf("one key %s<name> is required", prefix)))
		case len(keys) > 1:
			errs = append(errs, field.Invalid(path, strings.Join(keys, ", "), fmt.Sprintf("only one key %s<name> is allowed", prefix)))
		}
		if slices.Contains(keys, prefix) {
			errs = append(errs, field.Invalid(path.Key(prefix), prefix, "key must have a name after the last slash"))
		}
	}
	return errs
}

func badTagKey(key string) string {
	switch {
	case key == "":
		return "must not be empty"
	case len(key) > MaxTagKeyBytes:
		return fmt.Sprintf("may not be more than %d bytes", MaxTagKeyBytes)
	case strings.Contains(key, "|"):
		return BadListText(key)
	default:
		return badName(key)
	}
}

// validateExtraConfig judges further keys of the VM's ExtraConfig.
func validateExtraConfig(extra map[string]string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(extra) > MaxExtraConfig {
		errs = append(errs, field.TooMany(path, len(extra), MaxExtraConfig))
	}
	seen := map[string]string{}
	total := 0
	for _, key := range slices.Sorted(maps.Keys(extra)) {
		at := path.Key(clip(key))
		folded := strings.ToLower(key)
		if reason := badExtraConfigKey(key); reason != "" {
			errs = append(errs, field.Invalid(at, clip(key), "key "+reason))
		} else if owner := extraConfigOwner(folded); owner != "" {
			errs = append(errs, field.Forbidden(at, "the key belongs to "+owner))
		}
		if other, ok := seen[folded]; ok {
			errs = append(errs, field.Invalid(at, clip(key), fmt.Sprintf("key must differ from %q by more than case", clip(other))))
		}
		seen[folded] = key
		value := extra[key]
		total += len(key) + len(value)
		if value == "" {
			errs = append(errs, field.Required(at, "an empty value would delete the key"))
		}
		if value == nilText {
			errs = append(errs, field.Invalid(at, value, "must not be VIC's word for an empty value"))
		}
		if reason := badText(value); reason != "" {
			errs = append(errs, field.Invalid(at, omitted, reason))
		}
	}
	if total > MaxExtraConfigBytes {
		errs = append(errs, field.TooLong(path, nil, MaxExtraConfigBytes))
	}
	return errs
}

func badExtraConfigKey(key string) string {
	if key == "" {
		return "must not be empty"
	}
	if len(key) > MaxExtraConfigKey {
		return fmt.Sprintf("may not be more than %d bytes", MaxExtraConfigKey)
	}
	for _, r := range key {
		if r <= ' ' || r > '~' || strings.ContainsRune(`|"=#`, r) {
			return "must be of printable ASCII characters without blank, '|', '\"', '=' and '#'"
		}
	}
	return ""
}

// extraConfigOwner says whose a key (in lower case) is, or "".
func extraConfigOwner(key string) string {
	first, _, _ := strings.Cut(key, "/")
	first, _, _ = strings.Cut(first, "@")
	switch {
	case strings.HasPrefix(key, "guestinfo.vice"), key == "guestinfo.ovfenv", key == "updateinprogress":
		return "VIC"
	case slices.Contains(hiddenRoots(), first):
		return "VIC's hidden configuration"
	case strings.HasPrefix(key, "guestinfo.userdata"), strings.HasPrefix(key, "guestinfo.metadata"):
		return "userData"
	case slices.Contains(fixedKeys(), key):
		return "the provider, which sets it as VIC does"
	case slices.ContainsFunc(devicePrefixes(), func(p string) bool { return isDeviceKey(key, p) }), slices.Contains(modelledKeys(), key):
		return "the VM's own configuration, which the provider or vSphere sets"
	}
	return ""
}

// hiddenRoots are the first parts of VIC's keys without prefix, those of a VCH included.
func hiddenRoots() []string {
	return []string{
		"annotations", "common", "diagnostics", "execs", "mounts", "networks", "sessions", "version",
		"cert", "connect", "container", "init", "network", "registry", "storage",
	}
}

// fixedKeys are the keys that VIC gives every container VM (lib/spec/spec.go:91-114).
func fixedKeys() []string {
	return []string{
		"disk.enableuuid", "answer.msg.disk.duplicateuuid", "answer.msg.serial.file.open", "sched.mem.lpage.maxsharedpages",
		"vmotion.checkpointsvgaprimarysize", "serial0.hardwareflowcontrol", "memory.nohotaddover4gb", "memory.maxgrow",
		"tools.remindinstall", "tools.upgrade.policy",
	}
}

// devicePrefixes begin, followed by a number, the keys of devices that vSphere models elsewhere.
func devicePrefixes() []string {
	return []string{"ethernet", "floppy", "ide", "nvme", "parallel", "pcibridge", "sata", "scsi", "serial", "usb"}
}

func isDeviceKey(key, prefix string) bool {
	rest, ok := strings.CutPrefix(key, prefix)
	return ok && rest != "" && rest[0] >= '0' && rest[0] <= '9'
}

// modelledKeys are keys of VMX files that vSphere models elsewhere.
func modelledKeys() []string {
	return []string{
		"annotation", "config.version", "cpuid.corespersocket", "displayname", "firmware", "guestos", "guestosaltname",
		"memsize", "numvcpus", "nvram", "uuid.action", "uuid.bios", "uuid.location", "vc.uuid", "virtualhw.version",
	}
}

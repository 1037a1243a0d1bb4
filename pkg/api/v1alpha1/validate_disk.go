// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"
)

// Bounds of a disk that is made from an image, in MiB, as image stores have them.
const (
	MinRootDiskMiB = 64
	MaxRootDiskMiB = 2 << 20 // 2 TiB
)

// validateRootDisk judges where the root disk comes from: an image or a vmdk.
func validateRootDisk(spec *ProviderSpec) field.ErrorList {
	var errs field.ErrorList
	disk := spec.RootDisk
	if disk == nil {
		disk = &RootDisk{}
	}
	path := field.NewPath("rootDisk")
	switch {
	case spec.Image == "" && spec.RootDisk == nil:
		errs = append(errs, field.Required(path, "image or rootDisk.vmdk is required"))
	case spec.Image == "":
		errs = append(errs, validateVMDK(disk.VMDK, path.Child("vmdk"))...)
	default:
		errs = append(errs, validateImage(spec.Image, field.NewPath("image"))...)
		if disk.VMDK != "" {
			errs = append(errs, field.Forbidden(path.Child("vmdk"), "only one of image and rootDisk.vmdk may be given"))
			errs = append(errs, validateVMDK(disk.VMDK, path.Child("vmdk"))...)
		}
	}
	if disk.Size != nil && spec.Image == "" {
		errs = append(errs, field.Forbidden(path.Child("size"), "only with image; a vmdk has its own size"))
	}
	errs = append(errs, validateMiB(disk.Size, MinRootDiskMiB, MaxRootDiskMiB, path.Child("size"))...)
	return append(errs, validatePullPolicy(spec, field.NewPath("imagePullPolicy"))...)
}

func validatePullPolicy(spec *ProviderSpec, path *field.Path) field.ErrorList {
	switch spec.ImagePullPolicy {
	case "":
		return nil
	case PullAlways, PullIfNotPresent, PullNever:
		if spec.Image == "" {
			return field.ErrorList{field.Forbidden(path, "only with image")}
		}
		return nil
	}
	return field.ErrorList{field.NotSupported(path, PullPolicy(clip(string(spec.ImagePullPolicy))), []PullPolicy{PullAlways, PullIfNotPresent, PullNever})}
}

var imageDigestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// validateImage judges the form of a reference as far as no registry needs to be
// known: those who pull read it whole. A value with an @ that no digest follows is
// not shown, since it may be a user with a password.
func validateImage(image string, path *field.Path) field.ErrorList {
	if len(image) > MaxImageBytes {
		return field.ErrorList{field.TooLong(path, nil, MaxImageBytes)}
	}
	var errs field.ErrorList
	shown := clip(image)
	_, digest, pinned := strings.Cut(image, "@")
	badDigest := pinned && !imageDigestPattern.MatchString(digest)
	if badDigest {
		shown = omitted
		errs = append(errs, field.Invalid(path, shown, "what follows the @ must be a digest, sha256: and 64 lower-case hexadecimal digits"))
	}
	if strings.Contains(image, "://") {
		errs = append(errs, field.Invalid(path, shown, "must not begin with a scheme; http is for what registries.insecure lists"))
	}
	if reason := badReferenceText(image); reason != "" {
		errs = append(errs, field.Invalid(path, shown, reason))
	}
	return errs
}

// badReferenceText says what is wrong with the characters of a reference or an address of a registry, or "".
func badReferenceText(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "must be of printable ASCII characters without blanks"
	}
	return ""
}

// validateRegistries judges how registries are reached.
func validateRegistries(spec *ProviderSpec, path *field.Path) field.ErrorList {
	r := spec.Registries
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if spec.Image == "" {
		errs = append(errs, field.Forbidden(path, "only with image"))
	}
	if r.CABundle != "" {
		at := path.Child("caBundle")
		errs = append(errs, validateCABundle([]byte(r.CABundle), at)...)
		if strings.TrimSpace(r.CABundle) == "" {
			errs = append(errs, field.Invalid(at, r.CABundle[:1], "must be certificates in PEM form"))
		}
	}
	if len(r.Insecure) > MaxInsecureRegistries {
		errs = append(errs, field.TooMany(path.Child("insecure"), len(r.Insecure), MaxInsecureRegistries))
	}
	for i, s := range r.Insecure {
		errs = append(errs, validateRegistryAddress(s, path.Child("insecure").Index(i))...)
	}
	if len(r.Mirrors) > MaxRegistryMirrors {
		errs = append(errs, field.TooMany(path.Child("mirrors"), len(r.Mirrors), MaxRegistryMirrors))
	}
	for i, m := range r.Mirrors {
		at := path.Child("mirrors").Index(i)
		errs = append(errs, validateRegistryAddress(m.Registry, at.Child("registry"))...)
		if strings.Contains(m.Registry, "://") {
			errs = append(errs, field.Invalid(at.Child("registry"), addressText(m.Registry), "must be a host, without a scheme, or * for all"))
		}
		errs = append(errs, validateRegistryAddress(m.Endpoint, at.Child("endpoint"))...)
	}
	return errs
}

// validateRegistryAddress judges [scheme://]host[:port][/path], or part of that.
func validateRegistryAddress(s string, path *field.Path) field.ErrorList {
	if s == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if len(s) > MaxHostBytes {
		return field.ErrorList{field.TooLong(path, nil, MaxHostBytes)}
	}
	var errs field.ErrorList
	if reason := badReferenceText(s); reason != "" {
		errs = append(errs, field.Invalid(path, addressText(s), reason))
	}
	if strings.Contains(s, "@") {
		errs = append(errs, field.Invalid(path, addressText(s), "must not have a user or a password; credentials belong into the Secret's "+SecretDockerConfig))
	}
	if strings.ContainsAny(s, "?#") {
		errs = append(errs, field.Invalid(path, addressText(s), "must not have a query or a fragment"))
	}
	if scheme, _, ok := strings.Cut(s, "://"); ok && scheme != "http" && scheme != "https" {
		errs = append(errs, field.Invalid(path, addressText(s), "the scheme must be http or https"))
	}
	return errs
}

// addressText is an address for an error text: not one that may have a password or a signature in it.
func addressText(s string) string {
	if strings.ContainsAny(s, "@?#") {
		return omitted
	}
	return clip(s)
}

// A datastore path: the datastore in brackets, a blank, the path in it.
var datastorePathPattern = regexp.MustCompile(`^\[([^\[\]]+)\] ([^/].*)$`)

func validateVMDK(vmdk string, path *field.Path) field.ErrorList {
	errs := validateName(vmdk, path, MaxPathBytes)
	if len(errs) > 0 {
		return errs
	}
	parts := datastorePathPattern.FindStringSubmatch(vmdk)
	if parts == nil {
		return field.ErrorList{field.Invalid(path, clip(vmdk), "must be a datastore path, for example [datastore1] images/node.vmdk")}
	}
	errs = append(errs, validateDatastore(parts[1], path)...)
	if slices.ContainsFunc(strings.Split(parts[2], "/"), func(s string) bool { return s == "" || s == "." || s == ".." }) {
		errs = append(errs, field.Invalid(path, clip(vmdk), "must not have an empty part, '.' or '..'"))
	}
	switch {
	case strings.HasSuffix(parts[2], "-flat.vmdk"):
		errs = append(errs, field.Invalid(path, clip(vmdk), "must be the disk's descriptor, not its -flat.vmdk extent"))
	case !strings.HasSuffix(parts[2], ".vmdk") || strings.HasSuffix("/"+parts[2], "/.vmdk"):
		errs = append(errs, field.Invalid(path, clip(vmdk), "must end with the name of a .vmdk file"))
	}
	return errs
}

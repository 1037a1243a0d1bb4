// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Limits of a ProviderSpec. What vSphere or VIC sets is said; the others keep a
// spec of a size that vCenter, which is sent all of it, handles with ease.
const (
	MinCPUs = 1
	MaxCPUs = 128

	MinMemoryMB  = 512
	MaxMemoryMB  = 6 << 20 // 6 TiB
	MemoryStepMB = 128

	MaxShares = 1000000

	MaxStopGracePeriodSeconds = 600
	MinStartTimeoutSeconds    = 10
	MaxStartTimeoutSeconds    = 1800

	// MaxNetworks is the number of PCI slots that a container VM has for NICs.
	MaxNetworks = 4
	// MaxNameservers is how many resolvers the C libraries read.
	MaxNameservers = 3
	// MaxInventoryNameBytes is vSphere's limit for the name of an inventory object.
	MaxInventoryNameBytes = 80
	MaxPathBytes          = 1024

	// MaxImageBytes is more than registry, repository, tag and digest may have together.
	MaxImageBytes         = 1024
	MaxInsecureRegistries = 64
	MaxRegistryMirrors    = 32

	// MaxVolumes is more than a container VM can have as disks, see volume.MaxDisks:
	// whether a volume is one only its store knows.
	MaxVolumes         = 32
	MaxStoreLabelBytes = 256

	MaxListElements      = 256
	MaxTags              = 64
	MaxTagKeyBytes       = 256
	MaxTagValueBytes     = 1024
	MaxExtraConfig       = 128
	MaxExtraConfigKey    = 128
	MaxExtraConfigBytes  = 64 << 10
	MaxGuestInfoBytes    = 64 << 10 // one value of guestinfo
	MaxUserDataBytes     = 256 << 10
	maxHostNameBytes     = 64 // Linux: HOST_NAME_MAX
	maxPrintedValueBytes = 100
)

// Validate returns all faults of spec, each with the path of its field. It does
// not set defaults; what is left open is judged as its default.
func Validate(spec *ProviderSpec) field.ErrorList {
	if spec == nil {
		return field.ErrorList{field.Required(field.NewPath("providerSpec"), "")}
	}
	var errs field.ErrorList
	errs = append(errs, validateVCH(&spec.VCH, field.NewPath("vch"))...)
	errs = append(errs, validateTags(spec.Tags, field.NewPath("tags"))...)
	errs = append(errs, validateRootDisk(spec)...)
	errs = append(errs, validateRegistries(spec, field.NewPath("registries"))...)
	errs = append(errs, validateSize(spec)...)
	errs = append(errs, validateResources(spec, field.NewPath("resources"))...)
	errs = append(errs, validateProcess(spec)...)
	errs = append(errs, validateEnv(spec.Env, field.NewPath("env"))...)
	errs = append(errs, validateNetworks(spec.Networks, field.NewPath("networks"))...)
	errs = append(errs, validateStopAndStart(spec)...)
	errs = append(errs, validateExtraConfig(spec.ExtraConfig, field.NewPath("extraConfig"))...)
	if p := spec.Placement; p != nil && p.Datastore != "" {
		errs = append(errs, validateDatastore(p.Datastore, field.NewPath("placement", "datastore"))...)
	}
	return append(errs, validateVolumes(spec.Volumes, field.NewPath("volumes"))...)
}

// ValidateMachineName returns an InvalidArgument error unless name can be a
// machine's: a DNS-1123 subdomain, as of a Kubernetes object, which with the
// domain of spec (may be nil) fits into the guest's host name.
func ValidateMachineName(name string, spec *ProviderSpec) error {
	found := validation.IsDNS1123Subdomain(name)
	host := name
	if spec != nil && spec.Domain != "" {
		host += "." + spec.Domain
	}
	if len(host) > maxHostNameBytes {
		found = append(found, fmt.Sprintf("as host name (with domain, %d bytes) must be no more than %d bytes", len(host), maxHostNameBytes))
	}
	if len(found) == 0 {
		return nil
	}
	return errdefs.New(errdefs.InvalidArgument, "machine name %q: %s", clip(name), strings.Join(found, "; "))
}

func messages(errs field.ErrorList) []string {
	found := make([]string, 0, len(errs))
	for _, e := range errs {
		found = append(found, e.Error())
	}
	return found
}

var morefPattern = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

func validateVCH(vch *VirtualContainerHost, path *field.Path) field.ErrorList {
	errs := validatePlace(vch.Datacenter, path.Child("datacenter"))
	set := 0
	for _, s := range []string{vch.Name, vch.Path, vch.MoRef} {
		if s != "" {
			set++
		}
	}
	if set == 0 {
		errs = append(errs, field.Required(path, "one of name, path and moref is required"))
	}
	if set > 1 {
		errs = append(errs, field.Forbidden(path, "only one of name, path and moref may be given"))
	}
	if vch.Name != "" {
		errs = append(errs, validateName(vch.Name, path.Child("name"), MaxInventoryNameBytes)...)
		if strings.Contains(vch.Name, "/") {
			errs = append(errs, field.Invalid(path.Child("name"), clip(vch.Name), "must not contain '/'; use path for an inventory path"))
		}
		errs = append(errs, refusePattern(vch.Name, path.Child("name"))...)
	}
	if vch.Path != "" {
		errs = append(errs, validatePlace(vch.Path, path.Child("path"))...)
		if !strings.HasPrefix(vch.Path, "/") {
			errs = append(errs, field.Invalid(path.Child("path"), clip(vch.Path), "must begin with '/'"))
		}
	}
	if vch.MoRef != "" && !morefPattern.MatchString(vch.MoRef) {
		errs = append(errs, field.Invalid(path.Child("moref"), clip(vch.MoRef), "must be the value of a managed object reference, for example vm-123"))
	}
	return errs
}

// validatePlace judges a name or an inventory path, which is required.
func validatePlace(place string, path *field.Path) field.ErrorList {
	errs := validateName(place, path, MaxPathBytes)
	for i, part := range strings.Split(place, "/") {
		if (part == "" && i > 0) || part == "." || part == ".." {
			errs = append(errs, field.Invalid(path, clip(place), "must not have an empty part, '.' or '..'"))
			break
		}
	}
	return append(errs, refusePattern(place, path)...)
}

func refusePattern(name string, path *field.Path) field.ErrorList {
	if strings.ContainsAny(name, "*?") {
		return field.ErrorList{field.Invalid(path, clip(name), "must be exact: '*' and '?' are not taken as patterns")}
	}
	return nil
}

func validateDatastore(name string, path *field.Path) field.ErrorList {
	errs := validateName(name, path, MaxInventoryNameBytes)
	if strings.ContainsAny(name, "[]/") {
		errs = append(errs, field.Invalid(path, clip(name), "must be the name of a datastore, without brackets and '/'"))
	}
	return append(errs, refusePattern(name, path)...)
}

func validateSize(spec *ProviderSpec) field.ErrorList {
	errs := between(spec.CPUs, MinCPUs, MaxCPUs, field.NewPath("cpus"))
	if spec.Memory == nil {
		return errs
	}
	path := field.NewPath("memory")
	if spec.Memory.Cmp(*resource.NewQuantity(MinMemoryMB<<20, resource.BinarySI)) < 0 ||
		spec.Memory.Cmp(*resource.NewQuantity(MaxMemoryMB<<20, resource.BinarySI)) > 0 {
		errs = append(errs, field.Invalid(path, spec.Memory.String(), "must be between 512Mi and 6Ti"))
	}
	return errs
}

func between[T int32 | int64](value *T, low, high T, path *field.Path) field.ErrorList {
	if value == nil || (*value >= low && *value <= high) {
		return nil
	}
	return field.ErrorList{field.Invalid(path, *value, fmt.Sprintf("must be between %d and %d", low, high))}
}

func validateStopAndStart(spec *ProviderSpec) field.ErrorList {
	var errs field.ErrorList
	if spec.StopSignal != "" && !slices.Contains(StopSignals(), signalName(spec.StopSignal)) {
		errs = append(errs, field.NotSupported(field.NewPath("stopSignal"), clip(spec.StopSignal), StopSignals()))
	}
	errs = append(errs, between(spec.StopGracePeriodSeconds, 0, MaxStopGracePeriodSeconds, field.NewPath("stopGracePeriodSeconds"))...)
	return append(errs, between(spec.StartTimeoutSeconds, MinStartTimeoutSeconds, MaxStartTimeoutSeconds, field.NewPath("startTimeoutSeconds"))...)
}

// StopSignals are the names that VIC's guest can send, sorted (lib/tether/msgs/messages.go:61-76).
func StopSignals() []string {
	return []string{"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"}
}

func signalName(s string) string { return strings.TrimPrefix(strings.ToUpper(s), "SIG") }

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

// omitted stands for values that may be confidential, those of env and ExtraConfig.
const omitted = "<omitted>"

var userPattern = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}$`)

func validateProcess(spec *ProviderSpec) field.ErrorList {
	var errs field.ErrorList
	command, args := field.NewPath("command"), field.NewPath("args")
	if spec.UserData != nil && ptr.Deref(spec.UserData.Exec, false) {
		if len(spec.Command) > 0 {
			errs = append(errs, field.Forbidden(command, "must be empty when userData.exec is set"))
		}
		if len(spec.Args) > 0 {
			errs = append(errs, field.Forbidden(args, "must be empty when userData.exec is set"))
		}
	} else if len(spec.Command) == 0 && spec.Image == "" || len(spec.Command) > 0 && spec.Command[0] == "" {
		errs = append(errs, field.Required(command, "the process to run is required unless image or userData.exec is set"))
	}
	errs = append(errs, validateList(spec.Command, command)...)
	errs = append(errs, validateList(spec.Args, args)...)
	if size := joinedSize(spec.Command) + joinedSize(spec.Args); size > MaxGuestInfoBytes {
		errs = append(errs, field.Invalid(args, omitted, fmt.Sprintf("command and args have %d bytes together, at most %d are allowed", size, MaxGuestInfoBytes)))
	}
	if spec.WorkingDir != "" {
		errs = append(errs, validateName(spec.WorkingDir, field.NewPath("workingDir"), MaxPathBytes)...)
		if !strings.HasPrefix(spec.WorkingDir, "/") {
			errs = append(errs, field.Invalid(field.NewPath("workingDir"), clip(spec.WorkingDir), "must be absolute"))
		}
	}
	for _, id := range []struct{ field, value string }{{"user", spec.User}, {"group", spec.Group}} {
		if id.value != "" && !userPattern.MatchString(id.value) {
			errs = append(errs, field.Invalid(field.NewPath(id.field), clip(id.value), "must be a name or a number"))
		}
	}
	if spec.Domain != "" {
		for _, reason := range validation.IsDNS1123Subdomain(spec.Domain) {
			errs = append(errs, field.Invalid(field.NewPath("domain"), clip(spec.Domain), reason))
		}
		if len(spec.Domain) > maxHostNameBytes-2 {
			errs = append(errs, field.Invalid(field.NewPath("domain"), clip(spec.Domain),
				fmt.Sprintf("must leave room for the machine's name in a host name of %d bytes", maxHostNameBytes)))
		}
	}
	return errs
}

func validateList(list []string, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(list) > MaxListElements {
		errs = append(errs, field.TooMany(path, len(list), MaxListElements))
	}
	for i, s := range list {
		if reason := BadListText(s); reason != "" {
			errs = append(errs, field.Invalid(path.Index(i), clip(s), reason))
		}
	}
	return errs
}

func joinedSize(list []string) int {
	size := 0
	for _, s := range list {
		size += len(s) + 1
	}
	return size
}

func validateEnv(env []EnvVar, path *field.Path) field.ErrorList {
	var errs field.ErrorList
	if len(env) > MaxListElements {
		errs = append(errs, field.TooMany(path, len(env), MaxListElements))
	}
	seen := map[string]bool{}
	size := 0
	for i, e := range env {
		at := path.Index(i)
		errs = append(errs, validateEnvName(e.Name, at.Child("name"))...)
		if e.Name != "" && seen[e.Name] {
			errs = append(errs, field.Duplicate(at.Child("name"), clip(e.Name)))
		}
		seen[e.Name] = true
		size += len(e.Name) + len(ptr.Deref(e.Value, "")) + 2
		switch {
		case e.Value == nil && e.ValueFrom == nil:
			errs = append(errs, field.Required(at.Child("value"), "one of value and valueFrom is required"))
		case e.Value != nil && e.ValueFrom != nil:
			errs = append(errs, field.Forbidden(at.Child("valueFrom"), "only one of value and valueFrom may be given"))
		}
		if e.Value != nil {
			if reason := BadListText(*e.Value); reason != "" {
				errs = append(errs, field.Invalid(at.Child("value"), omitted, "of "+clip(e.Name)+" "+reason))
			}
		}
		if e.ValueFrom != nil {
			errs = append(errs, validateSecretKey(e.ValueFrom.SecretKey, at.Child("valueFrom", "secretKey"))...)
		}
	}
	if size > MaxGuestInfoBytes {
		errs = append(errs, field.TooLong(path, nil, MaxGuestInfoBytes))
	}
	return errs
}

func validateEnvName(name string, path *field.Path) field.ErrorList {
	if name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	var errs field.ErrorList
	if len(name) > MaxTagKeyBytes {
		errs = append(errs, field.TooLong(path, name, MaxTagKeyBytes))
	}
	if strings.Contains(name, "|") || len(validation.IsRelaxedEnvVarName(name)) > 0 {
		errs = append(errs, field.Invalid(path, clip(name), "must be of printable ASCII characters without '=' and '|'"))
	}
	return errs
}

func validateSecretKey(key string, path *field.Path) field.ErrorList {
	if key == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if slices.Contains(ConnectionKeys(), key) {
		return field.ErrorList{field.Forbidden(path, "what opens vCenter is not given to machines")}
	}
	if key == SecretDockerConfig {
		return field.ErrorList{field.Forbidden(path, "what opens registries is not given to machines; use another key for credentials that a machine needs")}
	}
	var errs field.ErrorList
	for _, reason := range validation.IsConfigMapKey(key) {
		errs = append(errs, field.Invalid(path, clip(key), reason))
	}
	return errs
}

func validateResources(spec *ProviderSpec, path *field.Path) field.ErrorList {
	r := spec.Resources
	if r == nil {
		return nil
	}
	var errs field.ErrorList
	if c := r.CPU; c != nil {
		at := path.Child("cpu")
		const most = 1 << 24 // MHz
		errs = append(errs, between(c.ReservationMHz, 0, most, at.Child("reservationMHz"))...)
		errs = append(errs, between(c.LimitMHz, 1, most, at.Child("limitMHz"))...)
		if c.ReservationMHz != nil && c.LimitMHz != nil && *c.LimitMHz >= 1 && *c.ReservationMHz > *c.LimitMHz {
			errs = append(errs, field.Invalid(at.Child("reservationMHz"), *c.ReservationMHz, "must not be more than limitMHz"))
		}
		errs = append(errs, validateShares(c.Shares, at.Child("shares"))...)
	}
	if m := r.Memory; m != nil {
		at := path.Child("memory")
		errs = append(errs, validateMiB(m.Reservation, 0, MaxMemoryMB, at.Child("reservation"))...)
		errs = append(errs, validateMiB(m.Limit, 1, MaxMemoryMB, at.Child("limit"))...)
		if m.Reservation != nil && m.Limit != nil && m.Reservation.Cmp(*m.Limit) > 0 {
			errs = append(errs, field.Invalid(at.Child("reservation"), m.Reservation.String(), "must not be more than limit"))
		}
		if m.Reservation != nil && m.Reservation.Value() > spec.MemoryMB()<<20 {
			errs = append(errs, field.Invalid(at.Child("reservation"), m.Reservation.String(), "must not be more than memory"))
		}
		errs = append(errs, validateShares(m.Shares, at.Child("shares"))...)
	}
	return errs
}

// validateMiB judges a number of whole MiB, low to high of them; high is of whole TiB.
func validateMiB(q *resource.Quantity, low, high int64, path *field.Path) field.ErrorList {
	if q == nil {
		return nil
	}
	bytes := q.Value()
	if q.Cmp(*resource.NewQuantity(bytes, resource.BinarySI)) != 0 || bytes%(1<<20) != 0 || bytes < low<<20 || bytes > high<<20 {
		return field.ErrorList{field.Invalid(path, q.String(), fmt.Sprintf("must be of whole MiB, between %dMi and %dTi", low, high>>20))}
	}
	return nil
}

func validateShares(shares string, path *field.Path) field.ErrorList {
	switch shares {
	case "", "low", "normal", "high":
		return nil
	}
	if n, err := strconv.Atoi(shares); err != nil || n < 1 || n > MaxShares || strconv.Itoa(n) != shares {
		return field.ErrorList{field.Invalid(path, clip(shares), fmt.Sprintf("must be low, normal, high or a number from 1 to %d", MaxShares))}
	}
	return nil
}

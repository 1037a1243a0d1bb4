// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// The filters of volumes, by docker's names and one of our own.
const (
	filterDangling = "dangling"
	filterDriver   = "driver"
	filterLabel    = "label"
	filterName     = "name"
	filterStore    = "store"
)

// volumeFilter says which volumes a command is about, as docker's --filter: of
// several filters of a kind one must match, but all labels; kinds must match all.
type volumeFilter struct {
	// dangling is true for volumes that no VM has, false for the others; nil is any.
	dangling *bool
	drivers  []string
	names    []string
	stores   []string
	labels   []labelFilter
}

type labelFilter struct {
	key, value string
	// any value will do.
	any bool
}

// parseVolumeFilter reads the values of --filter; only kinds of known may be in it.
func parseVolumeFilter(filters []string, known ...string) (volumeFilter, error) {
	var f volumeFilter
	for _, text := range filters {
		kind, value, ok := strings.Cut(text, "=")
		if !slices.Contains(known, kind) {
			return f, errdefs.New(errdefs.InvalidArgument, "--filter %q: there is no such filter; there are %s", text, strings.Join(known, "=, ")+"=")
		}
		if !ok || value == "" {
			return f, errdefs.New(errdefs.InvalidArgument, "--filter %q: want %s=VALUE", text, kind)
		}
		switch kind {
		case filterDangling:
			dangling := value == "true" || value == "1"
			if !dangling && value != "false" && value != "0" {
				return f, errdefs.New(errdefs.InvalidArgument, "--filter %q: want dangling=true or dangling=false", text)
			}
			if f.dangling != nil && *f.dangling != dangling {
				return f, errdefs.New(errdefs.InvalidArgument, "--filter %q: the other filter dangling says the opposite", text)
			}
			f.dangling = &dangling
		case filterDriver:
			if value != string(volume.VMDK) && value != string(volume.NFS) {
				return f, errdefs.New(errdefs.InvalidArgument, "--filter %q: the drivers are %s and %s", text, volume.VMDK, volume.NFS)
			}
			f.drivers = append(f.drivers, value)
		case filterLabel:
			key, want, exact := strings.Cut(value, "=")
			f.labels = append(f.labels, labelFilter{key, want, !exact})
		case filterName:
			f.names = append(f.names, value)
		case filterStore:
			f.stores = append(f.stores, value)
		}
	}
	return f, nil
}

// matches is about all but dangling, for which the users must be known.
func (f *volumeFilter) matches(v *volume.Volume) bool {
	for _, l := range f.labels {
		if value, ok := v.Metadata.Labels[l.key]; !ok || !l.any && value != l.value {
			return false
		}
	}
	return oneOf(f.drivers, string(v.Driver)) && oneOf(f.stores, v.Store) &&
		(len(f.names) == 0 || slices.ContainsFunc(f.names, func(part string) bool { return strings.Contains(v.Name, part) }))
}

// oneOf reports whether a value is wanted; without a wish any is.
func oneOf(wanted []string, value string) bool {
	return len(wanted) == 0 || slices.Contains(wanted, value)
}

// matchesUsers is the rest: what may be used is not dangling.
func (f *volumeFilter) matchesUsers(v *volumeInfo) bool {
	return f.dangling == nil || *f.dangling == v.dangling()
}

// matchesLeftover reports whether a leftover is meant, which has nothing but a store.
func (f *volumeFilter) matchesLeftover(l volume.Leftover) bool {
	return len(f.drivers)+len(f.names)+len(f.labels) == 0 && oneOf(f.stores, l.Store)
}

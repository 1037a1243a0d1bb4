// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package migration

import (
	"math"
	"strconv"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

// Target is a kind of data with data versions of its own.
type Target string

// The targets.
const (
	// Appliance is VIC's configuration of a VCH, in the ExtraConfig of its appliance VM.
	Appliance Target = "appliance"
	// Container is VIC's configuration of a container VM, in its ExtraConfig.
	Container Target = "container"
	// Machine is what this provider keeps of a machine in the ExtraConfig of its
	// container VM. The numbers are ours: those of Container belong to VIC.
	Machine Target = "machine"
	// KeyValue is a key/value store. Its version stands in the name of its file.
	KeyValue Target = "keyvalue"
)

// Targets returns all targets in a fixed order. The slice is the caller's.
func Targets() []Target { return []Target{Appliance, Container, Machine, KeyValue} }

// VICVersion is the highest version of VIC's data that there is, of appliances and containers:
// new VMs are stamped with it (VIC, lib/migration/feature/feature.go:17-39, pkg/version/version.go:78-90), though
// no plugin leads to it.
const VICVersion = 10

// versionKey is the key that holds the version of a target, whose place VIC promises never
// to change (lib/migration/manager_test.go:55-72); "" where no key holds it alone.
func (t Target) versionKey() string {
	switch t {
	case Appliance:
		return guestinfo.VCHPluginVersionKey
	case Container:
		return guestinfo.PluginVersionKey
	default:
		return ""
	}
}

// highest is the highest version of a target that is no surprise, plugins or not.
func (t Target) highest() int {
	if t.versionKey() != "" {
		return VICVersion
	}
	return 0
}

// Stored returns the version that is stored with the data; 0 without one. A key/value store's
// is in its name, and 0 here. What is no version is InvalidArgument, naming the key, and so is
// Machine data without a mark.
func (t Target) Stored(keys map[string]string) (int, error) {
	switch t {
	case Machine:
		version, marked, err := markFormat(keys)
		if !marked && err == nil {
			err = errdefs.New(errdefs.InvalidArgument, "there is no mark of this provider")
		}
		return version, err
	case KeyValue:
		return 0, nil
	default:
		return number(keys, t.versionKey())
	}
}

// stamp returns the change that stores a version.
func (t Target) stamp(keys map[string]string, version int) (Change, error) {
	switch t {
	case Machine:
		return stampMark(keys, version)
	case KeyValue: // its file has another name after the migration
		return Change{}, nil
	default:
		return Change{Set: map[string]string{t.versionKey(): strconv.Itoa(version)}}, nil
	}
}

func number(keys map[string]string, key string) (int, error) {
	text := keys[key]
	if text == "" {
		return 0, nil
	}
	version, err := strconv.ParseInt(text, 10, 32)
	if err != nil || version < 0 {
		return 0, errdefs.New(errdefs.InvalidArgument, "key %q: the data version is %.40q; it must be a number from 0 to %d", key, text, math.MaxInt32)
	}
	return int(version), nil
}

// markFormat returns the format of the mark: what has none is of the first one. marked is false
// without a complete mark, which no machine is.
func markFormat(keys map[string]string) (version int, marked bool, err error) {
	encoded := keys[guestinfo.AnnotationKey(identity.MarkAnnotation)]
	if encoded == "" {
		return 0, false, nil
	}
	mark, incomplete := identity.DecodeMark(encoded)
	switch {
	case incomplete != nil:
		return 0, false, nil //nolint:nilerr // whoever has half a mark is no machine, which is no error
	case mark.Format < 0:
		return 0, true, errdefs.New(errdefs.InvalidArgument, "key %q: the format of the mark is %d; it must be 0 or greater", guestinfo.AnnotationKey(identity.MarkAnnotation), mark.Format)
	default:
		return max(1, mark.Format), true, nil
	}
}

func stampMark(keys map[string]string, version int) (Change, error) {
	key := guestinfo.AnnotationKey(identity.MarkAnnotation)
	mark, err := identity.DecodeMark(keys[key])
	if err != nil {
		return Change{}, err
	}
	mark.Format = version
	encoded, err := mark.Encode()
	if err != nil {
		return Change{}, err
	}
	return Change{Set: map[string]string{key: encoded}}, nil
}

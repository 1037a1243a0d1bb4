// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package migration

import (
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

// known is the highest version of VIC's data that there is: VIC stamps new VMs with
// it (lib/migration/feature/feature.go:17-39), though no plugin leads to it.
const known = 10

// versions is how the version of a target is stored with its data.
type versions struct {
	// read returns the stored version; 0 without one.
	read func(keys map[string]string) (int, error)
	// stamp returns the change that stores a version.
	stamp func(keys map[string]string, version int) (Change, error)
	// known is the highest version that is no surprise, plugins or not.
	known int
}

func (t Target) versions() versions {
	switch t {
	case Appliance:
		return inKey(guestinfo.VCHPluginVersionKey)
	case Container:
		return inKey(guestinfo.PluginVersionKey)
	case Machine:
		return versions{read: markFormat, stamp: stampMark}
	default: // a store's version is in its name, and its file is another one after the migration
		return versions{
			read:  func(map[string]string) (int, error) { return 0, nil },
			stamp: func(map[string]string, int) (Change, error) { return Change{}, nil },
		}
	}
}

// inKey is for versions that have a key, whose place VIC promises never to change
// (lib/migration/manager_test.go:55-72).
func inKey(key string) versions {
	return versions{
		read: func(keys map[string]string) (int, error) {
			text := keys[key]
			if text == "" {
				return 0, nil
			}
			version, err := strconv.Atoi(text)
			if err != nil || version < 0 {
				return 0, errdefs.New(errdefs.InvalidArgument, "key %q: the data version is %q; it must be a number, 0 or greater", key, text)
			}
			return version, nil
		},
		stamp: func(_ map[string]string, version int) (Change, error) {
			return Change{Set: map[string]string{key: strconv.Itoa(version)}}, nil
		},
		known: known,
	}
}

// markFormat is the format of the mark: what has none is of the first one, and what
// has no mark is no machine.
func markFormat(keys map[string]string) (int, error) {
	encoded := keys[guestinfo.AnnotationKey(identity.MarkAnnotation)]
	if encoded == "" {
		return 0, errdefs.New(errdefs.InvalidArgument, "there is no mark of this provider")
	}
	mark, err := identity.DecodeMark(encoded)
	if err != nil {
		return 0, err
	}
	return max(1, mark.Format), nil
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

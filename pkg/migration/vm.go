// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package migration

import "errors"

// VM is what a migration made of the ExtraConfig of a container VM.
type VM struct {
	// Keys is ExtraConfig after both migrations, as far as they came. Where nothing was to be
	// done it is the very map that came in.
	Keys map[string]string
	// Container is the outcome for VIC's part, Machine that for ours; the latter is the zero
	// Outcome for a VM without a mark.
	Container, Machine Outcome
}

// Migrated reports whether anything was changed.
func (v VM) Migrated() bool { return v.Container.Migrated() || v.Machine.Migrated() }

// Writable is Outcome.Writable for both parts.
func (v VM) Writable(what string) error {
	return errors.Join(v.Container.Writable(what), v.Machine.Writable(what))
}

// MigrateVM brings the ExtraConfig of a container VM to what the code of today reads:
// VIC's part, then ours where there is a mark. One that fails does not keep the other
// from running. The result is valid with an error, too. It is cheap where nothing is to
// be done: every VM that is read goes through it.
func (s *Set) MigrateVM(keys map[string]string) (VM, error) {
	container, err := s.Migrate(Container, keys)
	v := VM{Keys: container.Keys, Container: container}
	stored, marked, failed := markFormat(keys)
	if !marked {
		return v, err
	}
	v.Machine = Outcome{Target: Machine, Keys: container.Keys}
	if failed == nil {
		v.Machine, failed = s.MigrateFrom(Machine, stored, container.Keys)
	}
	v.Keys = v.Machine.Keys
	return v, errors.Join(err, failed)
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// offlinePlan is migrate plan of keys in a file: no vCenter is asked.
type offlinePlan struct {
	file, target, output string
}

// run shows what would change, or with JSON the migrated map.
func (p offlinePlan) run(opts Options) error {
	if t := migration.Target(p.target); t != migration.Container && t != migration.Appliance {
		return errdefs.New(errdefs.InvalidArgument, "--target must be %s or %s, got %q", migration.Container, migration.Appliance, p.target)
	}
	given, err := p.read(opts)
	if err != nil {
		return err
	}
	name := "the data of " + p.name()
	stored := guestinfo.FromOptionValues(given)
	if err := checkTarget(name, migration.Target(p.target), stored); err != nil {
		return err
	}
	outcomes, err := migrateKeys(opts.migrations(), migration.Target(p.target), stored)
	if err != nil {
		return errdefs.Wrap(errdefs.KindOf(err), err, "%s cannot be migrated", name)
	}
	for _, o := range outcomes {
		if err := o.Writable(name); err != nil {
			return err
		}
	}
	if p.output == outputJSON {
		return writeJSON(opts.Stdout, migratedAsGiven(given, outcomes[len(outcomes)-1].Keys))
	}
	lines := stepLines(keySteps(stored, outcomes, nil))
	title := versionsText(outcomes)
	if len(lines) == 0 {
		title += ": nothing to migrate"
	}
	return write(opts.Stdout, []byte(title+"\n"+indented("", lines)))
}

// name is how the file is called in messages.
func (p offlinePlan) name() string {
	if p.file == "-" {
		return standardInput
	}
	return p.file
}

func (p offlinePlan) read(opts Options) (keys map[string]string, err error) {
	if p.file == "-" {
		return readKeys(opts.Stdin, standardInput)
	}
	file, err := os.Open(filepath.Clean(p.file))
	if err != nil {
		return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "read --file")
	}
	defer func() { _ = file.Close() }() // it was only read
	return readKeys(file, p.file)
}

// migrateKeys runs the migrations that data of a target needs, in the order in which the
// driver does, and returns an outcome for each kind of data that is there.
func migrateKeys(set *migration.Set, target migration.Target, stored map[string]string) ([]migration.Outcome, error) {
	if target == migration.Appliance {
		o, err := set.Migrate(migration.Appliance, stored)
		return []migration.Outcome{o}, err
	}
	vm, err := set.MigrateVM(stored)
	return outcomesOf(vm), err
}

// outcomesOf returns the outcome for VIC's data, and that for ours where there is a mark.
func outcomesOf(vm migration.VM) []migration.Outcome {
	if vm.Machine.Target == "" {
		return []migration.Outcome{vm.Container}
	}
	return []migration.Outcome{vm.Container, vm.Machine}
}

// checkTarget refuses keys that are those of another target.
func checkTarget(name string, target migration.Target, keys map[string]string) error {
	other, id := migration.Appliance, guestinfo.VCHIDKey
	if target == migration.Appliance {
		other, id = migration.Container, guestinfo.CommonIDKey
	}
	count := map[migration.Target]int{}
	for key := range keys {
		count[targetOf(key)]++
	}
	if keys[id] != "" || count[target] == 0 && count[other] > 0 {
		return errdefs.New(errdefs.InvalidArgument, "%s is that of %s and not of %s; give --target %s", name, targetText(other), targetText(target), other)
	}
	return nil
}

func targetText(target migration.Target) string {
	if target == migration.Appliance {
		return "a VCH's appliance"
	}
	return "a container VM"
}

// targetOf says which data has such a key; empty if both or neither have it.
func targetOf(key string) migration.Target {
	part, ok := strings.CutPrefix(key, "guestinfo.vice.")
	part = strings.TrimLeft(part, "./")
	if !ok {
		part = key
	}
	switch part[:strings.IndexAny(part+"/", "/.|@~")] {
	case "init", "connect", "contact", "cert", "storage", "network", "container", "registry", "create_bridge_network", "grant_permissions", "vic_machine_create_options":
		return migration.Appliance
	case "common", "createtime", "diagnostics", "sessions", "execs", "mounts", "networks", "key", "layerid", "imageid", "annotations", "repo", "version", "asymrouting", "hostname", "domainname":
		return migration.Container
	}
	return ""
}

// migratedAsGiven returns the migrated keys. What was not touched stays as it came;
// empty texts are "<nil>" if others came so.
func migratedAsGiven(given, migrated map[string]string) map[string]string {
	out := maps.Clone(migrated)
	if slices.Contains(slices.Collect(maps.Values(given)), guestinfo.OptionValues(map[string]string{"": ""})[""]) {
		out = guestinfo.OptionValues(migrated)
	}
	for key, value := range given {
		if now, there := migrated[key]; there && now == guestinfo.FromOptionValue(value) {
			out[key] = value
		}
	}
	if out == nil {
		out = map[string]string{}
	}
	return out
}

// versionsText says from which versions to which data is brought.
func versionsText(outcomes []migration.Outcome) string {
	var texts []string
	for _, o := range outcomes {
		text := fmt.Sprintf("%s %d", versionName(o.Target), o.From)
		if o.Migrated() {
			text += fmt.Sprintf(" -> %d", o.To)
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

// versionName is what the version of a target is called.
func versionName(target migration.Target) string {
	if target == migration.Machine {
		return "mark format"
	}
	return "data version"
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/version"
)

const (
	backupKind   = "vchctl migration backup"
	backupFormat = 1
)

// migrationBackup is what migrate apply keeps of a VM before it writes, for migrate
// restore. It holds secrets. The JSON names stay.
type migrationBackup struct {
	Kind    string    `json:"kind"`
	Format  int       `json:"format"`
	Time    time.Time `json:"time"`
	Program string    `json:"program"`
	VCH     struct {
		Name string `json:"name"`
		// UUID is the BIOS UUID of the appliance.
		UUID string `json:"uuid"`
	} `json:"vch"`
	VM struct {
		Name        string `json:"name"`
		MoRef       string `json:"moref"`
		ContainerID string `json:"containerID"`
		UUID        string `json:"uuid"`
		Power       string `json:"power"`
	} `json:"vm"`
	Versions []backupVersion `json:"versions"`
	// Changes are what the migration was about to write, plain values.
	Changes []backupChange `json:"changes"`
	// ExtraConfig is all of it, as it was stored.
	ExtraConfig map[string]string `json:"extraConfig"`
}

type backupVersion struct {
	Target migration.Target `json:"target"`
	From   int              `json:"from"`
	To     int              `json:"to"`
}

// backupChange is a migration.Difference.
type backupChange struct {
	Key string  `json:"key"`
	Old *string `json:"old,omitempty"`
	New *string `json:"new,omitempty"`
}

func newBackup(host *vch.Config, vm *containervm.VM, plan containervm.MigrationPlan, now time.Time) *migrationBackup {
	b := &migrationBackup{Kind: backupKind, Format: backupFormat, Time: now.UTC(), Program: version.String(), ExtraConfig: guestinfo.OptionValues(vm.Stored)}
	b.VCH.Name, b.VCH.UUID = host.Name, host.UUID
	b.VM.Name, b.VM.MoRef, b.VM.ContainerID, b.VM.UUID, b.VM.Power = vm.Name, vm.Ref.Value, vm.Stored[guestinfo.CommonIDKey], vm.UUID, string(vm.PowerState)
	for _, o := range outcomesOf(vm.Data) {
		b.Versions = append(b.Versions, backupVersion{Target: o.Target, From: o.From, To: o.To})
	}
	for _, d := range plan.Changes {
		b.Changes = append(b.Changes, backupChange(d))
	}
	return b
}

// differences are the changes as pkg/migration has them.
func (b *migrationBackup) differences() []migration.Difference {
	out := make([]migration.Difference, 0, len(b.Changes))
	for _, c := range b.Changes {
		out = append(out, migration.Difference(c))
	}
	return out
}

// save writes the backup to a file of its own below dir, which is made if need be, and returns its
// path. When it returns, the file is whole and on the disk, for its user alone.
func (b *migrationBackup) save(dir string) (file string, err error) {
	defer func() {
		err = errdefs.Wrap(kindOfFile(err), err, "write the backup of VM %q (%s) to --backup-dir %s; nothing was changed", b.VM.Name, b.VM.MoRef, dir)
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	// os.CreateTemp makes files that only their user may read.
	temp, err := os.CreateTemp(dir, "."+b.VM.MoRef+"-*.tmp")
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(temp.Name()))
		}
	}()
	err = writeJSON(temp, b)
	if err == nil {
		err = temp.Sync()
	}
	if err = errors.Join(err, temp.Close()); err != nil {
		return "", err
	}
	// The random part keeps two of the same second apart.
	random := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(temp.Name()), "."+b.VM.MoRef+"-"), ".tmp")
	file = filepath.Join(dir, b.VM.MoRef+"-"+b.Time.Format("20060102T150405Z")+"-"+random+".json")
	if err = os.Rename(temp.Name(), file); err != nil {
		return "", err
	}
	return file, syncDirectory(dir)
}

func syncDirectory(dir string) error {
	d, err := os.Open(filepath.Clean(dir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func kindOfFile(err error) errdefs.Kind {
	if errdefs.IsFull(err) {
		return errdefs.ResourceExhausted
	}
	return errdefs.FailedPrecondition
}

// readBackup reads the file of a backup.
func readBackup(file string) (*migrationBackup, error) {
	data, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "read the backup")
	}
	refuse := func(format string, args ...any) (*migrationBackup, error) {
		return nil, errdefs.New(errdefs.InvalidArgument, "%s is not a backup that this program can restore: "+format, append([]any{file}, args...)...)
	}
	b := new(migrationBackup)
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(b); err != nil {
		return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "%s is not a backup of vchctl migrate apply", file)
	}
	_, end := decoder.Token()
	switch {
	case b.Kind != backupKind || !errors.Is(end, io.EOF):
		return refuse("it was not written by vchctl migrate apply, or it was changed")
	case b.Format != backupFormat:
		return refuse("it is of format %d, and this program knows %d; use a newer version of it", b.Format, backupFormat)
	case b.VM.ContainerID == "" || b.VM.UUID == "" || b.VCH.UUID == "":
		return refuse("it does not say which VM it is of")
	case len(b.Changes) == 0:
		return refuse("it has no changes")
	}
	for _, c := range b.Changes {
		stored, there := b.ExtraConfig[c.Key]
		if there != (c.Old != nil) || there && guestinfo.FromOptionValue(stored) != *c.Old {
			return refuse("what it says of key %q contradicts itself", c.Key)
		}
	}
	return b, nil
}

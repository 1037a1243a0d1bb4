// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// migrated returns a museum whose machine worker-0 was migrated from version 0, the VM
// as it was before, and the backup.
func migrated(t *testing.T) (m *museum, before vchsim.VM, file string) {
	t.Helper()
	m = newMuseum(t)
	before = m.exhibit(t, "worker-0", 0, false)
	if got := m.apply(t.Context(), "worker-0", "--yes"); got.code != 0 || len(m.files(t)) != 1 {
		t.Fatalf("got %+v", got)
	}
	return m, before, m.files(t)[0]
}

func TestAMigrationIsUndone(t *testing.T) {
	m, before, file := migrated(t)
	after := m.vm(t, "worker-0")
	m.set(t, after.Name, map[string]string{"annotations|note": "", "annotations|other": "new"})
	dry := m.run(t.Context(), "migrate", "restore", file, "--dry-run")
	if dry.code != 0 || dry.stderr != "Nothing was changed: without --dry-run, 4 keys would be put back.\n" || m.vm(t, "worker-0").ExtraCfg[dataVersionKey] != "9" {
		t.Errorf("got %+v", dry)
	}
	got := m.run(t.Context(), "migrate", "restore", file, "--yes")
	if got.code != 0 || got.stderr != "" {
		t.Errorf("got %+v", got)
	}
	golden(t, "migrate-restore.txt", m.stable(got.stdout))
	m.set(t, after.Name, map[string]string{"annotations|note": planted, "annotations|other": ""})
	m.same(t, before, "worker-0")
	again := m.run(t.Context(), "migrate", "restore", file, "--yes")
	if again.code != 0 || again.stdout != "" || !strings.Contains(again.stderr, "has all that the migration changed as it was before") {
		t.Errorf("got %+v", again)
	}
	if got := m.apply(t.Context(), "worker-0", "--yes"); got.code != 0 || m.vm(t, "worker-0").ExtraCfg[dataVersionKey] != "9" {
		t.Errorf("it cannot be migrated again: %+v", got)
	}
	asJSON := m.run(t.Context(), "migrate", "restore", file, "--yes", "-o", "json")
	answer := decodeJSON[struct {
		DryRun                      bool
		VM, MoRef, ContainerID, VCH string
		Changes                     []map[string]string
	}](t, asJSON.stdout)
	if asJSON.code != 0 || answer.VM != before.Name || answer.ContainerID != before.ID || len(answer.Changes) != 4 || answer.DryRun {
		t.Errorf("got %+v", asJSON)
	}
	m.same(t, before, "worker-0")
}

func TestWhatWasChangedAfterAMigrationIsNotPutBack(t *testing.T) {
	m, _, file := migrated(t)
	m.set(t, m.vm(t, "worker-0").Name, map[string]string{createTimeKey: "7", "common/name": "other"})
	before := m.vm(t, "worker-0")
	for _, flag := range []string{"--yes", "--dry-run"} {
		got := m.run(t.Context(), "migrate", "restore", file, flag)
		if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, `keys were changed after the migration: "common/name", "guestinfo.vice..createtime"`) {
			t.Errorf("%s: got %+v", flag, got)
		}
	}
	m.same(t, before, "worker-0")
}

func TestARunningVMIsRestoredOnceItIsOff(t *testing.T) {
	m, _, file := migrated(t)
	m.machine(t, "worker-0", true)
	before := m.vm(t, "worker-0")
	got := m.run(t.Context(), "migrate", "restore", file, "--yes")
	if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "it is poweredOn") || !strings.Contains(got.stderr, "power it off first") {
		t.Errorf("got %+v", got)
	}
	m.same(t, before, "worker-0")
}

func TestOnlyTheVMOfABackupIsRestored(t *testing.T) {
	m, before, file := migrated(t)
	other := m.exhibit(t, "worker-1", 10, false)
	content, count := readFile(t, file), 0
	change := func(from, to string) string {
		t.Helper()
		changed := strings.ReplaceAll(content, from, to)
		if changed == content {
			t.Fatalf("%s is not in the backup", from)
		}
		count++
		return m.file(t, fmt.Sprintf("changed-%d.json", count), []byte(changed))
	}
	for name, test := range map[string]struct{ file, want string }{
		"another BIOS UUID":             {change(before.UUID, other.UUID), "the VM of the backup is not among the container VMs of VCH vch-1"},
		"another container id":          {change(before.ID, other.ID), "the VM of the backup is not among"},
		"another VCH":                   {change(m.ApplianceUUID(), before.UUID), "the VM of the backup is not among"},
		"another format":                {change(`"format": 1`, `"format": 2`), "it is of format 2, and this program knows 1; use a newer version of it"},
		"another kind of file":          {change("vchctl migration backup", "x"), "it was not written by vchctl migrate apply, or it was changed"},
		"more than one object":          {change(content, content+"{}"), "it was not written by vchctl migrate apply, or it was changed"},
		"no JSON":                       {m.file(t, "x.json", []byte("{"+planted)), "is not a backup of vchctl migrate apply"},
		"changes that cannot be":        {change(`"old": "`+inSeconds+`"`, `"old": "1"`), `what it says of key "guestinfo.vice..createtime" contradicts itself`},
		"no changes":                    {m.file(t, "none.json", []byte(content[:strings.Index(content, `"changes"`)]+`"changes": []}`)), "it has no changes"},
		"nothing about the VM":          {change(`"containerID": "`+before.ID+`"`, `"containerID": ""`), "it does not say which VM it is of"},
		"a name that was changed since": {change(before.Name, "x"), ""},
	} {
		got := m.run(t.Context(), "migrate", "restore", test.file, "--dry-run")
		if test.want == "" {
			if got.code != 0 {
				t.Errorf("%s: got %+v", name, got)
			}
			continue
		}
		if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, test.want) || strings.Count(got.stderr, "\n") != 1 {
			t.Errorf("%s: got %+v, want %s", name, got, test.want)
		}
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration/plugins"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

const (
	dataVersionKey = "guestinfo.vice./version/PluginVersion"
	createTimeKey  = "guestinfo.vice..createtime"
	markKey        = "annotations|mcm-vch-mark"
	inSeconds      = "1654867607"
	inNanoseconds  = inSeconds + "000000000"
)

func TestDataVersionsAndPlansAreShown(t *testing.T) {
	m := newMuseum(t)
	for name, version := range map[string]int{"worker-0": 0, "worker-3": 3, "worker-9": 9, "worker-10": 10} {
		m.exhibit(t, name, version, false)
	}
	m.exhibit(t, "worker-5", 5, true)
	newer, broken := m.exhibit(t, "worker-new", 10, false), m.exhibit(t, "worker-odd", 10, false)
	m.set(t, newer.Name, map[string]string{dataVersionKey: "11"})
	m.set(t, broken.Name, map[string]string{dataVersionKey: "nine"})
	for _, test := range []struct {
		golden, args string
	}{
		{"migrate-status.txt", "status"},
		{"migrate-status-wide.txt", "status -o wide --vch " + m.VCHName},
		{"migrate-status.json", "status -o json worker-0 worker-5 docker-0 " + m.VCHName},
		{"migrate-plan.txt", "plan"},
		{"migrate-plan.txt", "plan --all"},
		{"migrate-plan-named.txt", "plan worker-10 worker-5"},
		{"migrate-plan-cluster.txt", "plan --cluster nobody"},
		{"migrate-plan.json", "plan -o json worker-0 worker-5 worker-10 " + m.VCHName},
	} {
		got := m.run(t.Context(), append([]string{"migrate"}, strings.Fields(test.args)...)...)
		if got.code != 0 {
			t.Errorf("%s: exit code %d, %s", test.args, got.code, got.stderr)
		}
		golden(t, test.golden, m.stable(got.stdout+got.stderr))
		if strings.Contains(test.args, "json") {
			if list := decodeJSON[[]map[string]any](t, got.stdout); len(list) != 4 || list[0]["vm"] != m.VCHName {
				t.Errorf("%s: got %v", test.args, list)
			}
		}
	}
}

func TestAVMIsFoundByAllThatItIsCalled(t *testing.T) {
	m := newMuseum(t)
	vm := m.exhibit(t, "worker-0", 0, false)
	docker := m.docker(t, "docker-1")
	for _, name := range []string{"worker-0", vm.Name, vm.ID, vm.ID[:12], vm.Ref.Value, "VirtualMachine:" + vm.Ref.Value, docker.Name, "docker-1", docker.ID[:12]} {
		got := m.run(t.Context(), "migrate", "status", "-o", "json", name)
		if got.code != 0 || strings.Count(got.stdout, `"vm"`) != 1 {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	for _, name := range []string{"worker", "WORKER-0", vm.ID[:11], vm.ID[:13], "vm-", ""} {
		got := m.run(t.Context(), "migrate", "status", "worker-0", name)
		want := `no container VM of VCH vch-1 has the machine name, container name, VM name, container id or moref "` + name + `"`
		if got.code != 1 || !strings.Contains(got.stderr, want) || !strings.Contains(got.stdout, vm.Name) {
			t.Errorf("%q: got %+v", name, got)
		}
	}
}

func TestAMachineOfAnotherISOIsToldSo(t *testing.T) {
	m := newMuseum(t)
	m.exhibit(t, "worker-3", 3, false)
	m.exhibit(t, "worker-8", 8, false)
	if got := m.run(t.Context(), "migrate", "plan", "worker-3"); strings.Contains(got.stdout, "note") {
		t.Errorf("got %+v", got)
	}
	m.set(t, m.VCHName, map[string]string{"guestinfo.vice./container/bootstrap_image_path": "[LocalDS_0] vch-1/new.iso"})
	for name, want := range map[string]string{
		"worker-3": "note: it boots [LocalDS_0] vch-1/bootstrap.iso, and machines of today [LocalDS_0] vch-1/new.iso: a migration does not renew the programs of its guest; VIC takes data version 6 and above for a guest that can exec\n",
		"worker-8": "a migration does not renew the programs of its guest\n",
	} {
		if got := m.run(t.Context(), "migrate", "plan", name); got.code != 0 || !strings.Contains(got.stdout, want) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestApplyWritesWhatIsPoweredOff(t *testing.T) {
	m := newMuseum(t)
	old, half, running := m.exhibit(t, "worker-0", 0, false), m.exhibit(t, "worker-9", 9, false), m.exhibit(t, "worker-run", 3, true)
	m.exhibit(t, "worker-new", 10, false)
	dry := m.apply(t.Context(), "--all", "--dry-run")
	if dry.code != 0 || len(m.files(t)) > 0 || !strings.HasSuffix(dry.stderr, "Nothing was changed: without --dry-run, 3 VMs would be written.\n") {
		t.Errorf("got %+v", dry)
	}
	m.same(t, old, "worker-0")
	got := m.apply(t.Context(), "--all", "--yes")
	if got.code != 0 {
		t.Errorf("got %+v", got)
	}
	golden(t, "migrate-apply.txt", m.stable("--- standard output\n"+got.stdout+"--- errors\n"+got.stderr))
	keys := m.vm(t, "worker-0").ExtraCfg
	if keys["common/name"] != "worker-0" || keys[createTimeKey] != inNanoseconds || keys[dataVersionKey] != "9" || !strings.Contains(keys[markKey], `"format":2`) {
		t.Errorf("worker-0 has %s, %s, %s, %s", keys["common/name"], keys[createTimeKey], keys[dataVersionKey], keys[markKey])
	}
	if keys := m.vm(t, "worker-run").ExtraCfg; keys[createTimeKey] != inSeconds || keys[dataVersionKey] != "3" || !strings.Contains(keys[markKey], `"format":2`) {
		t.Errorf("of the running VM, the mark alone was to be written: %s, %s, %s", keys[createTimeKey], keys[dataVersionKey], keys[markKey])
	}
	if diff := cmp.Diff(half.ExtraCfg[dataVersionKey], m.vm(t, "worker-9").ExtraCfg[dataVersionKey]); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if files := m.files(t); len(files) != 3 {
		t.Errorf("backups: %q", files)
	}
	again := m.apply(t.Context(), "--all", "--yes")
	if again.code != 0 || again.stderr != "Nothing can be written: 3 up to date, 1 skipped.\n" || !strings.Contains(again.stdout, running.Name) || strings.Contains(again.stdout, old.Name) || len(m.files(t)) != 3 {
		t.Errorf("a second time: %+v", again)
	}
	if got := m.apply(t.Context(), "worker-0", "worker-new", "--yes"); got.code != 0 || strings.Count(got.stdout, "up to date") != 2 || got.stderr != "Nothing to migrate.\n" {
		t.Errorf("those that are done: %+v", got)
	}
	// Named one by one, what waits is an error.
	if got := m.apply(t.Context(), "worker-run", "--yes"); got.code != 1 || !strings.Contains(got.stderr, running.Name) || !strings.Contains(got.stderr, "poweredOn") {
		t.Errorf("got %+v", got)
	}
}

func TestBackupsAreForTheirUserAlone(t *testing.T) {
	m := newMuseum(t)
	before := m.exhibit(t, "worker-0", 0, false)
	if got := m.apply(t.Context(), "worker-0", "--yes"); got.code != 0 {
		t.Fatalf("got %+v", got)
	}
	files := m.files(t)
	if len(files) != 1 {
		t.Fatalf("backups: %q", files)
	}
	for file, want := range map[string]os.FileMode{files[0]: 0o600, m.backups: 0o700 | os.ModeDir} {
		if info, err := os.Stat(file); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	var backup struct {
		Time, Program string
		VCH, VM       map[string]string
		Versions      []map[string]any
		Changes       []map[string]string
		ExtraConfig   map[string]string
	}
	if err := json.Unmarshal([]byte(readFile(t, files[0])), &backup); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"name": before.Name, "moref": before.Ref.Value, "containerID": before.ID, "uuid": before.UUID, "power": "poweredOff"}
	if diff := cmp.Diff(want, backup.VM); diff != "" || backup.Time != "2026-01-02T03:04:05Z" || backup.VCH["uuid"] != m.ApplianceUUID() || backup.VCH["name"] != m.VCHName {
		t.Errorf("%s, %v (-want +got):\n%s", backup.Time, backup.VCH, diff)
	}
	for key, value := range before.ExtraCfg {
		if saved := backup.ExtraConfig[key]; saved != value && (value != "" || saved != "<nil>") || saved == "" {
			t.Errorf("key %s is saved as %q, it was %q", key, backup.ExtraConfig[key], value)
		}
	}
	if len(backup.Changes) != 4 || len(backup.Versions) != 2 || backup.ExtraConfig["annotations|note"] != planted {
		t.Errorf("changes %v, versions %v", backup.Changes, backup.Versions)
	}
}

func TestNothingIsWrittenWithoutABackup(t *testing.T) {
	m := newMuseum(t)
	before := m.exhibit(t, "worker-0", 0, false)
	m.backups = m.file(t, "no-directory", []byte("x"))
	got := m.apply(t.Context(), "--all", "--yes")
	if got.code != 1 || strings.Contains(got.stdout, "backup of VM") || !strings.Contains(got.stderr, "write the backup of VM") || !strings.Contains(got.stderr, "1 failed") {
		t.Errorf("got %+v", got)
	}
	m.same(t, before, "worker-0")
}

// TestAPluginThatFailsInTheMiddle is about VMs of which one cannot be migrated by the
// second of three plugins.
func TestAPluginThatFailsInTheMiddleLeavesVMsAsTheyWere(t *testing.T) {
	m := newMuseum(t)
	before := map[string]vchsim.VM{"worker-a": m.exhibit(t, "worker-a", 0, false), "worker-b": m.exhibit(t, "worker-b", 0, false)}
	fine := m.exhibit(t, "worker-c", 3, false)
	set, err := migration.New(append(
		plugins.Shipped().Plugins(migration.Machine),
		plugin(2, "first", func(map[string]string) (migration.Change, error) {
			return migration.Change{Set: map[string]string{"common/name": "half"}}, nil
		}),
		plugin(3, "second", func(map[string]string) (migration.Change, error) {
			return migration.Change{}, errdefs.New(errdefs.Internal, "it is not made for this")
		}),
		plugin(9, "third", func(map[string]string) (migration.Change, error) {
			return migration.Change{Set: map[string]string{createTimeKey: "1"}}, nil
		}),
	)...)
	if err != nil {
		t.Fatal(err)
	}
	m.migrations = set
	status := m.run(t.Context(), "migrate", "status", "-o", "json")
	if status.code != 0 || strings.Count(status.stdout, `"state": "error"`) != 2 || !strings.Contains(status.stdout, "it is not made for this") {
		t.Errorf("got %+v", status)
	}
	plan := m.run(t.Context(), "migrate", "plan")
	if plan.code != 0 || strings.Count(plan.stdout, "it is not made for this") != 2 || strings.Contains(plan.stdout, "half") {
		t.Errorf("got %+v", plan)
	}
	got := m.apply(t.Context(), "--all", "--yes")
	want := `plugin "second" of version 3: it is not made for this`
	if got.code != 1 || strings.Count(got.stderr, want) != 2 || !strings.Contains(got.stderr, "Done: 1 migrated, 2 failed.") {
		t.Errorf("got %+v", got)
	}
	if keys := m.vm(t, "worker-c").ExtraCfg; keys[dataVersionKey] != "9" || keys[createTimeKey] != "1" || fine.ExtraCfg[createTimeKey] == "1" {
		t.Errorf("the one that can be migrated was not: %s, %s", keys[dataVersionKey], keys[createTimeKey])
	}
	if got := m.apply(t.Context(), "worker-a", "--yes", "-o", "json"); got.code != 1 || !strings.Contains(got.stdout, `"result": "failed"`) || !strings.Contains(got.stderr, want) {
		t.Errorf("got %+v", got)
	}
	offline := m.run(t.Context(), "migrate", "plan", "--file", m.file(t, "keys.json", []byte(asJSON(t, oldContainer()))), "--target", "container", "-o", "json")
	if offline.code != 1 || offline.stdout != "" || !strings.Contains(offline.stderr, want) {
		t.Errorf("got %+v", offline)
	}
	for name, vm := range before {
		m.same(t, vm, name)
		if m.machine(t, name, true); m.vm(t, name).Started != "true" {
			t.Errorf("%s does not start any more", name)
		}
	}
}

func plugin(version int, name string, step func(map[string]string) (migration.Change, error)) migration.Plugin {
	return migration.Plugin{Version: version, Target: migration.Container, Name: name, About: name, Touches: []string{"common/name", createTimeKey}, Step: step}
}

func TestAVMThatFailsDoesNotStopTheOthers(t *testing.T) {
	m := newMuseum(t)
	for _, name := range []string{"worker-a", "worker-b", "worker-c"} {
		m.exhibit(t, name, 5, false)
	}
	if err := m.SetFault(vchsim.FaultRule{Method: "ReconfigVM_Task", Kind: "NoPermission", NthCall: 2}); err != nil {
		t.Fatal(err)
	}
	got := m.apply(t.Context(), "--all", "--yes", "-o", "json")
	answer := decodeJSON[struct {
		DryRun bool             `json:"dryRun"`
		VMs    []map[string]any `json:"vms"`
	}](t, got.stdout)
	var results []any
	for _, vm := range answer.VMs {
		results = append(results, vm["result"])
	}
	if diff := cmp.Diff([]any{"migrated", "failed", "migrated"}, results); diff != "" || got.code != 1 || !strings.Contains(got.stderr, "NoPermission") {
		t.Errorf("got %+v, (-want +got):\n%s", got, diff)
	}
	m.ClearFaults()
	if got := m.apply(t.Context(), "--all", "--yes"); got.code != 0 || !strings.Contains(got.stderr, "Done: 1 migrated, 2 up to date.") {
		t.Errorf("it does not go on: %+v", got)
	}
}

func TestEachAttemptToWriteHasABackupOfItsOwn(t *testing.T) {
	m := newMuseum(t)
	before := m.exhibit(t, "worker-0", 0, false)
	if err := m.SetFault(vchsim.FaultRule{Method: "ReconfigVM_Task", Kind: "task:ConcurrentAccess", NthCall: 1}); err != nil {
		t.Fatal(err)
	}
	got := m.apply(t.Context(), "worker-0", "--yes", "-o", "json")
	answer := decodeJSON[struct {
		DryRun bool
		VMs    []map[string]any
	}](t, got.stdout)
	files := m.files(t)
	if got.code != 0 || len(files) != 2 || answer.VMs[0]["result"] != "migrated" || len(answer.VMs[0]["backups"].([]any)) != 2 {
		t.Fatalf("got %+v, backups %q", got, files)
	}
	for _, file := range files { // the second finds all as it was before
		if got := m.run(t.Context(), "migrate", "restore", file, "--yes"); got.code != 0 {
			t.Errorf("got %+v", got)
		}
		m.same(t, before, "worker-0")
	}
}

func TestContainersOfDockerAreWrittenByForceOnly(t *testing.T) {
	m := newMuseum(t)
	docker := m.docker(t, "docker-1")
	m.age(t, docker.Name, 1)
	if got := m.run(t.Context(), "migrate", "plan", "docker-1"); got.code != 0 || !strings.Contains(got.stdout, "note: it is no machine of this provider: it is written with --force only") {
		t.Errorf("got %+v", got)
	}
	if got := m.apply(t.Context(), "--all", "--yes"); got.code != 0 || got.stderr != "Nothing to migrate.\n" {
		t.Errorf("got %+v", got)
	}
	if got := m.apply(t.Context(), "docker-1", "--yes"); got.code != 1 || !strings.Contains(got.stderr, "is no machine of this provider; with --force") || m.docker(t, "docker-1").ExtraCfg[dataVersionKey] != "1" {
		t.Errorf("got %+v", got)
	}
	if got := m.apply(t.Context(), m.VCHName, "--yes", "--force"); got.code != 1 || !strings.Contains(got.stderr, "is the appliance of VCH vch-1, which vic-machine upgrade writes") {
		t.Errorf("got %+v", got)
	}
	if got := m.apply(t.Context(), "--all", "--yes", "--force"); got.code != 0 || m.docker(t, "docker-1").ExtraCfg["common/name"] != "docker-1" {
		t.Errorf("got %+v", got)
	}
	file := m.files(t)[0]
	if got := m.run(t.Context(), "migrate", "restore", file, "--yes"); got.code != 1 || !strings.Contains(got.stderr, "with --force") {
		t.Errorf("got %+v", got)
	}
	if got := m.run(t.Context(), "migrate", "restore", file, "--yes", "--force"); got.code != 0 {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff(m.docker(t, "docker-0").ExtraCfg[dataVersionKey], "10"); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if keys := m.docker(t, "docker-1").ExtraCfg; keys[dataVersionKey] != "1" || keys["common/name"] != "" {
		t.Errorf("keys after the restoration: %v", keys)
	}
}

func TestApplyAsksBeforeItWrites(t *testing.T) {
	m := newMuseum(t)
	before := m.exhibit(t, "worker-0", 0, false)
	m.stdin = openPrompt(t, "n\n")
	got := m.apply(t.Context(), "--all")
	if got.code != 0 || !strings.Contains(got.stderr, "Write 1 VM? [y/N] Nothing was written.") || !strings.Contains(got.stdout, "common/name: worker-0") {
		t.Errorf("got %+v", got)
	}
	m.same(t, before, "worker-0")
	m.stdin = openPrompt(t, "y\n")
	if got := m.apply(t.Context(), "--all"); got.code != 0 || !strings.Contains(got.stderr, "Done: 1 migrated.") || !strings.Contains(got.stdout, m.files(t)[0]) {
		t.Errorf("got %+v", got)
	}
	file := m.files(t)[0]
	m.stdin = openPrompt(t, "n\n")
	if got := m.run(t.Context(), "migrate", "restore", file); got.code != 0 || !strings.Contains(got.stderr, "Put back 4 keys? [y/N] Nothing was written.") || m.vm(t, "worker-0").ExtraCfg[dataVersionKey] != "9" {
		t.Errorf("got %+v", got)
	}
	m.stdin = openPrompt(t, "y\n")
	if got := m.run(t.Context(), "migrate", "restore", file); got.code != 0 || !strings.Contains(got.stdout, "restored 4 keys of VM") {
		t.Errorf("got %+v", got)
	}
	m.same(t, before, "worker-0")
}

func TestMigrateTellsWhatIsWrongWithItsArguments(t *testing.T) {
	m := newMuseum(t)
	m.exhibit(t, "worker-0", 0, false)
	for args, want := range map[string]string{
		"apply":                                  "which VMs? Give their names, or --all",
		"apply --all worker-0":                   "give names of VMs or --all, not both",
		"apply --all":                            "there is no terminal to ask on: give --yes, or look with --dry-run",
		"apply --all -o json":                    "with --output json nothing is asked: give --yes, or look with --dry-run",
		"apply --all -o wide":                    `--output must be json, got "wide"`,
		"apply --all --yes --backup-dir=":        "--backup-dir must name a directory",
		"apply nobody --yes":                     `no container VM of VCH vch-1 has the machine name, container name, VM name, container id or moref "nobody"`,
		"apply worker-0 --yes --cluster nobody":  `no container VM of cluster nobody of VCH vch-1`,
		"apply --all --yes --vch nobody":         "no VCH nobody",
		"apply --all --yes --timeout 0s":         "--timeout must be positive",
		"plan --all worker-0":                    "give names of VMs or --all, not both",
		"plan -o wide":                           `--output must be json, got "wide"`,
		"plan nobody":                            `moref "nobody"`,
		"status nobody":                          `moref "nobody"`,
		"status -o yaml":                         `--output must be wide or json, got "yaml"`,
		"restore":                                "vchctl migrate restore wants BACKUP-FILE",
		"restore /nonexistent --yes":             "read the backup: open /nonexistent",
		"restore x":                              "there is no terminal to ask on",
		"":                                       "vchctl migrate needs a command",
		"applyy":                                 `vchctl migrate has no command "applyy"`,
		"status --provider-spec /nonexistent":    "read --provider-spec",
		"status --vch a --provider-spec b":       "if any flags in the group [provider-spec vch] are set none of the others can be",
		"restore a b":                            "vchctl migrate restore wants BACKUP-FILE",
		"apply worker-0 --yes --x":               "unknown flag: --x",
		"plan --file x --target container --all": "none of the others can be",
	} {
		got := m.run(t.Context(), append([]string{"migrate"}, strings.Fields(args)...)...)
		if got.code != 1 || !strings.Contains(got.stderr, want) || strings.Count(got.stderr, "\n") != 1 || strings.Contains(args, "apply") && got.stdout != "" {
			t.Errorf("%s: got %+v, want %s", args, got, want)
		}
	}
	if files := m.files(t); len(files) > 0 {
		t.Errorf("backups: %q", files)
	}
}

func TestSeveralVCHsAreShownTogetherAndWrittenOneByOne(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	env := w.govc(t)
	status := vchctl(t.Context(), "", env, "migrate", "status")
	if status.code != 0 || !strings.Contains(status.stdout, "vch-1 ") || !strings.Contains(status.stdout, "vch-2 ") {
		t.Errorf("got %+v", status)
	}
	dir := t.TempDir()
	apply := func(args ...string) result {
		return vchctl(t.Context(), "", env, append([]string{"migrate", "apply", "--yes", "--backup-dir", dir}, args...)...)
	}
	if got := apply("--all"); got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "there are 2 VCHs, for example vch-1 and vch-2; choose one with --vch") {
		t.Errorf("got %+v", got)
	}
	got := apply("machine-0")
	if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, `"machine-0" means 2 container VMs: VM "machine-0-`) || !strings.Contains(got.stderr, "choose with --cluster or --vch") {
		t.Errorf("got %+v", got)
	}
	// Both run: their marks alone are written.
	if got := apply("machine-0", "--cluster", vchsim.OtherCluster); got.code != 0 || !strings.Contains(got.stderr, "Done: 1 migrated.") {
		t.Errorf("got %+v", got)
	}
	// One of the VCHs cannot be read.
	if err := w.SetFault(vchsim.FaultRule{Method: "FindByInventoryPath", Kind: "NoPermission", NthCall: 2}); err != nil {
		t.Fatal(err)
	}
	if got := vchctl(t.Context(), "", env, "migrate", "status"); got.code != 1 || !strings.Contains(got.stdout, "vch-1 ") || !strings.Contains(got.stderr, "NoPermission") {
		t.Errorf("got %+v", got)
	}
}

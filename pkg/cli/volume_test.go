// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func TestVolumesAreListedInATable(t *testing.T) {
	c := newCellar(t)
	c.fill(t)
	damaged := "1 volume is damaged, and may hide all others of the store from a VCH that restarts. -o wide says why, docs/volumes.md what to do.\n"
	for name, test := range map[string]struct {
		args   []string
		stderr string
	}{
		"volumes.txt":      {[]string{"ls"}, damaged},
		"volumes-wide.txt": {[]string{"ls", "-o", "wide", "--vch", c.VCHName}, damaged},
		"volumes.json":     {[]string{"ls", "-o", "json"}, ""},
	} {
		got := c.run(t.Context(), test.args...)
		if got.code != 0 || got.stderr != test.stderr {
			t.Errorf("%s: exit code %d, %s", name, got.code, got.stderr)
		}
		golden(t, name, got.stdout)
	}
}

func TestVolumesAreListedByFilters(t *testing.T) {
	c := newCellar(t)
	c.fill(t)
	for args, want := range map[string]string{
		"--filter dangling=true":                              gone + " " + fresh + " data-old shared-old stray",
		"-f dangling=false -f driver=vsphere-vmdk -f name=da": "data",
		"--filter store=nfs --filter name=shared":             "shared shared-old",
		"--filter label=team=a --filter dangling=1":           "data-old",
		"--filter label=" + volume.LabelAnonymous:             gone + " " + kept + " " + fresh,
		"--filter name=nothing --filter driver=vsphere-nfs":   "",
	} {
		got := c.run(t.Context(), append([]string{"ls", "-q"}, strings.Fields(args)...)...)
		if names := strings.Join(strings.Fields(got.stdout), " "); got.code != 0 || got.stderr != "" || names != want {
			t.Errorf("%s: got %+v, want %s", args, got, want)
		}
	}
	c.forget()
	if got := c.run(t.Context(), "ls", "-q"); got.code != 0 || strings.Count(got.stdout, "\n") != 8 {
		t.Errorf("got %+v", got)
	}
	for label, b := range c.bays {
		if diff := cmp.Diff([]string{"List"}, b.calls); diff != "" {
			t.Errorf("store %s, for names alone (-want +got):\n%s", label, diff)
		}
	}
}

func TestAVCHWithoutVolumesIsAnEmptyList(t *testing.T) {
	c := newCellar(t)
	for args, want := range map[string]result{
		"ls":               {0, "", "No volumes found.\n"},
		"ls -q":            {0, "", ""},
		"ls -o json":       {0, "[]\n", ""},
		"prune --yes":      {0, "", "Nothing to remove.\n"},
		"prune --dry-run":  {0, "", "Nothing to remove.\n"},
		"ls -f name=x -q ": {0, "", ""},
	} {
		if got := c.run(t.Context(), strings.Fields(args)...); got != want {
			t.Errorf("%s: got %+v", args, got)
		}
	}
}

func TestAStoreThatDoesNotAnswerDoesNotHideTheOthers(t *testing.T) {
	first := newCellar(t)
	for _, method := range []string{"List", "Users"} {
		t.Run(method, func(t *testing.T) {
			c := first.another()
			c.fill(t)
			c.bays["nfs"].errs[method] = errdefs.New(errdefs.Unavailable, "nfs.example.com does not answer")
			got := c.run(t.Context(), "ls")
			if got.code != 1 || !strings.Contains(got.stdout, "data-old") || !strings.Contains(got.stderr, "nfs.example.com does not answer") {
				t.Errorf("got %+v", got)
			}
			if shown := strings.Contains(got.stdout, "shared"); shown != (method == "Users") {
				t.Errorf("got %s", got.stdout)
			}
			// Nobody must take it for unused.
			if got := c.run(t.Context(), "ls", "-q", "--filter", "dangling=true"); got.code != 1 || strings.Contains(got.stdout, "shared") || !strings.Contains(got.stdout, "data-old") {
				t.Errorf("got %+v", got)
			}
			// None at all.
			c.bays["default"].errs["List"] = errdefs.New(errdefs.Unavailable, "vCenter does not answer")
			got = c.run(t.Context(), "ls", "--filter", "store=default")
			if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "vCenter does not answer") || strings.Contains(got.stderr, "No volumes found") {
				t.Errorf("got %+v", got)
			}
		})
	}
}

func TestSomethingWithoutAVolumesNameIsShown(t *testing.T) {
	c := newCellar(t)
	c.bays["default"].Damage("lost+found", "its name is no good")
	c.put(t, "default", "data", nil)
	got := c.run(t.Context(), "ls", "-o", "json")
	var volumes []struct{ Name, UsersError string }
	if err := json.Unmarshal([]byte(got.stdout), &volumes); err != nil || got.code != 0 || len(volumes) != 2 || volumes[0].UsersError != "" || volumes[1].UsersError == "" {
		t.Errorf("%v, got %+v", err, got)
	}
	if got := c.run(t.Context(), "prune", "--all", "--yes"); got.code != 0 || !c.has(t, "default", "lost+found") {
		t.Errorf("got %+v", got)
	}
}

func TestInspectShowsAllAboutVolumes(t *testing.T) {
	c := newCellar(t)
	c.fill(t)
	got := c.run(t.Context(), "inspect", "data", "shared", "data", "stray")
	if got.code != 0 || got.stderr != "" {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
	golden(t, "volume-inspect.json", got.stdout)
	// What is there is shown, whatever else is asked for.
	some := c.run(t.Context(), "inspect", "nobody", "data-old", "a/b")
	if some.code != 1 || !strings.Contains(some.stdout, `"data-old"`) || !strings.Contains(some.stderr, "no volume nobody") || !strings.Contains(some.stderr, `"a/b"`) {
		t.Errorf("got %+v", some)
	}
	if none := c.run(t.Context(), "inspect", "nobody"); none.code != 1 || none.stdout != "[]\n" {
		t.Errorf("got %+v", none)
	}
	if other := c.run(t.Context(), "inspect", "--store", "nfs", "data"); other.code != 1 || other.stdout != "[]\n" || !strings.Contains(other.stderr, "there is no volume data") {
		t.Errorf("got %+v", other)
	}
	if other := c.run(t.Context(), "inspect", "--store", "ssd", "data"); other.code != 1 || !strings.Contains(other.stderr, `no volume store named "ssd"`) {
		t.Errorf("got %+v", other)
	}
}

func TestTwoVolumesOfOneNameAreToldApart(t *testing.T) {
	c := newCellar(t)
	c.put(t, "default", "data", nil)
	c.put(t, "nfs", "data", nil, volume.User{Name: "a", VM: "vm-1"})
	got := c.run(t.Context(), "inspect", "data")
	var volumes []struct {
		Store, Damage string
		Users         []volume.User
	}
	if err := json.Unmarshal([]byte(got.stdout), &volumes); err != nil || got.code != 0 || len(volumes) != 2 {
		t.Fatalf("%v, got %+v", err, got)
	}
	if volumes[0].Damage == "" || volumes[1].Damage == "" || len(volumes[0].Users) != 0 || len(volumes[1].Users) != 1 {
		t.Errorf("got %+v", volumes)
	}
	if got := c.run(t.Context(), "ls"); got.code != 0 || strings.Count(got.stdout, "damaged") != 2 {
		t.Errorf("got %+v", got)
	}
	for _, args := range [][]string{{"rm", "data"}, {"rm", "data", "--dry-run"}} {
		if got := c.run(t.Context(), args...); got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "[default] VIC/volumes/data/data.vmdk") || !strings.Contains(got.stderr, "nfs://nfs.example/nfs/volumes/data") {
			t.Errorf("%s: got %+v", args, got)
		}
	}
	if got := c.run(t.Context(), "rm", "--store", "nfs", "data", "--dry-run"); got.code != 1 || !strings.Contains(got.stderr, "a (vm-1)") {
		t.Errorf("got %+v", got)
	}
	if got, want := c.run(t.Context(), "rm", "--store", "default", "data"), (result{0, "removed data\n", ""}); got != want {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]string{"data"}, c.names(t)); diff != "" || !c.has(t, "nfs", "data") {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAVolumeIsMadeAsItWasAskedFor(t *testing.T) {
	first := newCellar(t)
	labels := map[string]string{"team": "a", "note": "x=y", "alone": ""}
	tests := []struct {
		name, args string
		label      string
		want       volume.Request
		stderr     string
	}{
		{"nothing said", "data", "default", volume.Request{Name: "data", Capacity: volume.DefaultCapacity}, ""},
		{"all said", "--capacity 10Gi --store ssd --label team=b --label team=a --label note=x=y --label alone data", "ssd", volume.Request{
			Name: "data", Capacity: 10 << 30, Metadata: volume.Metadata{Labels: labels},
		}, ""},
		{"as docker says it", "-o VolumeStore=ssd --opt Capacity=2GB data", "ssd", volume.Request{
			Name: "data", Capacity: 2000 << 20, Metadata: volume.Metadata{DriverOpts: map[string]string{"VolumeStore": "ssd", "Capacity": "2GB"}},
		}, ""},
		{"both ways", "-o volumestore=ssd --store ssd --capacity 1Gi -o capacity=1024 data", "ssd", volume.Request{
			Name: "data", Capacity: 1 << 30, Metadata: volume.Metadata{DriverOpts: map[string]string{"volumestore": "ssd", "capacity": "1024"}},
		}, ""},
		{"on NFS", "--store nfs data", "nfs", volume.Request{Name: "data"}, ""},
		{"on NFS, with a capacity", "--store nfs --capacity 1Gi data", "nfs", volume.Request{Name: "data"}, "Nothing limits a volume of store nfs, which is an NFS export: the capacity has no effect.\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := first.another()
			c.bay("ssd", volume.VMDK)
			got := c.run(t.Context(), append([]string{"create"}, strings.Fields(test.args)...)...)
			if want := (result{0, "data\n", test.stderr}); got != want {
				t.Errorf("got %+v", got)
			}
			v, err := c.bays[test.label].Store.Get(t.Context(), "data")
			if err != nil {
				t.Fatal(err)
			}
			want := test.want
			want.Metadata.Name, want.Metadata.Driver = "data", volume.PersonaDriver
			want.Metadata.Labels = map[string]string{volume.LabelCreated: "2026-01-02T03:04:05Z"}
			maps.Copy(want.Metadata.Labels, test.want.Metadata.Labels)
			if want.Metadata.DriverOpts == nil {
				want.Metadata.DriverOpts = map[string]string{}
			}
			if diff := cmp.Diff(want, volume.Request{Name: v.Name, Capacity: v.Capacity, Metadata: v.Metadata}); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestAVolumeWithoutANameGetsARandomOne(t *testing.T) {
	c := newCellar(t)
	first, second := c.run(t.Context(), "create"), c.run(t.Context(), "create", "--output", "json")
	var v struct {
		Name, VCH string
		Anonymous bool
	}
	if err := json.Unmarshal([]byte(second.stdout), &v); err != nil || second.code != 0 || v.VCH != c.VCHName || v.Anonymous {
		t.Errorf("%v, got %+v", err, second)
	}
	if name := strings.TrimSpace(first.stdout); uuid.Validate(name) != nil || uuid.Validate(v.Name) != nil || name == v.Name || len(c.names(t)) != 2 {
		t.Errorf("got %+v and %+v, there are %q", first, second, c.names(t))
	}
}

func TestCreateTellsWhatStandsInItsWay(t *testing.T) {
	c := newCellar(t)
	c.put(t, "nfs", "taken", nil)
	c.bay("full", volume.VMDK).Fill(true)
	for args, want := range map[string][]string{
		"taken":                   {"taken", "nfs://nfs.example/nfs/volumes/taken"},
		"--store ssd data":        {`no volume store named "ssd" exists in VCH ` + c.VCHName, "default, full, nfs"},
		"-o VolumeStore=ssd data": {`no volume store named "ssd" exists in VCH ` + c.VCHName, "default, full, nfs"},
		"--store full data":       {"volume data is not made for lack of room", "vchctl volume prune --dry-run", "another store: default, nfs"},
	} {
		got := c.run(t.Context(), append([]string{"create"}, strings.Fields(args)...)...)
		for _, text := range want {
			if got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, text) || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("%s: got %+v, want %q", args, got, text)
			}
		}
	}
	delete(c.bays, "default")
	if got := c.run(t.Context(), "create", "data"); got.code != 1 || !strings.Contains(got.stderr, "no volume store named \"default\"") || !strings.Contains(got.stderr, "full, nfs") {
		t.Errorf("got %+v", got)
	}
	if diff := cmp.Diff([]string{"taken"}, c.names(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestRemoveTriesAllNames(t *testing.T) {
	c := newCellar(t)
	c.fill(t)
	before := c.names(t)
	c.forget()
	dry := c.run(t.Context(), "rm", "--dry-run", "data", "data-old", "nobody", "data-old", "shared-old", "stray", "-o", "json")
	if dry.code != 1 || len(c.changes()) > 0 {
		t.Errorf("got %+v, %q", dry, c.changes())
	}
	golden(t, "volume-rm-dry.json", dry.stdout)
	said := c.run(t.Context(), "rm", "--dry-run", "data", "data-old", "shared-old")
	want := "would remove data-old, [default] VIC/volumes/data-old/data-old.vmdk, 1Gi\nwould remove shared-old, nfs://nfs.example/nfs/volumes/shared-old\n"
	if said.code != 1 || said.stdout != want || !strings.Contains(said.stderr, "volume data stays: worker-a-1 (vm-11) has it; delete its machine first") {
		t.Errorf("got %+v", said)
	}
	if diff := cmp.Diff(before, c.names(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got := c.run(t.Context(), "rm", "data", "data-old", "nobody", "data-old", "shared-old", "stray")
	if got.code != 1 || got.stdout != "removed data-old\nremoved shared-old\nremoved stray\n" {
		t.Errorf("got %+v", got)
	}
	for _, text := range []string{"worker-a-1 (vm-11)", "no volume nobody"} {
		if !strings.Contains(got.stderr, text) {
			t.Errorf("%q is missing in %s", text, got.stderr)
		}
	}
	if diff := cmp.Diff([]string{gone, kept, fresh, "data", "shared"}, c.names(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := c.run(t.Context(), "rm", "--store", "default", "shared"); got.code != 1 || got.stdout != "" || !strings.Contains(got.stderr, "nfs") {
		t.Errorf("got %+v", got)
	}
}

func TestWhatIsPrunedIsShown(t *testing.T) {
	first := newCellar(t)
	everything := []string{gone, kept, fresh, "data", "data-old", "shared", "shared-old", "stray"}
	without := func(names ...string) []string {
		var left []string
		for _, name := range everything {
			if !strings.Contains(" "+strings.Join(names, " ")+" ", " "+name+" ") {
				left = append(left, name)
			}
		}
		return left
	}
	for _, test := range []struct {
		golden, args string
		want         []string
		leftovers    int
	}{
		{"volume-prune.txt", "", without(gone), 0},
		{"volume-prune-all.txt", "--all", without(gone, "data-old", "shared-old"), 0},
		{"volume-prune.json", "--all -o json", without(gone, "data-old", "shared-old"), 0},
		{"volume-prune-label.txt", "--all --filter label=team=a", without("data-old"), 1},
		{"volume-prune-store.txt", "--filter store=default", without(gone), 0},
	} {
		t.Run(test.golden, func(t *testing.T) {
			c := first.another()
			c.fill(t)
			c.forget()
			args := append([]string{"prune"}, strings.Fields(test.args)...)
			dry := c.run(t.Context(), append(args, "--dry-run")...)
			if diff := cmp.Diff(everything, c.names(t)); diff != "" || len(c.changes()) > 0 || dry.code != 0 {
				t.Errorf("got %+v, %q, (-want +got):\n%s", dry, c.changes(), diff)
			}
			got := c.run(t.Context(), append(args, "--yes")...)
			if got.code != 0 {
				t.Errorf("got %+v", got)
			}
			golden(t, test.golden, "--- standard output\n"+got.stdout+"--- errors\n"+got.stderr)
			if strings.HasSuffix(test.golden, ".json") && strings.Replace(dry.stdout, `"dryRun": true`, `"dryRun": false`, 1) != got.stdout {
				t.Errorf("the dry run shows\n%s", dry.stdout)
			}
			left, err := c.bays["default"].Store.Leftovers(t.Context())
			if diff := cmp.Diff(test.want, c.names(t)); diff != "" || err != nil || len(left) != test.leftovers {
				t.Errorf("%v are left, %v, (-want +got):\n%s", left, err, diff)
			}
		})
	}
}

func TestPruneAsksBeforeItRemoves(t *testing.T) {
	first := newCellar(t)
	for answer, want := range map[string]bool{"y\n": true, "YES\n": true, " yes": true, "n\n": false, "\n": false, "": false, "yep\n": false, "no\ny\n": false} {
		c := first.another()
		c.fill(t)
		c.stdin = openPrompt(t, answer)
		got := c.run(t.Context(), "prune")
		question := "Remove 1 volume (up to 1 GiB) and 1 leftover for good? [y/N]"
		if got.code != 0 || !strings.Contains(got.stderr, question) || !strings.Contains(got.stdout, gone) {
			t.Errorf("%q: got %+v", answer, got)
		}
		if removed := !c.has(t, "default", gone); removed != want || strings.Contains(got.stderr, "Nothing was removed.") == want {
			t.Errorf("%q: removed %v, got %+v", answer, removed, got)
		}
	}
}

func TestInterruptedQuestionRemovesNothing(t *testing.T) {
	c := newCellar(t)
	c.fill(t)
	c.forget()
	_, user := openPair(t, 80)
	ctx, interrupt := context.WithCancel(t.Context())
	reader, writer := io.Pipe()
	go func() {
		defer interrupt()
		// The question ends with a space and not with a line.
		for text, buffer := "", make([]byte, 1000); !strings.HasSuffix(text, "[y/N] "); {
			n, err := reader.Read(buffer)
			if text += string(buffer[:n]); err != nil {
				return
			}
		}
	}()
	c.stdin, c.stderr = user, writer
	got := make(chan result)
	go func() { got <- c.run(ctx, "prune", "--all") }()
	<-ctx.Done()
	go func() { _, _ = io.Copy(io.Discard, reader) }()
	if got := <-got; got.code != 1 || strings.Contains(got.stdout, "removed") || len(c.changes()) > 0 {
		t.Errorf("got %+v, %q", got, c.changes())
	}
	_ = user.Close()
}

func TestPruneWithoutATerminalNeedsAWord(t *testing.T) {
	c := newCellar(t)
	c.fill(t)
	before := c.names(t)
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close() })
	if _, err := writer.WriteString("y\ny\n"); err != nil || writer.Close() != nil {
		t.Fatal(err)
	}
	c.stdin = reader
	for args, want := range map[string]string{
		"prune":                              "vchctl: there is no terminal to ask on: give --yes, or look with --dry-run\n",
		"prune --all":                        "vchctl: there is no terminal to ask on: give --yes, or look with --dry-run\n",
		"prune -o json":                      "vchctl: with --output json nothing is asked: give --yes, or look with --dry-run\n",
		"prune --yes --x":                    "vchctl: unknown flag: --x\n",
		"prune --yes -f":                     "vchctl: unknown shorthand flag: 'f' in -f\n",
		"prune --yes --filter dangling=true": `vchctl: --filter "dangling=true": there is no such filter; there are driver=, label=, name=, store=` + "\n",
	} {
		if got := c.run(t.Context(), strings.Fields(args)...); got != (result{1, "", want}) {
			t.Errorf("%s: got %+v", args, got)
		}
	}
	if diff := cmp.Diff(before, c.names(t)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAPruneThatFailsTellsWhatItRemoved(t *testing.T) {
	c := newCellar(t)
	c.fill(t)
	// A VM takes it after the plan was made.
	c.bays["nfs"].errs["Remove"] = errdefs.New(errdefs.FailedPrecondition, "volume shared-old is used by late (vm-99)")
	c.bays["default"].errs["Clean"] = errdefs.New(errdefs.Unavailable, "the datastore does not answer")
	got := c.run(t.Context(), "prune", "--all", "--yes")
	if got.code != 1 || !strings.HasSuffix(got.stdout, "removed "+gone+"\nremoved data-old\n") {
		t.Errorf("got %+v", got)
	}
	for _, text := range []string{"Removed 2 volumes (up to 2 GiB).\n", "late (vm-99)", "the datastore does not answer"} {
		if !strings.Contains(got.stderr, text) {
			t.Errorf("%q is missing in %s", text, got.stderr)
		}
	}
}

func TestPruneGoesOnWithoutAStoreThatDoesNotAnswer(t *testing.T) {
	first := newCellar(t)
	for _, method := range []string{"List", "Users", "Leftovers"} {
		c := first.another()
		c.fill(t)
		c.bays["nfs"].errs[method] = errdefs.New(errdefs.Unavailable, "nfs.example.com does not answer")
		got := c.run(t.Context(), "prune", "--all", "--yes")
		if got.code != 1 || !strings.Contains(got.stderr, "nfs.example.com does not answer") || c.has(t, "default", "data-old") {
			t.Errorf("%s: got %+v", method, got)
		}
		if stays := c.has(t, "nfs", "shared-old"); stays != (method != "Leftovers") {
			t.Errorf("%s: got %+v", method, got)
		}
	}
}

func TestWrongWordsAboutVolumesAreRefusedAtOnce(t *testing.T) {
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"a name", []string{"create", "a/b"}, `volume name "a/b": it must begin with a letter or digit`},
		{"a capacity", []string{"create", "--capacity", "10GB", "a"}, `--capacity "10GB": want whole MiB between 8Mi and 2Ti, such as 10Gi`},
		{"a small capacity", []string{"create", "--capacity", "7Mi", "a"}, `--capacity "7Mi": want whole MiB`},
		{"a broken capacity", []string{"create", "--capacity", "10000001", "a"}, `--capacity "10000001": want whole MiB`},
		{"no capacity", []string{"create", "--capacity", "0", "a"}, `--capacity "0": want whole MiB`},
		{"an option", []string{"create", "-o", "size=1", "a"}, `--opt: option "size" is not supported: there are volumestore and capacity`},
		{"a label", []string{"create", "--label", "=x", "a"}, `--label "=x": want key=value`},
		{"a label of the driver", []string{"create", "--label", volume.LabelAnonymous + "=true", "a"}, "--label " + volume.LabelAnonymous + ": labels that begin with"},
		{"two capacities", []string{"create", "--capacity", "1Gi", "-o", "capacity=2048", "a"}, "--capacity says 1Gi, and --opt 2Gi; give one of them"},
		{"two stores", []string{"create", "--store", "a", "-o", "volumestore=b", "a"}, "--store says a, and --opt b; give one of them"},
		{"two names", []string{"create", "a", "b"}, "accepts at most 1 arg(s), received 2"},
		{"an output of create", []string{"create", "--output", "wide"}, `--output must be json, got "wide"`},
		{"a filter", []string{"ls", "--filter", "size=1"}, `--filter "size=1": there is no such filter; there are dangling=, driver=, label=, name=, store=`},
		{"an output of ls", []string{"ls", "-o", "xml"}, `--output must be wide or json, got "xml"`},
		{"names and an output", []string{"ls", "-q", "-o", "json"}, "if any flags in the group [quiet output] are set none of the others can be"},
		{"an argument to ls", []string{"ls", "a"}, `unknown command "a" for "vchctl volume ls"`},
		{"nothing to look at", []string{"inspect"}, "requires at least 1 arg(s), only received 0"},
		{"nothing to remove", []string{"rm"}, "requires at least 1 arg(s), only received 0"},
		{"an output of rm", []string{"rm", "-o", "wide", "a"}, `--output must be json, got "wide"`},
		{"an argument to prune", []string{"prune", "a"}, `unknown command "a" for "vchctl volume prune"`},
		{"no command", nil, "vchctl volume needs a command; see vchctl volume --help"},
		{"no vCenter", []string{"ls"}, "which vCenter? Give --secret-file or set GOVC_URL, GOVC_USERNAME and GOVC_PASSWORD"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := vchctl(t.Context(), "", nil, append([]string{"volume"}, test.args...)...)
			if got.code != 1 || got.stdout != "" || !strings.HasPrefix(got.stderr, "vchctl: "+test.want) || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("got  %+v\nwant %s", got, test.want)
			}
		})
	}
}

func TestCommandsThatChangeVolumesNeedOneVCH(t *testing.T) {
	c := newCellar(t)
	c.world = newWorld(t, vchsim.Options{}) // has two VCHs
	c.env = c.govc(t)
	c.put(t, "default", "data", nil)
	for _, args := range []string{"create x", "inspect data", "rm data", "prune --yes"} {
		got := c.run(t.Context(), strings.Fields(args)...)
		if want := "vchctl: there are 2 VCHs, for example vch-1 and vch-2; choose one with --vch\n"; got != (result{1, "", want}) {
			t.Errorf("%s: got %+v", args, got)
		}
	}
	got := c.run(t.Context(), "ls")
	if got.code != 0 || !strings.Contains(got.stdout, "vch-1") || !strings.Contains(got.stdout, "vch-2") {
		t.Errorf("got %+v", got)
	}
}

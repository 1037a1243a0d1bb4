// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

func TestOnlyHarmlessValuesAreShown(t *testing.T) {
	t.Parallel()
	const mark = `{"cluster":"a","role":"b","machine":"c","provider":"v1"}`
	for key, tc := range map[string]struct{ value, want string }{
		"common/name":                                                    {"web-0", "web-0"},
		"init/common/name":                                               {"vch-1", "vch-1"},
		"guestinfo.vice./common/name":                                    {"web-0", "web-0"},
		"guestinfo.vice..createtime":                                     {"1654867607", "1654867607"},
		"guestinfo.vice./version/PluginVersion":                          {"9", "9"},
		"guestinfo.vice./sessions|0123/cmd/Env":                          {"1", "1"},
		"guestinfo.vice./sessions|0123/cmd/Env~":                         {"A=s3cret|B=s3cret=x|s3cret", "A=REDACTED|B=REDACTED|REDACTED"},
		"guestinfo.vice./init/sessions|vicadmin/cmd/Env~":                {"HTTP_PROXY=s3cret", "HTTP_PROXY=REDACTED"},
		"guestinfo.vice./sessions|0123/cmd/Args~":                        {"/bin/sh|s3cret", "REDACTED"},
		"guestinfo.vice./key":                                            {"s3cret", "REDACTED"},
		"guestinfo.vice./connect/token@secret":                           {"s3cret", "REDACTED"},
		"guestinfo.vice./cert/HostCertificate/Key@secret":                {"s3cret", "REDACTED"},
		"guestinfo.vice./vic_machine_create_options~":                    {"--password|s3cret", "REDACTED"},
		"guestinfo.userdata":                                             {"s3cret", "REDACTED"},
		"annotations|note":                                               {"s3cret", "REDACTED"},
		"annotations|mcm-vch-mark":                                       {mark, mark},
		"annotations|mcm-vch-mark ":                                      {mark, "REDACTED"},
		"guestinfo.vice./registry/insecure_registries|0/Host":            {"reg:5000", "reg:5000"},
		"guestinfo.vice./registry/insecure_registries|0/Path":            {"me:s3cret@reg/x", "REDACTED@reg/x"},
		"guestinfo.vice./registry/insecure_registries|0/RawQuery":        {"token=s3cret", "REDACTED"},
		"guestinfo.vice./registry/insecure_registries~":                  {"a.io|me:s3c@ret@b.io", "a.io|REDACTED@b.io"},
		"guestinfo.vice./sessions|x/version/PluginVersion":               {"s3cret", "REDACTED"},
		"guestinfo.vice./tomorrow":                                       {"s3cret", "REDACTED"},
		"guestinfo.vice./sessions|0123/diagnostics/syslog/RAddr":         {"", ""},
		"guestinfo.vice..sessions|0123.started":                          {"s3cret in the guest's words", "REDACTED"},
		"guestinfo.vice./common/name/../key":                             {"s3cret", "REDACTED"},
		"guestinfo.vice./volumes|x/source/guestinfo.vice./common/name":   {"s3cret", "REDACTED"},
		"guestinfo.vice./storage/VolumeLocations|default/User/cmd/token": {"s3cret", "REDACTED"},
	} {
		if got := visible(key, tc.value); got != tc.want {
			t.Errorf("%s: %q is shown, want %q", key, got, tc.want)
		}
	}
	for _, odd := range []string{"s3cret", mark + "s3cret", strings.Replace(mark, "{", `{"x":"s3cret",`, 1)} {
		if got := visible("annotations|mcm-vch-mark", odd); got != guestinfo.Redacted {
			t.Errorf("of a mark that is none, %q is shown", got)
		}
	}
}

func TestAKeyStandsOnceWithThePluginThatHadTheLastWord(t *testing.T) {
	t.Parallel()
	step := func(version int, name string, change migration.Change) migration.Plugin {
		return migration.Plugin{
			Version: version, Target: migration.Container, Name: name, About: "about " + name, Touches: []string{"*", "*/*"},
			Step: func(map[string]string) (migration.Change, error) { return change, nil },
		}
	}
	set, err := migration.New(
		step(1, "first", migration.Change{Set: map[string]string{"common/name": "x", "common/other": "s3cret"}}),
		step(2, "second", migration.Change{Set: map[string]string{"common/name": "web-0"}, Delete: []string{"old"}}),
		step(3, "idle", migration.Change{}),
	)
	if err != nil {
		t.Fatal(err)
	}
	stored := map[string]string{"old": "s3cret", "common/name": ""}
	o, err := set.Migrate(migration.Container, stored)
	if err != nil {
		t.Fatal(err)
	}
	steps := keySteps(stored, []migration.Outcome{o, {}}, []migration.Difference{{Key: "old"}})
	want := `container 1, first: about first
  + common/other: REDACTED
container 2, second: about second
  ~ common/name: "" -> web-0
  - old
container 3, idle: about idle (nothing to change here)
container: the version of the data
  + guestinfo.vice./version/PluginVersion: 3
`
	if diff := cmp.Diff(want, indented("", stepLines(steps))); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for _, s := range steps {
		for _, c := range s.Changes {
			if c.Waits != (c.Key == "old") {
				t.Errorf("key %s waits: %v", c.Key, c.Waits)
			}
		}
	}
}

func TestADiffIsOneLineForEachKeyWhateverTheData(t *testing.T) {
	t.Parallel()
	old, changed := "a\nb\x1b[31m", "c"
	c := keyChange{Key: "common/na\nme", Old: &old, New: &changed}
	if got, want := c.line(), "~ common/na me: a b [31m -> c"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

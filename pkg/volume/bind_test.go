// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

func TestABindIsReadAsVICReadsIt(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]volume.Bind{
		"/data":                 {Mount: volume.Mount{Path: "/data"}},
		"data":                  {Mount: volume.Mount{Path: "data"}}, // no good path, which is not judged here
		"data:/data":            {Name: "data", Mount: volume.Mount{Path: "/data"}},
		"data:/data:rw":         {Name: "data", Mount: volume.Mount{Path: "/data"}},
		"data:/data:ro":         {Name: "data", Mount: volume.Mount{Path: "/data", ReadOnly: true}},
		"data:/data:nocopy":     {Name: "data", Mount: volume.Mount{Path: "/data", NoCopy: true}},
		"data:/data:nocopy,ro":  {Name: "data", Mount: volume.Mount{Path: "/data", ReadOnly: true, NoCopy: true}},
		"data:/data:rw,nocopy":  {Name: "data", Mount: volume.Mount{Path: "/data", NoCopy: true}},
		"{machine}-log:/v ar/l": {Name: "{machine}-log", Mount: volume.Mount{Path: "/v ar/l"}},
		"../x:../y":             {Name: "../x", Mount: volume.Mount{Path: "../y"}},
	} {
		got, err := volume.ParseBind(s)
		if err != nil {
			t.Errorf("%q: %v", s, err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", s, diff)
		}
	}
}

func TestABindThatNoContainerVMCanHaveIsRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	for s, parts := range map[string][]string{
		"":                      {"empty", "name:/path"},
		":":                     {"name is empty"},
		":/data":                {"name is empty", "nothing but the path"},
		"data:":                 {"path is empty"},
		"data::ro":              {"path is empty"},
		"/host:/data":           {"mounting directories as a data volume is not supported", "/host:/data"},
		"/host:/data:ro":        {"mounting directories as a data volume is not supported"},
		"/data:ro":              {"mounting directories as a data volume is not supported", "nothing but the path"},
		"/a:/b:/c:/d":           {"mounting directories as a data volume is not supported"},
		"data:/data:rw:z":       {"4 fields", "3 at most"},
		"a:b:c:d:e:f":           {"6 fields"},
		"data:/data:":           {"a flag is empty", "allowed are rw, ro and nocopy"},
		"data:/data:rw,":        {"a flag is empty"},
		"data:/data:,ro":        {"a flag is empty"},
		"data:/data:rw,rw":      {`flag "rw" is given twice`},
		"data:/data:ro,rw":      {"rw and ro contradict"},
		"data:/data:rw,ro":      {"rw and ro contradict"},
		"data:/data:RO":         {`flag "RO" is unknown`},
		"data:/data:ro, nocopy": {`flag " nocopy" is unknown`},
		"data:/data:cached":     {`flag "cached" is unknown`},
		"data:/data:ro,z":       {"flag z asks for SELinux labels"},
		"data:/data:Z":          {"flag Z asks for SELinux labels"},
		"data:/data:shared":     {"flag shared asks to propagate mounts", "leave it out"},
		"data:/data:rshared":    {"flag rshared asks"},
		"data:/data:slave":      {"flag slave asks"},
		"data:/data:rslave":     {"flag rslave asks"},
		"data:/data:private":    {"flag private asks"},
		"data:/data:rw,rprivate": {
			"flag rprivate asks", "allowed are rw, ro and nocopy", `"data:/data:rw,rprivate"`,
		},
	} {
		got, err := volume.ParseBind(s)
		wantInvalid(t, s, err, parts...)
		if got != (volume.Bind{}) {
			t.Errorf("%q: the error comes with %+v", s, got)
		}
	}
}

func TestErrorsDoNotRepeatALongInputWithoutEnd(t *testing.T) {
	t.Parallel()
	_, err := volume.ParseBind("data:/data:" + strings.Repeat("x", 10_000))
	if err == nil || len(err.Error()) > 500 {
		t.Errorf("the error is %v", err)
	}
}

func wantInvalid(t *testing.T, input string, err error, parts ...string) {
	t.Helper()
	if !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("%q: %v of kind %q", input, err, errdefs.KindOf(err))
		return
	}
	for _, part := range parts {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q: the error %q does not say %q", input, err, part)
		}
	}
}

// FuzzParseBind holds that what is read can be written again, and means the same.
func FuzzParseBind(f *testing.F) {
	for _, s := range []string{"/data", "data:/data", "data:/data:ro,nocopy", "data:/data:z", "/a:/b", "a:b:c:d", "::", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b, err := volume.ParseBind(s)
		if err != nil {
			wantInvalid(t, s, err)
			return
		}
		again := b.Path
		if b.Name != "" {
			flags := map[[2]bool]string{{false, false}: "rw", {true, false}: "ro", {false, true}: "nocopy", {true, true}: "ro,nocopy"}
			again = b.Name + ":" + b.Path + ":" + flags[[2]bool{b.ReadOnly, b.NoCopy}]
		}
		got, err := volume.ParseBind(again)
		if err != nil || got != b {
			t.Errorf("%q is %+v, and %q is %+v, %v", s, b, again, got, err)
		}
		if b.Path == "" || strings.HasPrefix(b.Name, "/") || strings.Contains(b.Name+b.Path, ":") {
			t.Errorf("%q is %+v", s, b)
		}
	})
}

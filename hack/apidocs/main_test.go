// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestThePageIsUpToDate(t *testing.T) {
	source, err := os.ReadFile("../../pkg/api/v1alpha1/types.go")
	if err != nil {
		t.Fatal(err)
	}
	got, err := render(source)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("../../docs/provider-spec.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/provider-spec.md differs; run hack/update-api-docs.sh (-page +types):\n%s", diff)
	}
}

func TestFieldsBecomeRows(t *testing.T) {
	page, err := render([]byte(`package x

// A is a | thing.
// +marker
type A struct {
	// b is <b>. Default: 2.
	// +optional
	B *int32 ` + "`json:\"b,omitempty\"`" + `
	// c is many.
	C []A ` + "`json:\"c\"`" + `
}

const (
	// SecretX is the x.
	SecretX = "vsphereX"
	// Y is not one.
	Y = "y"
)
`))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"\n## A\n\nA is a | thing.\n\n",
		"| `b` | integer | b is &lt;b&gt;. Default: 2. |\n",
		"| `c` | list of [A](#a) | **Required.** c is many. |\n",
		"| `vsphereX` | the x. |\n",
	} {
		if !strings.Contains(string(page), want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
	if strings.Contains(string(page), "marker") || strings.Contains(string(page), "not one") {
		t.Errorf("the page has what does not belong there:\n%s", page)
	}
}

func TestUndocumentedFieldsAreErrors(t *testing.T) {
	for name, source := range map[string]string{
		"a field without comment":    "// A is.\ntype A struct {\n\tB string `json:\"b\"`\n}",
		"a type without comment":     "type A struct{}",
		"a field without tag":        "// A is.\ntype A struct {\n\t// b is.\n\tB string\n}",
		"a type without name":        "// A is.\ntype A struct {\n\t// b is.\n\tB func() `json:\"b\"`\n}",
		"a constant without comment": "const SecretX = \"x\"",
		"a function":                 "func f() {}",
		"no Go":                      "{",
	} {
		t.Run(name, func(t *testing.T) {
			if page, err := render([]byte("package x\n\n" + source)); err == nil {
				t.Errorf("no error, but\n%s", page)
			}
		})
	}
}

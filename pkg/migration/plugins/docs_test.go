// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package plugins_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The document is read on the way to the next plugin, so what it quotes is compiled and run.
const document = "../../../docs/migration-plugins.md"

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestTheDocumentQuotesItsTemplatesWordForWord(t *testing.T) {
	blocks := regexp.MustCompile("(?s)\n```go\n(.*?\n)```\n").FindAllStringSubmatch(readFile(t, document), -1)
	sources := []string{"template_test.go", "keyvalue_test.go"}
	if len(blocks) != len(sources) {
		t.Fatalf("it has %d blocks of Go, want %d", len(blocks), len(sources))
	}
	for i, file := range sources {
		code := blocks[i][1]
		if !strings.Contains(readFile(t, file), "\n"+code+"\n") {
			t.Errorf("this is not in %s:\n%s", file, code)
		}
		if !strings.HasPrefix(code, "// ") || !strings.Contains(code, "migration.Plugin{") || !strings.HasSuffix(code, "\n}\n") {
			t.Errorf("this is no whole plugin:\n%s", code)
		}
	}
}

func TestTheDocumentListsAllShippedPlugins(t *testing.T) {
	_, section, found := strings.Cut(readFile(t, document), "\n## What is shipped\n")
	if !found {
		t.Fatal("there is no list")
	}
	var got, want []string
	for _, row := range regexp.MustCompile(`(?m)^\| [a-z]+ \| [0-9]+ \| .*$`).FindAllString(section, -1) {
		cells := strings.Split(row, " | ")
		if len(cells) != 5 || strings.TrimSuffix(cells[4], " |") == "" {
			t.Errorf("%q has not five cells", row)
		}
		got = append(got, strings.Join(cells[:min(4, len(cells))], " | "))
	}
	for _, p := range all() {
		want = append(want, fmt.Sprintf("| %s | %d | `%s` | %s", p.Target, p.Version, p.Name, p.About))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-shipped +listed):\n%s", diff)
	}
}

func TestAPluginHasAFileOfItsOwn(t *testing.T) {
	for _, p := range all() {
		text := readFile(t, strings.ReplaceAll(p.Name, "-", "")+".go")
		if n := strings.Count(text, "migration.Plugin{\n"); n != 1 || !strings.Contains(text, fmt.Sprintf("Name: %q", p.Name)) {
			t.Errorf("the file of %s has %d plugins", p.Name, n)
		}
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package arch_test

import (
	"bytes"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// maxLines is how long a file may be that people wrote and that is no test.
const maxLines = 500

const header = `// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0
`

var generated = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// file is a file of the repository.
type file struct {
	// name is relative to the root, with slashes.
	name string
	text []byte
}

func (f file) isGo() bool        { return strings.HasSuffix(f.name, ".go") }
func (f file) isTest() bool      { return strings.HasSuffix(f.name, "_test.go") }
func (f file) isGenerated() bool { return generated.Match(f.text) }

func (f file) imports(t *testing.T) []string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), f.name, f.text, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, spec := range parsed.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, p)
	}
	return paths
}

// root is the root of the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// files reads the repository, without what git ignores and without binary data.
func files(t *testing.T) []file {
	t.Helper()
	var all []file
	tree := os.DirFS(root(t))
	err := fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && slices.Contains([]string{".git", "bin", "dev", ".cache", ".demo"}, name):
			return fs.SkipDir
		case !entry.Type().IsRegular() || strings.HasSuffix(name, ".test") || strings.HasSuffix(name, ".out"):
			return nil
		}
		text, err := fs.ReadFile(tree, name)
		if err == nil && !bytes.ContainsRune(text, 0) {
			all = append(all, file{name, text})
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func goFiles(t *testing.T) []file {
	t.Helper()
	return slices.DeleteFunc(files(t), func(f file) bool { return !f.isGo() })
}

func TestEveryGoFileHasTheLicenseHeader(t *testing.T) {
	for _, f := range goFiles(t) {
		switch {
		case f.isGenerated() && bytes.Contains(f.text, []byte(header)):
		case bytes.HasPrefix(f.text, []byte(header+"\n")):
		default:
			t.Errorf("%s does not begin with the two SPDX lines and an empty one", f.name)
		}
	}
}

func TestScriptsAndManifestsHaveTheLicenseHeader(t *testing.T) {
	want := strings.ReplaceAll(header, "//", "#")
	for _, f := range files(t) {
		ext, base := path.Ext(f.name), path.Base(f.name)
		if ext != ".sh" && !slices.Contains([]string{"Makefile", "Dockerfile", "run"}, base) && !within(f.name, "kubernetes") || ext == ".json" { // which has no comments
			continue
		}
		if !bytes.Contains(f.text, []byte(want)) {
			t.Errorf("%s has no SPDX lines", f.name)
		}
	}
}

// verbosity is a line of the log with a level, and the first word of what it says.
var verbosity = regexp.MustCompile(`\.V\(([^)]*)\)\.Info\("(\w+)`)

// docs/monitoring.md tells operators what each level shows.
func TestLevelsOfTheLogAreThoseOfTheDocs(t *testing.T) {
	seen := 0
	for _, f := range goFiles(t) {
		if f.isTest() || !within(f.name, "pkg") && !within(f.name, "cmd") {
			continue
		}
		for _, line := range verbosity.FindAllStringSubmatch(string(f.text), -1) {
			seen++
			if level := line[1]; !slices.Contains([]string{"1", "2", "4"}, level) || line[2] == "Could" && level != "1" {
				t.Errorf("%s: %s...: 1 is what was odd and is handled, 2 each operation, 4 what happens within", f.name, line[0])
			}
		}
	}
	if seen < 10 {
		t.Errorf("%d lines: this test looks at the wrong ones", seen)
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	documented := map[string]bool{}
	for _, f := range goFiles(t) {
		parsed, err := parser.ParseFile(token.NewFileSet(), f.name, f.text, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		// A test of an otherwise documented package counts for nothing, but a
		// directory may hold nothing but tests.
		dir := path.Dir(f.name)
		documented[dir] = documented[dir] || f.isGenerated() || len(strings.Fields(parsed.Doc.Text())) > 5
	}
	for dir, ok := range documented {
		if !ok {
			t.Errorf("%s has no package comment", dir)
		}
	}
}

func TestFilesAreShort(t *testing.T) {
	for _, f := range goFiles(t) {
		if lines := bytes.Count(f.text, []byte("\n")); lines > maxLines && !f.isTest() && !f.isGenerated() {
			t.Errorf("%s has %d lines, more than %d: what in it is a file of its own?", f.name, lines, maxLines)
		}
	}
}

// What works only where it was written works nowhere else.
func TestNoFileNamesTheComputerItWasWrittenOn(t *testing.T) {
	personal := []*regexp.Regexp{regexp.MustCompile(`(^|[^\w.$}])/(home|Users)/[a-z]\w*/`)}
	checkout := root(t)
	if strings.Count(checkout, "/") > 1 {
		personal = append(personal, regexp.MustCompile(regexp.QuoteMeta(checkout)+`\b`))
	}
	// Neighbours of the checkout, unless the directory is one that every computer has.
	if parent := filepath.Dir(checkout); !slices.Contains([]string{"/", "/app", "/builds", "/code", "/go", "/home", "/mnt", "/opt", "/root", "/src", "/srv", "/tmp", "/usr", "/var", "/workspace"}, parent) {
		personal = append(personal, regexp.MustCompile(regexp.QuoteMeta(parent+"/")))
	}
	for _, f := range files(t) {
		for _, pattern := range personal {
			if at := pattern.FindIndex(f.text); at != nil {
				t.Errorf("%s:%d names a path of one computer: %q", f.name, 1+bytes.Count(f.text[:at[0]], []byte("\n")), f.text[at[0]:at[1]])
			}
		}
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package boot_test

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// initramfs is an initial file system: a cpio archive as Linux reads it.
type initramfs struct{ bytes.Buffer }

const (
	typeDir, typeFile, typeChar = 0o040000, 0o100000, 0o020000
	consoleMajor, consoleMinor  = 5, 1
)

// add adds a file; a device has numbers instead of content.
func (i *initramfs) add(name string, mode uint32, content []byte, major, minor int) {
	fields := []int{0, int(mode), 0, 0, 1, 0, len(content), 0, 0, major, minor, len(name) + 1, 0}
	fields[0] = i.Len() + 1 // inode: any that is unique
	i.WriteString("070701")
	for _, f := range fields {
		fmt.Fprintf(i, "%08x", f)
	}
	i.WriteString(name + "\x00")
	i.pad()
	i.Write(content)
	i.pad()
}

func (i *initramfs) pad() {
	for i.Len()%4 != 0 {
		i.WriteByte(0)
	}
}

func (i *initramfs) end() []byte {
	i.add("TRAILER!!!", 0, nil, 0, 0)
	return i.Bytes()
}

// modules returns the files of a kernel's modules and of those they need, in the
// order in which they are to be loaded.
func modules(t testing.TB, kernel string, names ...string) (files []string) {
	t.Helper()
	all := map[string]string{}
	if err := filepath.WalkDir(filepath.Join(kernel, "lib", "modules"), func(path string, d fs.DirEntry, err error) error {
		if name, ok := strings.CutSuffix(filepath.Base(path), ".ko"); ok && err == nil && !d.IsDir() {
			all[strings.ReplaceAll(name, "-", "_")] = path
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	loaded := map[string]bool{}
	var need func(name string)
	need = func(name string) {
		if loaded[name] || name == "" {
			return
		}
		loaded[name] = true
		file := all[name]
		if file == "" {
			return // it is built in
		}
		for _, other := range strings.Split(dependsOf(t, file), ",") {
			need(other)
		}
		files = append(files, file)
	}
	for _, name := range names {
		need(name)
	}
	return files
}

// dependsOf reads which modules a module needs.
func dependsOf(t testing.TB, file string) string {
	t.Helper()
	f, err := elf.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	section := f.Section(".modinfo")
	if section == nil {
		t.Fatalf("%s has no section .modinfo", file)
	}
	info, err := section.Data()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(string(info), "\x00") {
		if depends, ok := strings.CutPrefix(line, "depends="); ok {
			return strings.ReplaceAll(depends, "-", "_")
		}
	}
	return ""
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/volumetest"
)

// Listed implements volumetest.World. It reads the files as VIC does, and as the
// container VM finds them; nothing of it is the store's.
func (w *world) Listed() ([]volumetest.Entry, error) {
	w.Helper()
	dirs, err := os.ReadDir(w.local("volumes"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.Fatal(err)
	}
	var entries []volumetest.Entry
	var failed []error
	for _, d := range dirs {
		e, err := listed(w.local("volumes", d.Name()))
		if _, gone := os.Stat(w.local("volumes", d.Name())); gone != nil {
			continue // while it was read
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", d.Name(), err))
			continue
		}
		entries = append(entries, e)
	}
	return entries, errors.Join(failed...)
}

// listed reads one volume.
func listed(dir string) (volumetest.Entry, error) {
	e := volumetest.Entry{Name: filepath.Base(dir)}
	// lib/portlayer/storage/volume/vsphere/store.go:172-207, lib/portlayer/storage/vsphere/metadata.go:54-91
	blobs, err := os.ReadDir(filepath.Join(dir, "imageMetadata"))
	if err != nil {
		return e, err
	}
	metadata := map[string][]byte{}
	for _, b := range blobs {
		if !b.Type().IsRegular() {
			continue
		}
		if metadata[b.Name()], err = os.ReadFile(filepath.Join(dir, "imageMetadata", b.Name())); err != nil {
			return e, err
		}
	}
	// lib/apiservers/engine/backends/volume.go:231-236, lib/apiservers/engine/proxy/storage_proxy.go:63-70
	text, ok := metadata["DockerMetaData"]
	if !ok {
		return e, errors.New("metadata DockerMetaData missing")
	}
	var persona struct {
		Driver        string
		DriverOpts    map[string]string
		Name          string
		Labels        map[string]string
		AttachHistory []string
		Image         string
	}
	if err := json.Unmarshal(text, &persona); err != nil {
		return e, err
	}
	e.Metadata = string(text)
	// What a VM needs that has it.
	descriptor, err := os.ReadFile(filepath.Join(dir, e.Name+".vmdk"))
	if err != nil {
		return e, err
	}
	extent := regexp.MustCompile(`(?m)^RW (\d+) VMFS "([^"/]+)"$`).FindStringSubmatch(string(descriptor))
	if extent == nil {
		return e, errors.New("the disk has no extent")
	}
	sectors, err := strconv.ParseInt(extent[1], 10, 64)
	if err != nil {
		return e, err
	}
	e.Capacity = sectors * 512
	e.Label, err = label(filepath.Join(dir, extent[2]), e.Capacity)
	return e, err
}

func label(flat string, capacity int64) (string, error) {
	f, err := os.Open(flat)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	if info.Size() != capacity {
		return "", fmt.Errorf("the extent has %d bytes, the disk %d", info.Size(), capacity)
	}
	disk, err := ext4.Open(f)
	if err != nil {
		return "", err
	}
	return disk.Label, nil
}

// flat opens the raw content of a volume's disk.
func (w *world) flat(name string) *os.File {
	w.Helper()
	f, err := os.OpenFile(w.local("volumes", name, name+"-flat.vmdk"), os.O_RDWR, 0)
	if err != nil {
		w.Fatal(err)
	}
	return f
}

// notes is where tests write on a disk: before the superblock, where nothing is.
const notes = 512

// Write implements volumetest.World.
func (w *world) Write(name, text string) {
	w.Helper()
	f := w.flat(name)
	if _, err := f.WriteAt([]byte(text+strings.Repeat("\x00", notes-len(text))), 0); err != nil {
		w.Fatal(err)
	}
	if err := f.Close(); err != nil {
		w.Fatal(err)
	}
}

// Read implements volumetest.World.
func (w *world) Read(name string) string {
	w.Helper()
	f := w.flat(name)
	defer func() { _ = f.Close() }()
	b := make([]byte, notes)
	if _, err := f.ReadAt(b, 0); err != nil {
		w.Fatal(err)
	}
	return strings.TrimRight(string(b), "\x00")
}

// damages are changes to the directory of a volume that is whole.
func (w *world) damages() map[string]func(dir string) error {
	metadata := filepath.Join("imageMetadata", volume.MetadataKey)
	disk := func(dir string) string { return filepath.Join(dir, filepath.Base(dir)+".vmdk") }
	empty := func(dir string) error { return errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)) }
	return map[string]func(dir string) error{
		"nothing in it": empty,
		"a file in its place": func(dir string) error {
			return errors.Join(os.RemoveAll(dir), os.WriteFile(dir, []byte("x"), 0o600))
		},
		"no metadata directory": func(dir string) error { return os.RemoveAll(filepath.Join(dir, "imageMetadata")) },
		"a file for the directory": func(dir string) error {
			return errors.Join(os.RemoveAll(filepath.Join(dir, "imageMetadata")), os.WriteFile(filepath.Join(dir, "imageMetadata"), nil, 0o600))
		},
		"no metadata":              func(dir string) error { return os.Remove(filepath.Join(dir, metadata)) },
		"metadata of another form": func(dir string) error { return os.WriteFile(filepath.Join(dir, metadata), []byte("[1]"), 0o600) },
		"half its metadata": func(dir string) error {
			return os.WriteFile(filepath.Join(dir, metadata), []byte(`{"Driver":"vsp`), 0o600)
		},
		"no descriptor":               func(dir string) error { return os.Remove(disk(dir)) },
		"an empty descriptor":         func(dir string) error { return os.WriteFile(disk(dir), nil, 0o600) },
		"something for a descriptor":  func(dir string) error { return os.WriteFile(disk(dir), []byte("something\n"), 0o600) },
		"a descriptor without an end": func(dir string) error { return os.WriteFile(disk(dir), make([]byte, 1<<20), 0o600) },
	}
}

// Damages implements volumetest.World.
func (w *world) Damages() []string {
	var all []string
	for how := range w.damages() {
		all = append(all, how)
	}
	return all
}

// Damage implements volumetest.World.
func (w *world) Damage(name, how string) {
	w.Helper()
	_, err := w.store().Create(w.Context(), volume.Request{Name: name, Capacity: volume.MinCapacity})
	if err == nil {
		err = w.damages()[how](w.local("volumes", name))
	}
	if err != nil {
		w.Fatal(err)
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/locations"
)

// Volumes of a world are looked at as files, past all stores. What a guest writes
// stands in the first bytes of a disk, which ext4 leaves alone.

// storeDirs are the directories of the VCH's VMDK stores, below the world's datastores.
func (w *World) storeDirs() []string {
	w.Helper()
	var dirs []string
	for _, location := range w.Host.VolumeStores {
		if location.Scheme != "ds" {
			continue
		}
		p, err := vch.VolumeStorePath(location)
		if err != nil {
			w.Fatal(err)
		}
		dirs = append(dirs, path.Join(p.Datastore, p.Path))
	}
	slices.Sort(dirs)
	return dirs
}

func (w *World) local(p string) string {
	return filepath.Join(w.Sim.Dir(), "datastores", filepath.FromSlash(p))
}

// volumeDirs are the directories of all volumes by name, those excepted that were
// there at the world's beginning.
func (w *World) volumeDirs() map[string]string {
	w.Helper()
	out := map[string]string{}
	for _, store := range w.storeDirs() {
		dir := store + "/volumes"
		entries, err := os.ReadDir(w.local(dir))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			w.Fatal(err)
		}
		for _, e := range entries {
			if p := dir + "/" + e.Name(); !w.files[p] {
				out[e.Name()] = p
			}
		}
	}
	return out
}

// flat is the content of a volume's disk.
func (w *World) flat(name string) string {
	w.Helper()
	dir, ok := w.volumeDirs()[name]
	if !ok {
		w.Fatalf("there is no volume %s", name)
	}
	return w.local(dir + "/" + name + "-flat.vmdk")
}

// Volumes reads all volumes of the VCH's VMDK stores.
func (w *World) Volumes() map[string]spitest.Volume {
	w.Helper()
	holders := w.holders()
	out := map[string]spitest.Volume{}
	for name, dir := range w.volumeDirs() {
		metadata, err := os.ReadFile(w.local(dir + "/imageMetadata/" + volume.MetadataKey))
		if err != nil {
			w.Fatal(err)
		}
		var m volume.Metadata
		if err := json.Unmarshal(metadata, &m); err != nil {
			w.Fatalf("metadata of volume %s: %v", name, err)
		}
		delete(m.Labels, volume.LabelCreated)
		if len(m.Labels) == 0 {
			m.Labels = nil
		}
		out[name] = spitest.Volume{Labels: m.Labels, Content: w.readVolume(name), Holders: holders[dir+"/"+name+".vmdk"]}
	}
	return out
}

// holders are who has which disk, by its file.
func (w *World) holders() map[string][]string {
	w.Helper()
	out := map[string][]string{}
	for ref, vm := range w.read("config") {
		if vm.Config == nil {
			continue
		}
		holder := "?"
		if m, ok := markOf(vm); ok && !w.foreign[ref] {
			holder = m.Machine
		}
		for _, d := range vm.Config.Hardware.Device {
			if b, ok := d.GetVirtualDevice().Backing.(types.BaseVirtualDeviceFileBackingInfo); ok {
				ds, p, _ := strings.Cut(strings.TrimPrefix(b.GetVirtualDeviceFileBackingInfo().FileName, "["), "] ")
				out[ds+"/"+p] = append(out[ds+"/"+p], holder)
			}
		}
	}
	for _, names := range out {
		slices.Sort(names)
	}
	return out
}

func (w *World) readVolume(name string) string {
	w.Helper()
	f, err := os.Open(w.flat(name))
	if err != nil {
		w.Fatal(err)
	}
	content, err := io.ReadAll(io.LimitReader(f, spitest.MaxContent))
	if err := errors.Join(err, f.Close()); err != nil {
		w.Fatal(err)
	}
	return string(bytes.TrimRight(content, "\x00"))
}

// WriteVolume puts content on a volume that is there.
func (w *World) WriteVolume(name, content string) {
	w.Helper()
	if len(content) > spitest.MaxContent {
		w.Fatalf("%d bytes are too many", len(content))
	}
	f, err := os.OpenFile(w.flat(name), os.O_WRONLY, 0)
	if err != nil {
		w.Fatal(err)
	}
	_, err = f.WriteAt([]byte(content), 0)
	if err := errors.Join(err, f.Close()); err != nil {
		w.Fatal(err)
	}
}

// PlantVolume makes a volume of the smallest size in the default store, with a
// session of its own.
func (w *World) PlantVolume(name string, v spitest.Volume) {
	w.Helper()
	client, err := w.Pool().Client(w.Context(), w.config())
	if err != nil {
		w.Fatal(err)
	}
	_, err = locations.Open(locations.Options{Client: client, Host: w.Host}).Create(w.Context(), "", volume.Request{
		Name: name, Capacity: volume.MinCapacity, Metadata: volume.Metadata{Labels: v.Labels},
	})
	if err != nil {
		w.Fatal(err)
	}
	w.WriteVolume(name, v.Content)
}

// ofVolumes reports whether a file is part of a volume, or is what a volume store works
// with. What an operation that was cut off left there is the store's own to find, so
// it counts only in worlds in which nothing was.
func (w *World) ofVolumes(file string) bool {
	for _, dir := range w.volumeDirs() {
		if file == dir || strings.HasPrefix(file, dir+"/") {
			return true
		}
	}
	for _, store := range w.storeDirs() {
		work := store + "/mcm-volumes"
		if slices.Contains([]string{work, work + "/new", work + "/removed"}, file) || w.steps.everStruck() && strings.HasPrefix(file, work+"/") {
			return true
		}
	}
	return false
}

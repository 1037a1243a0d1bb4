// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/md5" // VIC's labels are MD5
	"encoding/hex"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vmdk"
)

// Layout, label and metadata of volumes are spelled out here, not taken from
// pkg/volume: this is what VIC leaves behind, against which that is tested.

const (
	// volumeData is the directory on a volume that is mounted instead of its root,
	// which has lost+found (VIC, pkg/vsphere/disk/disk.go:47-48).
	volumeData = ".vic.vol.data"
	// volumeSize is that of the volume that a world is made with, in bytes.
	volumeSize = 16 << 20
)

// volumeStore is a store of volumes on a datastore.
type volumeStore struct {
	label string
	// datastore and dir are where it is, as vSphere shows the directory.
	datastore, dir string
}

func (v volumeStore) root() string { return dsPathOn(v.datastore, v.dir) }

// makeVolumeStores makes the VMDK stores of a VCH: one on each datastore, the first
// with a volume. On vSAN VIC keeps the one by the directory's id, as one that it made,
// and the other by its name, as one that was there (pkg/vsphere/datastore/datastore.go:339-366).
func (s *Sim) makeVolumeStores(v *vch) error {
	v.stores = []volumeStore{
		{label: DefaultStore, datastore: Datastore, dir: v.name + "-volumes"},
		{label: FastStore, datastore: SecondDatastore, dir: "vic/" + v.name},
	}
	for _, store := range v.stores {
		// VIC makes it with the store (lib/portlayer/storage/volume/vsphere/store.go:57-60).
		dir := s.localPath(dsPathOn(store.datastore, store.dir, "volumes"))
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("make volume store %s: %w", store.label, err)
		}
	}
	first := &v.stores[0]
	shown := s.shownPath(s.localPath(first.root()))
	first.dir = shown[len(dsPathOn(Datastore))+1:]
	return s.makeVolume(first.root(), Volume)
}

// makeVolume makes a volume as VIC does at docker volume create (lib/portlayer/storage/volume/vsphere/store.go:105-154).
func (s *Sim) makeVolume(root, name string) error {
	dir := root + "/volumes/" + name
	// As the persona writes it for a volume that no container was made for
	// (lib/apiservers/engine/proxy/storage_proxy.go:469-480).
	metadata := `{"Driver":"vsphere","DriverOpts":{},"Name":"` + name + `","Labels":null,"AttachHistory":[""],"Image":""}`
	if _, err := s.putFile(dir+"/imageMetadata/DockerMetaData", metadata); err != nil {
		return err
	}
	sum := md5.Sum([]byte(name))
	id := uuid.NewSHA1(uuid.NameSpaceURL, []byte(root+name))
	local := s.localPath(dir + "/" + name + ".vmdk")
	flat := filepath.Join(filepath.Dir(local), name+"-flat.vmdk")
	if err := makeVolumeDisk(flat, hex.EncodeToString(sum[:])[:16], id); err != nil {
		return fmt.Errorf("make volume %s: %w", name, err)
	}
	descriptor, err := vmdk.Descriptor(vmdk.Flat{Capacity: volumeSize, Extent: filepath.Base(flat), Identity: vmdk.Identity(id), Thin: true})
	if err != nil {
		return fmt.Errorf("make volume %s: %w", name, err)
	}
	_, err = s.putFile(dir+"/"+name+".vmdk", string(descriptor))
	return err
}

func makeVolumeDisk(file, label string, id uuid.UUID) (err error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	now := time.Now()
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: volumeData + "/", Mode: 0o755, ModTime: now}); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	if _, err := ext4.Write(context.Background(), &archive, f, ext4.Options{Size: volumeSize, Label: label, UUID: id, Time: now}); err != nil {
		return err
	}
	return f.Truncate(volumeSize)
}

// volumeLocations are the stores as VIC's installer writes them down: the whole
// datastore path stands in Path (lib/install/management/store_files.go:291-318).
func (s *Sim) volumeLocations(v vch) map[string]*url.URL {
	locations := map[string]*url.URL{}
	for _, store := range v.stores {
		if store.label != DefaultStore || !s.options.NoDefaultStore {
			locations[store.label] = &url.URL{Scheme: "ds", Host: store.datastore, Path: store.root()}
		}
	}
	if s.options.NFS != "" && v.name == s.VCHName {
		if u, err := url.Parse(s.options.NFS); err == nil { // Start has looked
			locations[NFSStore] = u
		}
	}
	return locations
}

// VolumeStore returns the datastore path of the root of the VCH's VMDK store with
// a label, as the VCH's configuration has it; "" if there is none.
func (s *Sim) VolumeStore(label string) string {
	u := s.volumeLocations(s.vch)[label]
	if u == nil || u.Scheme != "ds" {
		return ""
	}
	return u.Path
}

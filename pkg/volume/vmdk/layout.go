// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk

import (
	"crypto/rand"
	"encoding/hex"
	"path"
	"regexp"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// Names below the store's directory. No name of a volume begins with an underscore.
const (
	volumesDirectory  = "volumes"
	metadataDirectory = "imageMetadata"
	diskSuffix        = ".vmdk"
	flatSuffix        = "-flat" + diskSuffix

	ownDirectory = "mcm-volumes"
	ownerFile    = "_owner.json"
)

// phase is the directory of what is not finished.
type phase string

const (
	making   phase = "new"
	removing phase = "removed"
)

// layout is where things are, on the datastore.
type layout struct{ root string }

func (l layout) volumes() string           { return path.Join(l.root, volumesDirectory) }
func (l layout) volume(name string) string { return path.Join(l.volumes(), name) }
func (l layout) own() string               { return path.Join(l.root, ownDirectory) }

// entry is the directory of one operation on a volume.
func (l layout) entry(e entry) string {
	return path.Join(l.own(), string(e.phase), e.name+"."+e.id)
}

// held is the volume's directory while the operation has it.
func (l layout) held(e entry) string { return path.Join(l.entry(e), e.name) }

// diskIn is the disk of a volume in its directory, wherever that is.
func diskIn(dir, name string) string { return path.Join(dir, name+diskSuffix) }

// metadataIn is the file with the metadata in the directory of a volume.
func metadataIn(dir string) string { return path.Join(dir, metadataDirectory, volume.MetadataKey) }

// entry is one operation on a volume.
type entry struct {
	phase phase
	name  string
	// id tells it from all others.
	id string
}

func newEntry(p phase, name string) entry {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return entry{phase: p, name: name, id: hex.EncodeToString(b)}
}

var idPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// parseEntry reads the name of an entry's directory; false for everything else.
func parseEntry(p phase, directory string) (entry, bool) {
	dot := strings.LastIndexByte(directory, '.')
	if dot < 0 {
		return entry{}, false
	}
	e := entry{phase: p, name: directory[:dot], id: directory[dot+1:]}
	return e, idPattern.MatchString(e.id) && volume.ValidateName(e.name) == nil
}

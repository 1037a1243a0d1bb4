// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"regexp"
	"strconv"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// Names below the store's directory.
const (
	storeDirectory = "mcm-images"
	disksDirectory = "disks"
	namesDirectory = "names"
	locksDirectory = "locks"
	recordSuffix   = ".json"

	diskFile  = "disk.vmdk"
	flatFile  = "disk-flat.vmdk"
	ownerFile = "owner.json"
	// pendingFile is the record of a disk that is not published yet; see withdrawnFile
	// for that of a whole one that is not any more. A directory with doomedFile, or with
	// none of them, has nothing that may be published.
	pendingFile = "pending.json"
	doomedFile  = "doomed.json"

	// maxGeneration keeps the numbers of locks far from overflow.
	maxGeneration = 1_000_000_000
	digestPrefix  = "sha256:"
)

// withdrawnFile is the record of a whole disk that a removal has withdrawn. It has the
// removal's digits: one that slept until the disk was published again, and withdrawn by another
// removal, must not take that one's record for its own.
func withdrawnFile(id string) string { return "withdrawn." + id + recordSuffix }

// isWithdrawn reports whether a file is such a record.
func isWithdrawn(file string) bool {
	id, begins := strings.CutPrefix(file, "withdrawn.")
	id, ends := strings.CutSuffix(id, recordSuffix)
	return begins && ends && uploadPattern.MatchString(id)
}

// layout is where things are, on the datastore.
type layout struct{ root string }

func (l layout) disks() string { return path.Join(l.root, disksDirectory) }
func (l layout) names() string { return path.Join(l.root, namesDirectory) }
func (l layout) locks() string { return path.Join(l.root, locksDirectory) }

// record publishes a disk.
func (l layout) record(key image.Key) string { return path.Join(l.disks(), base(key)+recordSuffix) }

// upload is the directory of one attempt to make a disk.
func (l layout) upload(key image.Key, id string) string {
	return path.Join(l.disks(), base(key)+"."+id)
}

// name is the record that a name leads to.
func (l layout) name(name string, size int64) string {
	return path.Join(l.names(), nameFile(name, size))
}

// lock is the directory that is one generation of a disk's lock.
func (l layout) lock(key image.Key, generation int) string {
	return path.Join(l.locks(), base(key)+"."+strconv.Itoa(generation))
}

// base begins the names of all that belongs to a disk.
func base(key image.Key) string {
	return strings.TrimPrefix(key.Digest, digestPrefix) + "-" + strconv.FormatInt(key.Size/image.SizeUnit, 10)
}

func nameFile(name string, size int64) string {
	sum := sha256.Sum256([]byte(name))
	return fmt.Sprintf("%s-%d%s", hex.EncodeToString(sum[:]), size/image.SizeUnit, recordSuffix)
}

// parseBase is the opposite of base; false for everything that base does not make.
func parseBase(s string) (image.Key, bool) {
	digest, mebibytes, _ := strings.Cut(s, "-")
	n, err := strconv.ParseInt(mebibytes, 10, 64)
	if err != nil || n > image.MaxSize/image.SizeUnit {
		return image.Key{}, false
	}
	key := image.Key{Digest: digestPrefix + digest, Size: n * image.SizeUnit}
	return key, key.Validate() == nil && base(key) == s
}

// parseRecord tells the key of a record by the name of its file.
func parseRecord(file string) (image.Key, bool) {
	s, ok := strings.CutSuffix(file, recordSuffix)
	if !ok {
		return image.Key{}, false
	}
	return parseBase(s)
}

var uploadPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// newID returns what tells an attempt, or a holder of a lock, from all others.
func newID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return hex.EncodeToString(b)
}

// parseUpload tells key and id by the name of a directory.
func parseUpload(directory string) (key image.Key, id string, ok bool) {
	s, id, _ := strings.Cut(directory, ".")
	key, ok = parseBase(s)
	return key, id, ok && uploadPattern.MatchString(id)
}

// parseLock tells key and generation by the name of a directory.
func parseLock(directory string) (key image.Key, generation int, ok bool) {
	s, number, _ := strings.Cut(directory, ".")
	key, ok = parseBase(s)
	generation, err := strconv.Atoi(number)
	return key, generation, ok && err == nil && generation > 0 && generation <= maxGeneration && strconv.Itoa(generation) == number
}

// isName reports whether a file is named as one of a name.
func isName(file string) bool {
	_, ok := parseRecord(file) // has the same form
	return ok
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"crypto/md5" //nolint:gosec // VIC's labels are MD5
	"encoding/hex"
	"regexp"

	"github.com/google/uuid"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// MaxName is the length that a name may have. A file of a disk is called after its
// volume, and datastores allow 255 bytes for that.
const MaxName = 200

// namePattern is VIC's (lib/apiservers/engine/proxy/storage_proxy.go:98-99).
var namePattern = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`)

// ValidateName reports what is wrong with the name of a volume, as InvalidArgument.
func ValidateName(name string) error {
	switch {
	case len(name) > MaxName:
		return errdefs.New(errdefs.InvalidArgument, "volume name %.40q… has %d characters, at most %d are allowed", name, len(name), MaxName)
	case !namePattern.MatchString(name):
		return errdefs.New(errdefs.InvalidArgument, "volume name %q: it must begin with a letter or digit and have only letters, digits, and _ . -", name)
	}
	return nil
}

// Label returns the label of the file system on a volume's disk, by which the guest
// finds it: the first 16 digits of the name's MD5 sum, all that ext4 has room for
// (VIC, lib/portlayer/storage/volume/volume.go:110-117).
func Label(name string) string {
	sum := md5.Sum([]byte(name)) //nolint:gosec // see the import
	return hex.EncodeToString(sum[:])[:16]
}

// AnonymousName returns the name of the anonymous volume that the machine with a
// BIOS UUID has at a path. The same machine and path always have the same, so that
// a repeated creation meets it and a removal can prove whose it is.
func AnonymousName(biosUUID, path string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte("mcm-vch-volume:"+biosUUID+":"+path)).String()
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// Validity is how long an answer of a Store may be used to begin something with.
	Validity = 30 * time.Second
	// MinSize is that of the smallest disk, in bytes: an empty file system has a
	// journal of 16 MiB.
	MinSize = int64(64 << 20)
	// MaxSize is that of the largest disk.
	MaxSize = int64(2 << 40)
	// SizeUnit is what sizes are multiples of.
	SizeUnit = int64(1 << 20)
)

// Key identifies an image disk by what is on it and how large it is.
type Key struct {
	// Digest is that of the image's manifest: "sha256:" and 64 lower-case hexadecimal digits.
	Digest string `json:"digest"`
	// Size is the size of the disk in bytes, a multiple of SizeUnit.
	Size int64 `json:"size"`
}

var digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// Validate reports what is wrong with the key, as InvalidArgument.
func (k Key) Validate() error {
	if !digestPattern.MatchString(k.Digest) {
		return errdefs.New(errdefs.InvalidArgument, "image digest %.100q is not sha256: and 64 lower-case hexadecimal digits", k.Digest)
	}
	return ValidateSize(k.Size)
}

// ValidateSize reports what is wrong with the size of a disk, as InvalidArgument.
func ValidateSize(size int64) error {
	if size < MinSize || size > MaxSize || size%SizeUnit != 0 {
		return errdefs.New(errdefs.InvalidArgument, "size of an image disk is %d bytes: it must be of whole MiB, between 64Mi and 2Ti", size)
	}
	return nil
}

// String returns the key for people, such as sha256:0123456789ab of 8192 MiB.
func (k Key) String() string {
	digest := k.Digest
	if len(digest) > len("sha256:")+12 {
		digest = digest[:len("sha256:")+12]
	}
	return fmt.Sprintf("%s of %d MiB", digest, k.Size>>20)
}

// Config is how a container of an image starts, unless it is told otherwise.
type Config struct {
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	Env        []string `json:"env,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	User       string   `json:"user,omitempty"`
	StopSignal string   `json:"stopSignal,omitempty"`
	// Volumes are the paths that the image expects to be volumes, sorted.
	Volumes []string `json:"volumes,omitempty"`
}

// Description says what is on a disk.
type Description struct {
	// ConfigDigest is that of the image's configuration, which engines call the image's ID.
	ConfigDigest string `json:"configDigest"`
	// Config is how a container of the image starts.
	Config Config `json:"config"`
	// UsedBytes is the length of the part of the disk that has content; the rest is zero.
	UsedBytes int64 `json:"usedBytes"`
}

// Disk is an image disk that is published.
type Disk struct {
	Key
	Description
	// Path is where it is: a datastore path, such as [ds1] vch-1/…/disk.vmdk.
	Path string `json:"path"`
	// Names are the references that lead to it, in their full form, sorted. Only
	// List and Find know all of them; Lookup knows the one that it was asked for.
	Names []string `json:"names"`
	// Created is when it was published.
	Created time.Time `json:"created"`
}

// User is a VM whose disk chain has, or may have, an image disk.
type User struct {
	// Name is the VM's name, VM its managed object reference, such as vm-42.
	Name string `json:"name"`
	VM   string `json:"vm"`
	// Unproven says that vCenter cannot tell what disks the VM has, as with a VM
	// that is inaccessible; so it counts.
	Unproven bool `json:"unproven,omitempty"`
}

// Leftover is what an operation that was cut off left.
type Leftover struct {
	// Path is a directory or file (datastore path), or the name of a VM.
	Path string `json:"path"`
	// Reason says what it is, such as "upload that was cut off".
	Reason string `json:"reason"`
	// ID is what the store knows it by.
	ID string `json:"id"`
}

// Stage is a step in the making of an image disk.
type Stage string

// The stages, in the order in which they come.
const (
	Resolving   Stage = "resolving"   // what the reference means is being asked
	Queued      Stage = "queued"      // other images are being made in this process
	Waiting     Stage = "waiting"     // another process is making the disk
	Downloading Stage = "downloading" // layers are being downloaded
	Unpacking   Stage = "unpacking"   // layers are being decompressed and verified
	Converting  Stage = "converting"  // the file system is being written
	Compressing Stage = "compressing" // it is being packed for an import
	Uploading   Stage = "uploading"   // it is being sent to the datastore
	Publishing  Stage = "publishing"  // it is being checked and shown
)

// Stages returns all of them, in the order in which they come.
func Stages() []Stage {
	return []Stage{Resolving, Queued, Waiting, Downloading, Unpacking, Converting, Compressing, Uploading, Publishing}
}

// Progress is how far the making of an image disk is.
type Progress struct {
	Stage Stage `json:"stage"`
	// Done of Total bytes of this stage are done; Total is 0 when that has no meaning.
	Done  int64 `json:"done"`
	Total int64 `json:"total"`
	// Owner is the process that does it when it is not this one.
	Owner string `json:"owner,omitempty"`
}

// String is the progress for people, such as "converting, 62 %".
func (p Progress) String() string {
	s := string(p.Stage)
	if p.Total > 0 {
		s += fmt.Sprintf(", %d %%", min(100, max(0, p.Done)*100/p.Total))
	}
	if p.Owner != "" {
		s += " (by " + p.Owner + ")"
	}
	return s
}

// Report is told of progress. Calls do not overlap and must return soon; nil is allowed.
type Report func(Progress)

// Source makes the content of an image disk. It leaves nothing behind when it
// fails or ctx ends. Its errors keep their kind through Store.Ensure, and those of
// its Content too; none is ResourceExhausted, which would say that the datastore is full.
type Source func(ctx context.Context, key Key, report Report) (Content, error)

// Content is a new disk in temporary files. It is used by one goroutine; Close
// removes the files, and nothing that it returned may be used after that.
type Content interface {
	// Description says what is on it.
	Description() Description
	// Raw is the part of the raw disk that has content, and how long that is; the
	// rest of the disk is zero.
	Raw() (r io.ReaderAt, size int64)
	// StreamOptimized is the whole disk as a streamOptimized VMDK. The first call makes it.
	StreamOptimized(ctx context.Context, report Report) (r io.ReaderAt, size int64, err error)
	// Identity tells the content from any other's; the same image and size have the same.
	Identity() [16]byte
	Close() error
}

// Store keeps image disks. See the package comment for what holds for all methods.
type Store interface { //nolint:interfacebloat // a smaller one would be half a store
	// String names the store, for people and as a key: two stores of one process
	// have the same only if they are the same place.
	String() string

	// Lookup returns the disk that name leads to, in that size, in one round trip.
	// NotFound if there is none.
	Lookup(ctx context.Context, name string, size int64) (*Disk, error)

	// Find returns the disk of key, NotFound if it is not published.
	Find(ctx context.Context, key Key) (*Disk, error)

	// Verify is Find for someone who could not use the disk: it looks whether its
	// files are still there. If they are not, somebody deleted them: the disk is
	// withdrawn and the answer NotFound, so that Ensure makes it anew.
	Verify(ctx context.Context, key Key) (*Disk, error)

	// Ensure returns the disk of key, made with source if it is not there, and makes
	// name lead to it (empty: no name). However many ask at once, in however many
	// processes, source is called once, unless a maker dies or fails; then the next
	// one takes over. ctx bounds it; what it made itself is taken away when it fails,
	// unless it is published by then. No room on the datastore is ResourceExhausted.
	// report is told of the disk's way in the order of the stages; only what another
	// process does, with its Owner, may begin again.
	Ensure(ctx context.Context, key Key, name string, source Source, report Report) (*Disk, error)

	// List returns all disks, sorted by their first name, then by digest and size.
	List(ctx context.Context) ([]Disk, error)

	// Users returns the VMs, of whomever, whose disk chains have one of the disks, or
	// may have, by key; all in one look at vCenter. A disk that is not published may
	// be asked for.
	Users(ctx context.Context, keys ...Key) (map[Key][]User, error)

	// Remove withdraws the disks, waits until nobody can be about to use them (some
	// minutes), and deletes those that no VM has: it returns their keys. The others
	// are published again, and the error is FailedPrecondition and names the VMs; a
	// disk with users from the beginning is not withdrawn at all. A key that is not
	// published is NotFound. All keys are tried whatever becomes of the first ones: the
	// error has the texts of all that failed, and is FailedPrecondition if there are
	// users. A removal whose ctx ends is taken back.
	Remove(ctx context.Context, keys ...Key) (removed []Key, err error)

	// Leftovers returns what operations left that were cut off, sorted by Path.
	// What belongs to an operation that is under way, here or elsewhere, is not in it.
	Leftovers(ctx context.Context) ([]Leftover, error)

	// Clean deletes leftovers that Leftovers returned, after the same wait and the
	// same look at vCenter as Remove: what a VM has stays, as FailedPrecondition that
	// names it. What is no leftover any more, or never was one, is passed over.
	Clean(ctx context.Context, leftovers ...Leftover) error
}

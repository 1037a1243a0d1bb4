// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package kvstore

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
)

// What stores do unless they are told otherwise.
const (
	DefaultLimit = 2 * time.Minute
	DefaultGrace = time.Hour
)

const (
	// graceLimits is how many Limits a Grace is at least.
	graceLimits = 10
	// sizeLimit is more than any store should have: all of it is read and written at once.
	sizeLimit = 64 << 20
	// readAttempts is how often something is read that changes meanwhile.
	readAttempts = 3
)

// Files are what a store needs of the datastore; see datastore.Files.
type Files interface {
	Path(p string) string
	List(ctx context.Context, dir, pattern string) ([]datastore.Entry, error)
	Read(ctx context.Context, p string, limit int64) ([]byte, error)
	Write(ctx context.Context, p string, r io.ReaderAt, size int64, progress func(done int64)) error
	Move(ctx context.Context, from, to string) error
	Delete(ctx context.Context, p string) error
	MakeDirectory(ctx context.Context, dir string, parents bool) error
}

// Options say which store. Files, Directory and Name are required.
type Options struct {
	// Files are those of the datastore.
	Files Files
	// Directory is where the store is, relative to the datastore. A write makes it.
	Directory string
	// Name is of letters, digits, dots and underscores, and does not end like .v4.
	Name string
	// ReadOnly is for stores of a VCH, which its port layer has in memory and overwrites.
	// They have no generations, and nothing is ever changed or deleted.
	ReadOnly bool
	// Migrations say which versions the program knows: it updates data of the latest
	// one only. Default: none, so that data has version 0.
	Migrations *migration.Set
	// Limit is how long one call may take. Default: DefaultLimit.
	Limit time.Duration
	// Grace is how much older than what is being written something must be to be
	// deleted; at least ten Limits. Default: DefaultGrace.
	Grace time.Duration
	// Random is where digits come from. Default: the system's source.
	Random io.Reader
}

// Store is a key/value store. It keeps nothing of it, and is safe for concurrent
// use: its own updates wait for one another.
type Store struct {
	o    Options
	turn chan struct{}
}

// Open returns a store, which need not exist. Nothing is sent. InvalidArgument for
// options that cannot be.
func Open(o Options) (*Store, error) {
	bad := func(format string, args ...any) (*Store, error) {
		return nil, errdefs.New(errdefs.InvalidArgument, "open key/value store %q: %s", o.Name, fmt.Sprintf(format, args...))
	}
	o.Limit, o.Grace = cmp.Or(o.Limit, DefaultLimit), cmp.Or(o.Grace, DefaultGrace)
	if o.Random == nil {
		o.Random = rand.Reader
	}
	if o.Migrations == nil {
		o.Migrations = &migration.Set{}
	}
	switch {
	case o.Files == nil || o.Directory == "":
		return bad("it needs files and a directory")
	case !namePattern.MatchString(o.Name):
		return bad("the name must be of letters, digits, dots and underscores")
	case versionPattern.MatchString(o.Name):
		return bad("the name ends like the file of a version; leave out %s, and the newest version counts", versionPattern.FindString(o.Name))
	case o.Limit < 0 || o.Grace < graceLimits*o.Limit:
		return bad("the grace is %s, and must be at least %d times the limit, which is %s and must be positive", o.Grace, graceLimits, o.Limit)
	}
	return &Store{o: o, turn: make(chan struct{}, 1)}, nil
}

// Names returns the names of the stores in a directory, sorted, in one listing. None
// if there is no directory.
func Names(ctx context.Context, files Files, directory string) ([]string, error) {
	entries, err := files.List(ctx, directory, "*"+suffix+"*")
	if errdefs.Is(err, errdefs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, errdefs.Wrap(errdefs.KindOf(err), err, "list key/value stores")
	}
	var names []string
	for _, e := range entries {
		if f, ok := parse(e); ok && !f.pending && !versionPattern.MatchString(f.store) && !slices.Contains(names, f.store) {
			names = append(names, f.store)
		}
	}
	slices.Sort(names)
	return names, nil
}

// String says which store it is, for people.
func (s *Store) String() string { return s.o.Files.Path(path.Join(s.o.Directory, s.o.Name)) }

// known is the version that the program writes.
func (s *Store) known() int { return s.o.Migrations.Latest(migration.KeyValue) }

// Snapshot is a store at one moment.
type Snapshot struct {
	// Values are those of the store; the caller's.
	Values map[string][]byte
	// Exists is false if there is no store, which is empty then.
	Exists bool
	// Version is that of the data, Generation counts its changes; both 0 in a store of VIC's.
	Version, Generation int
	// File is the datastore path that was read, Size its size in bytes.
	File string
	Size int64
}

// Read reads the newest version, as it is stored: one listing, and one request for the
// file. A store that is not there is empty. A file that is damaged is FailedPrecondition and
// named; an older one is never taken in its place.
func (s *Store) Read(ctx context.Context) (*Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Limit)
	defer cancel()
	snap, _, err := s.read(ctx)
	if err != nil {
		return nil, s.fail(err, "read")
	}
	return snap, nil
}

// Get reads the value of a key. NotFound if there is none.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	snap, err := s.Read(ctx)
	if err != nil {
		return nil, err
	}
	value, there := snap.Values[key]
	if !there {
		return nil, errdefs.New(errdefs.NotFound, "key/value store %s has no key %q", s, key)
	}
	return value, nil
}

// List reads the values of the keys that match; none is no error. nil is all.
func (s *Store) List(ctx context.Context, keys *regexp.Regexp) (map[string][]byte, error) {
	snap, err := s.Read(ctx)
	if err != nil {
		return nil, err
	}
	for key := range snap.Values {
		if keys != nil && !keys.MatchString(key) {
			delete(snap.Values, key)
		}
	}
	return snap.Values, nil
}

// read reads the newest generation. What is listed may be gone when it is asked for: superseded
// long ago and deleted, or, in a store of a VCH, about to be replaced.
func (s *Store) read(ctx context.Context) (*Snapshot, contents, error) {
	for attempt := 1; ; attempt++ {
		seen, err := s.look(ctx)
		if err != nil {
			return nil, contents{}, err
		}
		newest, exists := seen.newest()
		if !exists {
			return &Snapshot{Values: map[string][]byte{}, Version: s.known()}, seen, nil
		}
		file := s.path(newest.file(s.o.Name))
		data, err := s.o.Files.Read(ctx, file, sizeLimit)
		if changed := errdefs.Is(err, errdefs.NotFound) || errors.Is(err, io.ErrUnexpectedEOF); changed && attempt < readAttempts {
			continue
		}
		if err != nil {
			return nil, contents{}, err
		}
		values, err := Decode(data)
		if err != nil {
			return nil, contents{}, s.damaged(file, err)
		}
		return &Snapshot{
			Values: values, Exists: true, Version: newest.version, Generation: newest.generation,
			File: s.o.Files.Path(file), Size: int64(len(data)),
		}, seen, nil
	}
}

// damaged is the error of a file that cannot be read.
func (s *Store) damaged(file string, err error) error {
	advice := ""
	if !s.o.ReadOnly {
		advice = "; repair the file, or move it away, and the generation before it counts"
	}
	return errdefs.New(errdefs.FailedPrecondition, "%s is damaged: %s%s", s.o.Files.Path(file), err, advice)
}

// look lists what there is of the store.
func (s *Store) look(ctx context.Context) (contents, error) {
	entries, err := s.o.Files.List(ctx, s.o.Directory, s.o.Name+".*")
	if errdefs.Is(err, errdefs.NotFound) {
		return contents{}, nil
	}
	if err != nil {
		return contents{}, err
	}
	return contentsOf(entries, s.o.Name, s.o.ReadOnly), nil
}

func (s *Store) path(file string) string { return path.Join(s.o.Directory, file) }

// fail says which store and what an error is about. It keeps the kind.
func (s *Store) fail(err error, what string) error {
	return errdefs.Wrap(errdefs.KindOf(err), err, "%s key/value store %s", what, s)
}

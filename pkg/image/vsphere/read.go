// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"cmp"
	"context"
	"path"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// Lookup implements image.Store. It is one request.
func (s *Store) Lookup(ctx context.Context, name string, size int64) (*image.Disk, error) {
	if err := image.ValidateSize(size); err != nil {
		return nil, err
	}
	if err := s.usable(); err != nil {
		return nil, err
	}
	r, err := s.findName(ctx, name, size)
	if errdefs.Is(err, errdefs.NotFound) {
		return nil, errdefs.New(errdefs.NotFound, "image store %s has no disk of %s with %d MiB", s, name, size/image.SizeUnit)
	}
	if err != nil {
		return nil, s.fail(err, "look up %s with %d MiB", name, size/image.SizeUnit)
	}
	return s.disk(r, r.Name), nil
}

// Find implements image.Store. One request reads the disk; its names take a search
// and one request for each name of that size.
func (s *Store) Find(ctx context.Context, key image.Key) (*image.Disk, error) {
	r, err := s.published(ctx, key, "find")
	if err != nil {
		return nil, err
	}
	names, err := s.namesOf(ctx, key)
	if err != nil {
		return nil, s.fail(err, "find the names of image %s", key)
	}
	var texts []string
	for _, n := range names {
		if n.Upload == r.Upload {
			texts = append(texts, n.Name)
		}
	}
	slices.Sort(texts)
	return s.disk(r, texts...), nil
}

// published is find with the error that callers see.
func (s *Store) published(ctx context.Context, key image.Key, verb string) (*record, error) {
	if err := s.usable(key); err != nil {
		return nil, err
	}
	r, err := s.find(ctx, key)
	if errdefs.Is(err, errdefs.NotFound) {
		return nil, s.absent(key)
	}
	if err != nil {
		return nil, s.fail(err, "%s image %s", verb, key)
	}
	return r, nil
}

func (s *Store) absent(key image.Key) error {
	return errdefs.New(errdefs.NotFound, "image store %s has no disk of image %s", s, key)
}

// namesOf reads the records of all names that lead to a key.
func (s *Store) namesOf(ctx context.Context, key image.Key) ([]*record, error) {
	entries, err := s.files.List(ctx, s.layout.names(), "*")
	if errdefs.Is(err, errdefs.NotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	_, suffix, _ := strings.Cut(base(key), "-")
	var files []string
	for _, e := range entries {
		if isName(e.Name) && strings.HasSuffix(e.Name, "-"+suffix+recordSuffix) {
			files = append(files, e.Name)
		}
	}
	all, err := s.readNames(ctx, files)
	return slices.DeleteFunc(all, func(r *record) bool { return r.Key != key }), err
}

// readNames reads files of names. What is gone or no record is left out.
func (s *Store) readNames(ctx context.Context, files []string) ([]*record, error) {
	read, err := s.readAll(ctx, len(files), func(ctx context.Context, i int) (*record, error) {
		return s.readRecord(ctx, path.Join(s.layout.names(), files[i]), func(r *record) string { return ofName(r, files[i]) })
	})
	return slices.DeleteFunc(read, func(r *record) bool { return r == nil }), err
}

// readAll reads n records, some at a time; nil for those that are not there.
func (s *Store) readAll(ctx context.Context, n int, read func(ctx context.Context, i int) (*record, error)) ([]*record, error) {
	all := make([]*record, n)
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for i := range n {
		group.Go(func() error {
			r, err := read(ctx, i)
			if err == nil {
				all[i] = r
			} else if !errdefs.Is(err, errdefs.NotFound) {
				return err
			}
			return nil
		})
	}
	return all, group.Wait()
}

// Verify implements image.Store.
func (s *Store) Verify(ctx context.Context, key image.Key) (*image.Disk, error) {
	r, err := s.published(ctx, key, "verify")
	if err == nil {
		err = s.whole(ctx, r)
		if err == nil {
			return s.disk(r), nil
		}
		if !errdefs.Is(err, errdefs.NotFound) {
			return nil, s.fail(err, "verify image %s", key)
		}
		err = errdefs.New(errdefs.NotFound, "image store %s: the files of image %s were deleted: %s", s, key, s.disk(r).Path)
	}
	if !errdefs.Is(err, errdefs.NotFound) {
		return nil, err
	}
	// Names without a record may be left of a removal that was cut off.
	if failed := s.forget(ctx, key, r); failed != nil {
		return nil, s.fail(failed, "withdraw image %s, whose files were deleted", key)
	}
	return nil, err
}

// whole looks whether the files of a disk are there: NotFound.
func (s *Store) whole(ctx context.Context, r *record) error {
	dir := s.layout.upload(r.Key, r.Upload)
	if _, err := s.files.Size(ctx, path.Join(dir, diskFile)); err != nil || s.objects() {
		return err
	}
	_, err := s.files.Size(ctx, path.Join(dir, flatFile))
	return err
}

// forget withdraws a disk whose files are gone. It needs no lock: nothing can become
// of the disk any more, and one that was made anew has another upload.
func (s *Store) forget(ctx context.Context, key image.Key, lost *record) error {
	names, err := s.namesOf(ctx, key)
	if err != nil {
		return err
	}
	now, err := s.find(ctx, key)
	if err != nil && !errdefs.Is(err, errdefs.NotFound) {
		return err
	}
	published := err == nil
	for _, n := range names {
		if published && n.Upload == now.Upload && (lost == nil || lost.Upload != now.Upload) {
			continue // it leads to a disk that was made meanwhile
		}
		if err := s.files.Delete(ctx, s.layout.name(n.Name, n.Size)); err != nil {
			return err
		}
	}
	if !published || lost == nil || now.Upload != lost.Upload {
		return nil
	}
	return s.files.Delete(ctx, s.layout.record(key))
}

// List implements image.Store.
func (s *Store) List(ctx context.Context) ([]image.Disk, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	snap, err := s.snapshot(ctx)
	if err != nil {
		return nil, s.fail(err, "list")
	}
	return snap.list(s.disk), nil
}

// list are the disks that a snapshot shows.
func (snap *snapshot) list(disk func(r *record, names ...string) *image.Disk) []image.Disk {
	names := map[image.Key][]string{}
	for _, n := range snap.names {
		if r := n.record; r != nil && snap.records[r.Key] != nil && snap.records[r.Key].Upload == r.Upload {
			names[r.Key] = append(names[r.Key], r.Name)
		}
	}
	var disks []image.Disk
	for key, r := range snap.records {
		slices.Sort(names[key])
		disks = append(disks, *disk(r, names[key]...))
	}
	first := func(d image.Disk) string { return append(d.Names, "")[0] }
	slices.SortFunc(disks, func(a, b image.Disk) int {
		return cmp.Or(strings.Compare(first(a), first(b)), strings.Compare(a.Digest, b.Digest), cmp.Compare(a.Size, b.Size))
	})
	return disks
}

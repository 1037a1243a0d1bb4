// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"context"
	"errors"
	"path"
	"slices"

	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/datastore"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// maxAttempts is how often one Ensure begins anew because of what others did.
const maxAttempts = 5

// Ensure implements image.Store. For a disk that is there it is a request for the
// record, one for the name, and one to make the name lead there.
func (s *Store) Ensure(ctx context.Context, key image.Key, name string, source image.Source, report image.Report) (*image.Disk, error) {
	if err := s.usable(key); err != nil {
		return nil, err
	}
	if err := s.ended(ctx, "begin"); err != nil {
		return nil, s.fail(err, "make image %s", key)
	}
	report = forward(report)
	for attempt := 1; ; attempt++ {
		r, err := s.find(ctx, key)
		if err == nil {
			err = s.link(ctx, r, name)
		}
		if errdefs.Is(err, errdefs.NotFound) {
			var again bool
			r, again, err = s.produce(ctx, key, name, source, report)
			if again && attempt < maxAttempts && ctx.Err() == nil {
				continue
			}
		}
		switch {
		case err != nil:
			return nil, s.fail(err, "make image %s", key)
		case name == "":
			return s.disk(r), nil
		}
		return s.disk(r, name), nil
	}
}

// forward makes a report that never goes back: a maker that lost its lock may begin
// once more. What other processes do is always told.
func forward(report image.Report) image.Report {
	if report == nil {
		return func(image.Progress) {}
	}
	order, last := image.Stages(), 0
	return func(p image.Progress) {
		at := slices.Index(order, p.Stage)
		if p.Owner == "" {
			if at < last {
				return
			}
			last = at
		}
		report(p)
	}
}

// link makes name lead to a disk. NotFound if that is not published any more. A name
// that is written long after the record was read could lead to a disk that is being
// deleted: removals wait for longer than is allowed here.
func (s *Store) link(ctx context.Context, r *record, name string) error {
	if name == "" {
		return nil
	}
	for {
		begin := s.o.Clock.Now()
		old, err := s.findName(ctx, name, r.Size)
		if err == nil && old.Key == r.Key && old.Upload == r.Upload {
			return nil
		}
		if err != nil && !errdefs.Is(err, errdefs.NotFound) {
			return err
		}
		if s.o.Clock.Since(begin) >= image.Validity {
			if r, err = s.find(ctx, r.Key); err != nil {
				return err
			}
			continue
		}
		named := *r
		named.Name = name
		return s.writeName(ctx, named)
	}
}

// writeName writes the record that a name leads to. It ends soon, see link.
func (s *Store) writeName(ctx context.Context, r record) error {
	ctx, cancel := context.WithTimeout(ctx, image.Validity)
	defer cancel()
	p := s.layout.name(r.Name, r.Size)
	err := s.writeRecord(ctx, p, r)
	if !errdefs.Is(err, errdefs.NotFound) {
		return err
	}
	if err := s.files.MakeDirectory(ctx, path.Dir(p), true); err != nil {
		return err
	}
	return s.writeRecord(ctx, p, r)
}

// produce makes a disk and a name for it, or waits until another one has made it.
// again says that others came in between, so that it is to be begun anew.
func (s *Store) produce(ctx context.Context, key image.Key, name string, source image.Source, report image.Report) (r *record, again bool, err error) {
	find := func(ctx context.Context) (bool, error) {
		var err error
		r, err = s.find(ctx, key)
		if errdefs.Is(err, errdefs.NotFound) {
			return false, nil
		}
		return err == nil, err
	}
	h, err := s.acquire(ctx, key, claim{ready: find, report: report})
	if err != nil {
		return nil, false, err
	}
	if h != nil {
		defer h.unlock(ctx)
		if r, err = s.makeHeld(ctx, h, source, report); err != nil {
			return nil, h.wasLost() || errors.Is(err, errTaken), err
		}
	}
	err = s.link(ctx, r, name)
	return r, errdefs.Is(err, errdefs.NotFound), err
}

// makeHeld makes the disk whose lock is held, unless it is there. It ends when the
// lock is lost.
func (s *Store) makeHeld(ctx context.Context, h *hold, source image.Source, report image.Report) (*record, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-h.lost:
			cancel()
		case <-ctx.Done():
		}
	}()
	r, err := s.find(ctx, h.key)
	if !errdefs.Is(err, errdefs.NotFound) {
		return r, err
	}
	r, err = s.recover(ctx, h)
	if err != nil || r != nil {
		return r, err
	}
	return s.fill(ctx, h, source, func(p image.Progress) {
		h.at(p)
		report(p)
	})
}

// recover looks for what others left of the disk. A whole one that was withdrawn, by
// a removal that was cut off, is published again, and returned. An upload that was
// cut off is deleted. Anything that this cannot do is left for Clean.
func (s *Store) recover(ctx context.Context, h *hold) (*record, error) {
	key := h.key
	entries, err := s.files.List(ctx, s.layout.disks(), "*")
	if err != nil && !errdefs.Is(err, errdefs.NotFound) {
		return nil, err
	}
	log := klog.FromContext(ctx)
	for _, e := range entries {
		k, id, ok := parseUpload(e.Name)
		if !ok || !e.Dir || k != key {
			continue
		}
		dir := s.layout.upload(key, id)
		r, err := s.republish(ctx, key, id)
		if err == nil {
			log.Info("Published an image again whose removal was cut off", "path", s.files.Path(dir))
			return r, nil
		}
		if err := s.ended(ctx, "look for what others left"); err != nil {
			return nil, err
		}
		if !errdefs.Is(err, errdefs.NotFound) {
			log.Info("Could not publish an image again whose removal was cut off", "path", s.files.Path(dir), "reason", err.Error())
			continue
		}
		if err := s.sweep(ctx, h, id); err != nil && !errdefs.Is(err, errdefs.NotFound) {
			log.Info("What is left of an upload stays for now", "path", s.files.Path(dir), "reason", err.Error())
		}
	}
	return nil, s.ended(ctx, "look for what others left")
}

// republish publishes a disk that was withdrawn: NotFound if it was not, or is not whole.
func (s *Store) republish(ctx context.Context, key image.Key, id string) (*record, error) {
	dir := s.layout.upload(key, id)
	entries, err := s.files.List(ctx, dir, "*")
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(entries, func(e datastore.Entry) bool { return isWithdrawn(e.Name) })
	if i < 0 {
		return nil, errdefs.New(errdefs.NotFound, "%s was not withdrawn", s.files.Path(dir))
	}
	from := path.Join(dir, entries[i].Name)
	r, err := s.readRecord(ctx, from, func(r *record) string {
		if r.Upload != id {
			return "it is of another upload"
		}
		return ofKey(r, key)
	})
	if err == nil {
		err = s.whole(ctx, r)
	}
	if err == nil {
		err = s.files.Move(ctx, from, s.layout.record(key))
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// sweep deletes an upload that was cut off before it was published. NotFound if it
// is something else.
func (s *Store) sweep(ctx context.Context, h *hold, id string) error {
	if _, err := s.files.Size(ctx, path.Join(s.layout.upload(h.key, id), pendingFile)); err != nil {
		return err
	}
	all, err := s.inventory.VMs(ctx)
	if err != nil {
		return err
	}
	if users := s.usersOf(all, func(u use) bool { return u.id == id }); len(users) > 0 {
		return s.inUse("the upload "+id, users)
	}
	if err := h.check(ctx); err != nil {
		return err
	}
	return s.discard(ctx, h.key, id)
}

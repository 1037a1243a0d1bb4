// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"context"
	"errors"
	"io"
	"path"

	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/virtualdisk"
)

// fill makes the content of a disk and uploads it.
func (s *Store) fill(ctx context.Context, h *hold, source image.Source, report image.Report) (*record, error) {
	content, err := source(ctx, h.key, report)
	if err != nil {
		return nil, err
	}
	r, err := s.upload(ctx, h, content, report)
	if closed := content.Close(); closed != nil {
		klog.FromContext(ctx).Info("Could not remove the temporary files of an image", "image", h.key.String(), "reason", closed.Error())
	}
	return r, err
}

// upload brings a content onto the datastore and publishes it. What it made is taken
// away if that fails, unless it is published by then.
func (s *Store) upload(ctx context.Context, h *hold, content image.Content, report image.Report) (*record, error) {
	r := &record{
		Format: recordFormat, Key: h.key, Upload: newID(),
		Created: s.o.Clock.Now().UTC(), Description: content.Description(),
	}
	published, err := s.attempt(ctx, h, r, content, report)
	if err == nil {
		return published, nil
	}
	tidy, cancel := detached(ctx)
	defer cancel()
	if ctx.Err() == nil {
		// Whoever took over has deleted files under our hands, perhaps.
		if taken := h.check(tidy); errors.Is(taken, errTaken) {
			err = taken
		}
	}
	failed := s.discard(tidy, r.Key, r.Upload)
	if errdefs.Is(failed, errdefs.AlreadyExists) {
		return r, nil // the answer to its publication was lost
	}
	if failed != nil {
		klog.FromContext(ctx).Info("What is left of an upload stays for now", "path", s.files.Path(s.layout.upload(r.Key, r.Upload)), "reason", failed.Error())
	}
	return nil, err
}

// attempt uploads and publishes. The record is written before the disk and checked
// against the lock right after: whoever takes over later finds it and takes it away,
// so that nothing can be published behind his back.
func (s *Store) attempt(ctx context.Context, h *hold, r *record, content image.Content, report image.Report) (*record, error) {
	dir := s.layout.upload(r.Key, r.Upload)
	if err := s.makeDirectory(ctx, dir); err != nil {
		return nil, err
	}
	if err := s.place(ctx, r); err != nil {
		return nil, err
	}
	pending := path.Join(dir, pendingFile)
	if err := s.writeRecord(ctx, pending, *r); err != nil {
		return nil, err
	}
	if err := h.check(ctx); err != nil {
		return nil, err
	}
	if err := s.makeDisk(ctx, r, content, path.Join(dir, diskFile), report); err != nil {
		return nil, err
	}
	report(image.Progress{Stage: image.Publishing})
	if err := s.whole(ctx, r); errdefs.Is(err, errdefs.NotFound) {
		return nil, errdefs.Wrap(errdefs.Aborted, err, "the disk was deleted while it was made")
	} else if err != nil {
		return nil, err
	}
	return s.publish(ctx, r, pending)
}

// place notes how VMs know the directory of a disk.
func (s *Store) place(ctx context.Context, r *record) error {
	if !s.namespaced() {
		return nil
	}
	dir := s.layout.upload(r.Key, r.Upload)
	resolved, err := s.files.Resolve(ctx, dir)
	if err != nil {
		return err
	}
	if resolved != dir {
		r.Top = firstElement(resolved)
	}
	return nil
}

func firstElement(p string) string {
	for i := range len(p) {
		if p[i] == '/' {
			return p[:i]
		}
	}
	return p
}

// publish moves a record to its place. If there is one already, that counts.
func (s *Store) publish(ctx context.Context, r *record, pending string) (*record, error) {
	err := s.files.Move(ctx, pending, s.layout.record(r.Key))
	if err == nil {
		return r, nil
	}
	if !errdefs.Is(err, errdefs.AlreadyExists) {
		return nil, err
	}
	other, found := s.find(ctx, r.Key)
	switch {
	case found == nil && other.Upload == r.Upload:
		return r, nil
	case found == nil:
		// Somebody made it meanwhile: this one is not needed.
		if err := s.discard(ctx, r.Key, r.Upload); err != nil {
			klog.FromContext(ctx).Info("What is left of an upload stays for now", "path", s.files.Path(path.Dir(pending)), "reason", err.Error())
		}
		return other, nil
	}
	if _, spoilt := errors.AsType[*isIgnored](found); !spoilt {
		return nil, err
	}
	// What is in its place is no record, and counts as absent.
	if err := s.files.Delete(ctx, s.layout.record(r.Key)); err != nil {
		return nil, err
	}
	if err := s.files.Move(ctx, pending, s.layout.record(r.Key)); err != nil {
		return nil, err
	}
	return r, nil
}

// makeDisk makes the disk of an upload.
func (s *Store) makeDisk(ctx context.Context, r *record, content image.Content, to string, report image.Report) error {
	raw, used := content.Raw()
	return s.disks.Make(ctx, to, virtualdisk.Content{
		Capacity: r.Size, Raw: raw, Used: used, Identity: content.Identity(),
		Stream: func(ctx context.Context) (io.ReaderAt, int64, error) { return content.StreamOptimized(ctx, report) },
	}, s.markOf(r), func(done, total int64) {
		report(image.Progress{Stage: image.Uploading, Done: done, Total: total})
	})
}

// markOf is what a VM says that holds the disk of an upload.
func (s *Store) markOf(r *record) virtualdisk.Mark {
	return virtualdisk.Mark{Subject: r.Digest, Attempt: r.Upload, Owner: s.o.Owner}
}

// keyOf is the disk that a VM holds; false if the mark is of no image.
func keyOf(m virtualdisk.Mark) (image.Key, bool) {
	key := image.Key{Digest: m.Subject, Size: m.Size}
	return key, key.Validate() == nil
}

// discard deletes an upload. Its record goes first, and without that it is never
// published; if it was before, the upload stays and the answer is AlreadyExists. The
// caller has made sure that no VM has it, or never could.
func (s *Store) discard(ctx context.Context, key image.Key, id string) error {
	dir := s.layout.upload(key, id)
	if err := s.files.Delete(ctx, path.Join(dir, pendingFile)); err != nil {
		return err
	}
	r, err := s.find(ctx, key)
	if err != nil && !errdefs.Is(err, errdefs.NotFound) {
		return err
	}
	if err == nil && r.Upload == id {
		return errdefs.New(errdefs.AlreadyExists, "%s is published", s.files.Path(dir))
	}
	return s.deleteUpload(ctx, key, id, true)
}

// deleteUpload deletes the directory of a disk that cannot be published any more.
// half says that it never was whole, so that vCenter may not know it for a disk.
func (s *Store) deleteUpload(ctx context.Context, key image.Key, id string, half bool) error {
	dir := s.layout.upload(key, id)
	if !half || s.objects() {
		if err := s.files.DeleteDisk(ctx, path.Join(dir, diskFile)); err != nil {
			return err
		}
	}
	return s.files.Delete(ctx, dir)
}

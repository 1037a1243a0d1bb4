// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package kvstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"time"

	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// tidyTime is how long finding out and clearing away may take after a call has ended.
	tidyTime = 30 * time.Second
	// digits is how many random bytes an upload has in its name and behind its content.
	digits = 16
)

// ErrUnknown is in the error of a write of which it could not be found out whether it was
// done. Read the store before it is tried again.
var ErrUnknown = errors.New("it is not known whether it was written; read the store before trying again")

// errForgotten is of a generation that is deleted, so that nobody can tell whose it was.
var errForgotten = errors.New("it was followed by so many that it is deleted")

// upload is what wants to become a generation.
type upload struct {
	place
	// file is where it is, claimed where it is brought so that it is not published any more.
	file, claimed string
	content       []byte
}

// newUpload names an upload, and marks its content as that of nobody else.
func (s *Store) newUpload(at place, content []byte) (*upload, error) {
	random := make([]byte, 2*digits)
	if _, err := io.ReadFull(s.o.Random, random); err != nil {
		return nil, errdefs.Wrap(errdefs.Internal, err, "draw digits")
	}
	u := &upload{
		place: at, file: at.pending(s.o.Name, hex.EncodeToString(random[:digits])),
		claimed: at.pending(s.o.Name, hex.EncodeToString(random[digits:])),
		content: append(bytes.Clone(content), '\n'),
	}
	for n, i := binary.BigEndian.Uint64(random), 0; i < 64; i++ {
		u.content = append(u.content, " \t"[n>>i&1])
	}
	if len(u.content) > sizeLimit {
		return nil, errdefs.New(errdefs.ResourceExhausted, "it would have %d bytes, and may have %d", len(u.content), sizeLimit)
	}
	return u, nil
}

// publish makes a generation of the content, if what was seen is still so. It answers false if
// somebody was faster. After an error nothing was changed, unless it is ErrUnknown.
func (s *Store) publish(ctx context.Context, seen contents, at place, content []byte) (bool, error) {
	u, err := s.newUpload(at, content)
	if err != nil {
		return false, err
	}
	if !seen.directory {
		if err := s.o.Files.MakeDirectory(ctx, s.o.Directory, true); err != nil {
			return false, err
		}
	}
	if err := s.o.Files.Write(ctx, s.path(u.file), bytes.NewReader(u.content), int64(len(u.content)), nil); err != nil {
		s.discard(ctx, u.file)
		return false, err
	}
	// Whoever deletes generations from now on sees the upload first.
	again, err := s.look(ctx)
	if err != nil {
		s.discard(ctx, u.file)
		return false, err
	}
	own, listed := again.upload(u.file)
	if !listed || !seen.sameNewest(again) {
		s.discard(ctx, u.file)
		return false, nil
	}
	if err := s.o.Files.Move(ctx, s.path(u.file), s.path(u.place.file(s.o.Name))); err != nil {
		done, unclear := s.whatBecame(ctx, u)
		refused := isRefused(err)
		if refused && errors.Is(unclear, errForgotten) {
			unclear = nil // the answer was clear enough
		}
		switch {
		case !done && unclear == nil && refused:
			return false, nil
		case unclear != nil:
			return false, errdefs.Wrap(errdefs.KindOf(err), errors.Join(ErrUnknown, err, unclear), "publish %s", s.o.Files.Path(s.path(u.place.file(s.o.Name))))
		case !done:
			return false, err
		}
	}
	s.tidy(ctx, again, own)
	return true, nil
}

// sameNewest reports that no generation came or went at the end.
func (c contents) sameNewest(o contents) bool {
	a, some := c.newest()
	b, other := o.newest()
	return some == other && a == b
}

// isRefused reports that a move was answered with no, since somebody was faster: the generation
// is there, or the upload was taken for that of a dead writer.
func isRefused(err error) bool {
	return errdefs.Is(err, errdefs.AlreadyExists) || errdefs.Is(err, errdefs.NotFound)
}

// whatBecame finds out whether an upload was published whose move was not answered with
// success, whatever became of ctx, and makes sure that it is not published later.
func (s *Store) whatBecame(ctx context.Context, u *upload) (published bool, err error) {
	ctx, cancel := detached(ctx)
	defer cancel()
	for range readAttempts {
		err = s.o.Files.Move(ctx, s.path(u.file), s.path(u.claimed))
		if errdefs.Is(err, errdefs.NotFound) {
			// It is gone: published, or claimed by the attempt before, or deleted as that of a dead writer.
			published, err = s.isThere(ctx, u)
		}
		if err == nil && !published {
			s.discard(ctx, u.claimed)
		}
		if err == nil || errors.Is(err, errForgotten) {
			return published, err
		}
	}
	return false, err
}

// isThere reports whether an upload that is gone was published.
func (s *Store) isThere(ctx context.Context, u *upload) (bool, error) {
	data, err := s.o.Files.Read(ctx, s.path(u.place.file(s.o.Name)), sizeLimit)
	if err == nil {
		return bytes.Equal(data, u.content), nil
	}
	if !errdefs.Is(err, errdefs.NotFound) {
		return false, err
	}
	seen, err := s.look(ctx)
	if err != nil {
		return false, err
	}
	if newest, exists := seen.newest(); exists && newest.compare(u.place) >= 0 {
		return false, errForgotten
	}
	return false, nil
}

// discard deletes what nobody needs any more, whatever became of ctx. What stays is
// deleted by a later update.
func (s *Store) discard(ctx context.Context, file string) {
	limited, cancel := detached(ctx)
	defer cancel()
	if err := s.o.Files.Delete(limited, s.path(file)); err != nil {
		klog.FromContext(ctx).V(1).Info("Could not delete an upload of a key/value store", "path", s.path(file), "reason", err.Error())
	}
}

// tidy deletes what an update makes superfluous. Uploads go first, and generations only
// after them; see the package's comment.
func (s *Store) tidy(ctx context.Context, seen contents, own found) {
	uploads, generations := seen.tidy(own, s.o.Grace)
	for _, file := range append(uploads, generations...) {
		if err := s.o.Files.Delete(ctx, s.path(file)); err != nil {
			klog.FromContext(ctx).V(1).Info("Could not delete what is old in a key/value store", "path", s.path(file), "reason", err.Error())
			return
		}
	}
}

// detached is a context for clearing away, whatever became of the call's.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), tidyTime)
}

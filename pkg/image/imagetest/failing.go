// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package imagetest

import (
	"context"
	"errors"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// failing are the tests of disks that are not made.
func failing() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"the error of a source keeps its kind, and nothing is left": failingSource,
		"a content that cannot be read leaves nothing":              failingContent,
		"a place without room is ResourceExhausted":                 fullPlace,
		"a context that has ended makes nothing":                    endedContext,
		"a context that ends while the source works leaves nothing": endsInSource,
		"a context that ends during the upload leaves nothing":      endsInUpload,
	}
}

// wantNothingOf fails the test if anything of a disk is there that was not made,
// and makes it then.
func (f *fixture) wantNothingOf(n int) {
	f.Helper()
	key := keyOf(n, size)
	f.wantUnpublished(key, "node:v1")
	f.wantNoFiles("after an Ensure that failed")
	if left := f.leftovers(f.h.Store()); len(left) != 0 {
		f.Errorf("after an Ensure that failed there are leftovers %v", left)
	}
	before := f.made.calls.Load()
	disk, err := f.h.Store().Ensure(f.Context(), key, "node:v1", f.plain(), nil)
	if err != nil {
		f.Fatalf("the next Ensure: %v", err)
	}
	f.wantWhole(disk, key)
	if calls := f.made.calls.Load() - before; calls != 1 {
		f.Errorf("the next Ensure called its source %d times", calls)
	}
	f.wantPublished(key, "node:v1")
	f.remove(f.h.Store(), key)
	f.wantNoFiles("after the disk was removed")
}

func failingSource(f *fixture) {
	s := f.h.Store()
	for n, kind := range errdefs.Kinds() {
		if kind == errdefs.Unknown {
			continue
		}
		fails := f.source(source{before: func(context.Context) error { return errdefs.New(kind, "words of the source") }})
		_, err := s.Ensure(f.Context(), keyOf(n, size), "node:v1", fails, nil)
		f.wantError("ensure with a source that fails", err, kind)
		f.wantText(err, "words of the source")
		f.wantUnpublished(keyOf(n, size), "node:v1")
		f.wantNoFiles("after a source that failed")
	}
	f.wantNothingOf(0)
}

func failingContent(f *fixture) {
	cause := errdefs.New(errdefs.FailedPrecondition, "words of the content")
	fails := f.source(source{read: func() error { return cause }})
	_, err := f.h.Store().Ensure(f.Context(), keyOf(1, size), "node:v1", fails, nil)
	if err == nil {
		f.Fatal("no error")
	}
	f.wantText(err, "words of the content")
	f.wantNothingOf(1)
}

func fullPlace(f *fixture) {
	there := f.ensure(f.h.Store(), keyOf(2, size), "there:v1")
	f.h.Fill(true)
	_, err := f.h.Store().Ensure(f.Context(), keyOf(1, size), "node:v1", f.plain(), nil)
	f.wantError("ensure on a full place", err, errdefs.ResourceExhausted)
	f.wantUnpublished(keyOf(1, size), "node:v1")
	f.wantPublished(there.Key, "there:v1") // reading needs no room
	f.remove(f.h.Store(), there.Key)       // and so room can be made
	f.h.Fill(false)
	f.wantNothingOf(1)
}

func endedContext(f *fixture) {
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	s, key := f.h.Store(), keyOf(1, size)
	for what, call := range map[string]func() error{
		"ensure": func() error { _, err := s.Ensure(ctx, key, "node:v1", f.plain(), nil); return err },
		"lookup": func() error { _, err := s.Lookup(ctx, "node:v1", key.Size); return err },
		"find":   func() error { _, err := s.Find(ctx, key); return err },
		"verify": func() error { _, err := s.Verify(ctx, key); return err },
		"list":   func() error { _, err := s.List(ctx); return err },
		"users":  func() error { _, err := s.Users(ctx, key); return err },
		"remove": func() error { _, err := s.Remove(ctx, key); return err },
		"left":   func() error { _, err := s.Leftovers(ctx); return err },
	} {
		f.wantError(what, call(), errdefs.Canceled)
	}
	f.wantNothingOf(1)
}

func endsInSource(f *fixture) {
	ctx, cancel := context.WithCancel(f.Context())
	defer cancel()
	before, begun := until(nil)
	a := f.ask(ctx, f.h.Store(), keyOf(1, size), "node:v1", f.source(source{before: before}), nil)
	f.wait("the source to begin", begun)
	cancel()
	f.wait("Ensure to end with its context", a.done)
	f.wantError("ensure", a.err, errdefs.Canceled)
	f.wantNothingOf(1)
}

func endsInUpload(f *fixture) {
	ctx, cancel := context.WithCancel(f.Context())
	defer cancel()
	cuts := source{read: func() error {
		cancel()
		<-ctx.Done()
		return nil
	}}
	_, err := f.h.Store().Ensure(ctx, keyOf(1, size), "node:v1", f.source(cuts), nil)
	f.wantError("ensure", err, errdefs.Canceled)
	if !errors.Is(err, context.Canceled) {
		f.Errorf("the error %v does not wrap the context's", err)
	}
	f.wantNothingOf(1)
}

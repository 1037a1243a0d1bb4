// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package fake_test

import (
	"bytes"
	"context"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/fake"
)

// disk is a content of a few bytes.
type disk struct{ raw string }

func (d disk) Description() image.Description {
	return image.Description{UsedBytes: int64(len(d.raw))}
}
func (d disk) Raw() (io.ReaderAt, int64) { return strings.NewReader(d.raw), int64(len(d.raw)) }
func (disk) StreamOptimized(context.Context, image.Report) (io.ReaderAt, int64, error) {
	return nil, 0, errdefs.New(errdefs.Unimplemented, "the fake needs none")
}
func (disk) Identity() [16]byte { return [16]byte{1} }
func (disk) Close() error       { return nil }

func source(context.Context, image.Key, image.Report) (image.Content, error) {
	return disk{"content"}, nil
}

func key() image.Key {
	return image.Key{Digest: "sha256:" + strings.Repeat("0a", 32), Size: image.MinSize}
}

func TestAPlaceShowsWhatItHas(t *testing.T) {
	t.Parallel()
	p := fake.New(fake.Options{Name: "[ds] images"})
	if files := p.Files(); len(files) != 0 {
		t.Errorf("a new place has %v", files)
	}
	made, err := p.Store("a").Ensure(t.Context(), key(), "node:v1", source, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Content(made.Path); !bytes.Equal(got, []byte("content")) {
		t.Errorf("the disk holds %q", got)
	}
	if got := p.Content("[ds] images/other.vmdk"); got != nil {
		t.Errorf("what is not there holds %q", got)
	}
	files := p.Files()
	if len(files) != 3 || !slices.Contains(files, made.Path) || !slices.Contains(files, "[ds] images/names/node:v1-64") {
		t.Errorf("there is %v, want disk, record and name", files)
	}
	if got := p.Store("b").String(); got != "[ds] images" {
		t.Errorf("the store is called %q", got)
	}
}

func TestPlacesShareNothing(t *testing.T) {
	t.Parallel()
	a, b := fake.New(fake.Options{}), fake.New(fake.Options{})
	if _, err := a.Store("a").Ensure(t.Context(), key(), "node:v1", source, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Store("a").Find(t.Context(), key()); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("another place answers %v", err)
	}
}

func TestTheInterceptorSeesTheStepsOfAnEnsureInOrder(t *testing.T) {
	t.Parallel()
	s := fake.New(fake.Options{}).Store("a")
	var steps []string
	s.Intercept(func(_ context.Context, step string, do func() error) error {
		steps = append(steps, step)
		return do()
	})
	for range 2 {
		if _, err := s.Ensure(t.Context(), key(), "node:v1", source, nil); err != nil {
			t.Fatal(err)
		}
	}
	s.Intercept(nil)
	if _, err := s.Find(t.Context(), key()); err != nil {
		t.Fatal(err)
	}
	want := []string{
		fake.StepRead, fake.StepLock, fake.StepPrepare, fake.StepUpload, fake.StepPublish, fake.StepUnlock, fake.StepName,
		fake.StepRead, fake.StepName, // it is there
	}
	if !slices.Equal(steps, want) {
		t.Errorf("steps %v, want %v", steps, want)
	}
}

func TestAStepThatIsInterceptedMayFail(t *testing.T) {
	t.Parallel()
	s := fake.New(fake.Options{}).Store("a")
	s.Intercept(func(_ context.Context, step string, do func() error) error {
		if step == fake.StepPublish {
			return errdefs.New(errdefs.Unavailable, "no vCenter")
		}
		return do()
	})
	if _, err := s.Ensure(t.Context(), key(), "node:v1", source, nil); !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("ensure: %v", err)
	}
	if _, err := s.Find(t.Context(), key()); !errdefs.Is(err, errdefs.NotFound) {
		t.Errorf("find: %v", err)
	}
}

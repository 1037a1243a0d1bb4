// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/disk"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
)

// layer makes a layer of entries.
func layer(t testing.TB, entries ...images.Entry) images.ImageLayer {
	t.Helper()
	l, err := images.Layer(entries...)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// small puts an image of 3 MB into a registry.
func small(t testing.TB) string {
	t.Helper()
	return serve(t, images.Config{}, layer(t, images.Entry{Name: "bin/program", Size: 3 << 19, Open: func() io.Reader { return images.Program(1) }}),
		layer(t, images.Entry{Name: "bin/other", Size: 3 << 19, Open: func() io.Reader { return images.Program(2) }}))
}

// sums are digests of both forms.
func sums(t testing.TB, c image.Content) [2]string {
	t.Helper()
	raw, used := c.Raw()
	vmdk, n, err := c.StreamOptimized(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return [2]string{digest(io.NewSectionReader(raw, 0, used)), digest(io.NewSectionReader(vmdk, 0, n))}
}

func TestTheSameImageAndSizeGiveTheSameBytes(t *testing.T) {
	t.Parallel()
	ref, temp := small(t), t.TempDir()
	made := func(size int64) (string, [2]string, [16]byte, [16]byte) {
		c := makeContent(t, ref, disk.Options{Dir: temp}, size, nil)
		defer closeContent(t, c, temp)
		raw, _ := c.Raw()
		filesystem, err := ext4.Open(raw)
		if err != nil {
			t.Fatal(err)
		}
		if filesystem.Size != size {
			t.Errorf("the file system has %d bytes, want %d", filesystem.Size, size)
		}
		return filesystem.Label, sums(t, c), filesystem.UUID, c.Identity()
	}
	label, bytes, uuid, identity := made(gib)
	label2, bytes2, uuid2, identity2 := made(gib)
	if label != label2 || bytes != bytes2 || uuid != uuid2 || identity != identity2 {
		t.Error("the same image and size gave two disks")
	}
	if _, bytes2, uuid2, identity2 := made(2 * gib); bytes == bytes2 || uuid == uuid2 || identity == identity2 {
		t.Error("another size gave the same disk")
	}
	if uuid[6]>>4 != 8 || uuid[8]>>6 != 2 || identity == [16]byte{} || identity == uuid {
		t.Errorf("UUID %x, identity %x", uuid, identity)
	}
}

func TestTheDescriptionIsThatOfTheImage(t *testing.T) {
	t.Parallel()
	ref := serve(t, images.Config{
		Entrypoint: []string{"/init"}, Cmd: []string{"a"}, Env: []string{"A=b"}, WorkingDir: "/w", User: "1:2", StopSignal: "SIGINT",
		Volumes: map[string]struct{}{"/v": {}},
	}, layer(t, images.File("a", "b")))
	temp := t.TempDir()
	c := makeContent(t, ref, disk.Options{Dir: temp}, gib, nil)
	defer closeContent(t, c, temp)
	img, err := resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	_, used := c.Raw()
	want := image.Description{ConfigDigest: img.ConfigDigest, UsedBytes: used, Config: image.Config{
		Entrypoint: []string{"/init"}, Cmd: []string{"a"}, Env: []string{"A=b"}, WorkingDir: "/w", User: "1:2", StopSignal: "SIGINT", Volumes: []string{"/v"},
	}}
	if diff := cmp.Diff(want, c.Description()); diff != "" {
		t.Error(diff)
	}
}

func TestProgressIsInBytesOfEachStage(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	var stages []image.Stage
	last := map[image.Stage]image.Progress{}
	var inside atomic.Int32
	report := func(p image.Progress) {
		if inside.Add(1) > 1 {
			t.Error("two reports overlap")
		}
		defer inside.Add(-1)
		if !slices.Contains(stages, p.Stage) {
			stages = append(stages, p.Stage)
		}
		if before := last[p.Stage]; p.Done < before.Done || p.Done > p.Total || p.Total <= 0 || stages[len(stages)-1] != p.Stage {
			t.Errorf("%+v after %+v", p, before)
		}
		last[p.Stage] = p
	}
	c := makeContent(t, small(t), disk.Options{Dir: temp}, gib, report)
	defer closeContent(t, c, temp)
	if _, _, err := c.StreamOptimized(t.Context(), report); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]image.Stage{image.Downloading, image.Unpacking, image.Converting, image.Compressing}, stages); diff != "" {
		t.Error(diff)
	}
	for stage, p := range last {
		if p.Done != p.Total || p.Total < 1<<20 {
			t.Errorf("%s ended with %+v", stage, p)
		}
	}
	// It is made once.
	if _, _, err := c.StreamOptimized(t.Context(), func(image.Progress) { t.Error("the VMDK is made again") }); err != nil {
		t.Error(err)
	}
}

func TestLayersOfOneDigestAreUnpackedEach(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	twice := layer(t, images.File("a", "first"))
	c := makeContent(t, serve(t, images.Config{}, twice, layer(t, images.File("a", "second")), twice), disk.Options{Dir: temp}, gib, nil)
	defer closeContent(t, c, temp)
	raw, _ := c.Raw()
	if got := contentOf(t, raw, "a"); got != "first" {
		t.Errorf("the file has %q", got)
	}
}

// contentOf is what a file of a disk has.
func contentOf(t testing.TB, raw io.ReaderAt, path string) (text string) {
	t.Helper()
	filesystem, err := ext4.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := filesystem.Walk(t.Context(), func(e *ext4.Entry) error {
		if e.Path != path {
			return nil
		}
		b, err := io.ReadAll(filesystem.Content(e))
		text = string(b)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return text
}

func TestAnEndedContextLeavesNothing(t *testing.T) {
	t.Parallel()
	ref := small(t)
	for _, stage := range []image.Stage{image.Downloading, image.Unpacking, image.Converting} {
		temp := t.TempDir()
		ctx, cancel := context.WithCancel(t.Context())
		_, err := source(ctx, t, ref, disk.Options{Dir: temp}, gib, func(p image.Progress) {
			if p.Stage == stage {
				cancel()
			}
		})
		if !errdefs.Is(err, errdefs.Canceled) || !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %s error: %v", stage, errdefs.KindOf(err), err)
		}
		nothingIn(t, temp)
	}
	temp := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 0)
	defer cancel()
	if _, err := source(ctx, t, ref, disk.Options{Dir: temp}, gib, nil); !errdefs.Is(err, errdefs.DeadlineExceeded) {
		t.Errorf("%s error: %v", errdefs.KindOf(err), err)
	}
	nothingIn(t, temp)
}

func TestAVMDKThatWasEndedCanBeMadeAgain(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	c := makeContent(t, small(t), disk.Options{Dir: temp}, gib, nil)
	defer closeContent(t, c, temp)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.StreamOptimized(ctx, nil); !errdefs.Is(err, errdefs.Canceled) {
		t.Errorf("%s error: %v", errdefs.KindOf(err), err)
	}
	if _, n, err := c.StreamOptimized(t.Context(), nil); err != nil || n == 0 {
		t.Errorf("%d bytes, %v", n, err)
	}
}

func TestAnImageThatDoesNotFitIsToldWhatWould(t *testing.T) {
	t.Parallel()
	temp := t.TempDir()
	ref := serve(t, images.Config{}, layer(t, images.File("large", strings.Repeat("large ", 10<<20))))
	_, err := source(t.Context(), t, ref, disk.Options{Dir: temp}, 64<<20, nil)
	if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), "rootDisk.size") {
		t.Fatalf("%s error: %v", errdefs.KindOf(err), err)
	}
	nothingIn(t, temp)
	small, ok := errors.AsType[*ext4.TooSmallError](err)
	if !ok || !strings.Contains(err.Error(), fmt.Sprintf("at least %d MiB", small.Need>>20)) {
		t.Fatalf("the error does not say what fits: %v", err)
	}
	c := makeContent(t, ref, disk.Options{Dir: temp}, small.Need, nil)
	closeContent(t, c, temp)
}

func TestADirectoryThatCannotBeUsedIsNamed(t *testing.T) {
	t.Parallel()
	ref := small(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, dir := range map[string]string{
		"none":               "",
		"one that is absent": filepath.Join(t.TempDir(), "absent"),
		"a file":             file,
	} {
		_, err := source(t.Context(), t, ref, disk.Options{Dir: dir}, gib, nil)
		if !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "temporary") {
			t.Errorf("%s: %s error: %v", name, errdefs.KindOf(err), err)
		}
	}
}

func TestAKeyOfAnotherImageIsRefused(t *testing.T) {
	t.Parallel()
	img, err := resolve(t.Context(), small(t))
	if err != nil {
		t.Fatal(err)
	}
	defer img.Close()
	temp := t.TempDir()
	for want, key := range map[errdefs.Kind]image.Key{
		errdefs.Internal:        {Digest: "sha256:" + strings.Repeat("0", 64), Size: gib},
		errdefs.InvalidArgument: {Digest: img.Digest, Size: gib + 1},
	} {
		if _, err := disk.Source(img, disk.Options{Dir: temp})(t.Context(), key, nil); !errdefs.Is(err, want) {
			t.Errorf("%v: %s error: %v", key, errdefs.KindOf(err), err)
		}
	}
	nothingIn(t, temp)
}

// TestAFullDirectoryIsNotAFullDatastore: whichever stage fills it.
func TestAFullDirectoryIsNotAFullDatastore(t *testing.T) {
	t.Parallel()
	ref := small(t)
	for _, stage := range []image.Stage{image.Downloading, image.Unpacking, image.Converting, image.Compressing} {
		temp := t.TempDir()
		o := inChild(t, task{Reference: ref, Dir: temp, Size: gib, VMDK: true, FullAt: stage})
		if o.Kind != errdefs.FailedPrecondition || !strings.Contains(o.Error, "the directory "+temp+" for temporary files is full") {
			t.Errorf("%s: %s error: %s", stage, o.Kind, o.Error)
		}
		nothingIn(t, temp)
	}
}

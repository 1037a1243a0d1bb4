// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
)

// What is counted to say what size would do must end, too.
func TestABombIsGivenUp(t *testing.T) {
	t.Parallel()
	bombs := map[string]io.Reader{
		"files without end": stream(t, func(w *tar.Writer) error {
			for i := 0; ; i++ {
				if err := put(w, fmt.Sprintf("f%d", i), 64*mib, zeroes{}); err != nil {
					return err
				}
			}
		}),
		"one file of 4 EiB": stream(t, func(w *tar.Writer) error { return put(w, "f", 1<<62, zeroes{}) }),
	}
	for name, bomb := range bombs {
		err := discard(t, bomb, options(16*mib))
		var tooSmall *ext4.TooSmallError
		if !errors.As(err, &tooSmall) || !tooSmall.AtLeast || !strings.Contains(err.Error(), "more than 1088 MiB, this one has 16 MiB") {
			t.Errorf("%s: the error is %v", name, err)
		}
	}
	opts := options(1 << 40)
	opts.MaxEntries = 1000
	err := discard(t, stream(t, func(w *tar.Writer) error {
		for i := 0; ; i++ {
			if err := put(w, fmt.Sprintf("f%d", i), 0, nil); err != nil {
				return err
			}
		}
	}), opts)
	if !errdefs.Is(err, errdefs.ResourceExhausted) || !strings.Contains(err.Error(), "more than 1000 entries") {
		t.Errorf("entries without end: the error is %v", err)
	}
	// Names that are long.
	err = discard(t, stream(t, func(w *tar.Writer) error {
		for i := 0; ; i++ {
			if err := put(w, fmt.Sprintf("%0200d", i), 0, nil); err != nil {
				return err
			}
		}
	}), opts)
	if !errdefs.Is(err, errdefs.ResourceExhausted) || !strings.Contains(err.Error(), "take more than 100000 bytes") {
		t.Errorf("long names without end: the error is %v", err)
	}
	// One entry that makes many directories.
	if err := discard(t, archive(t, regular(strings.Repeat("d/", 1500)+"f", "")), opts); !errdefs.Is(err, errdefs.ResourceExhausted) {
		t.Errorf("directories without end: the error is %v", err)
	}
}

func TestBadEntriesAreNamed(t *testing.T) {
	t.Parallel()
	for want, files := range map[string][]file{
		`archive entry "../etc/passwd": the path "../etc/passwd" leads out of the archive`:      {regular("../etc/passwd", "x")},
		`archive entry "a/../../b": the path "a/../../b" leads out of the archive`:              {regular("a/../../b", "x")},
		`archive entry "l": the path "../x" leads out of the archive`:                           {hardlink("l", "../x")},
		`archive entry "l": it is a hard link to "nowhere", which does not come before it`:      {hardlink("l", "nowhere")},
		`archive entry "l": it is a hard link to "d", which is a directory`:                     {dir("d"), hardlink("l", "d")},
		`archive entry "d": a directory has this name already`:                                  {dir("d"), regular("d", "x")},
		`archive entry "f/": a file has this name already`:                                      {regular("f", "x"), dir("f/")},
		`archive entry "f/x": "f" is not a directory`:                                           {symlink("f", "/tmp"), regular("f/x", "x")},
		`archive entry ".": it names the root, which must be a directory`:                       {symlink(".", "x")},
		`archive entry "c": its device is 4096:0: numbers go up to 4095:1048575`:                {device("c", tar.TypeChar, 4096, 0)},
		`archive entry "f": its extended attribute "user.x" with 5000 bytes has no room`:        {regular("f", "").xattr("user.x", strings.Repeat("x", 5000))},
		`is not one that Linux allows`:                                                          {regular("f", "").xattr("user."+strings.Repeat("x", 255), "x")},
		`archive entry "f": its extended attribute "system.posix_acl_access": it is not an ACL`: {regular("f", "").xattr("system.posix_acl_access", "x")},
		`archive entry "s": it is a symbolic link to nothing`:                                   {symlink("s", "")},
		`archive entry "s": its target has 4096 bytes, more than the 4095 that Linux allows`:    {symlink("s", strings.Repeat("x", 4096))},
		`has 256 bytes, more than 255`:                                                          {regular(strings.Repeat("n", 256), "")},
		`has 5001 bytes, more than the 4095 that Linux allows`:                                  {regular(strings.Repeat("n/", 2500)+"f", "")},
	} {
		err := discard(t, archive(t, files...), options(64*mib))
		if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, it should be %s", err, want)
		}
	}
}

func TestBrokenArchivesAreInvalid(t *testing.T) {
	t.Parallel()
	whole := archive(t, regular("f", strings.Repeat("x", 100_000))).Bytes()
	unavailable := errdefs.New(errdefs.Unavailable, "the registry is gone")
	for name, tc := range map[string]struct {
		tarball io.Reader
		kind    errdefs.Kind
	}{
		"cut off in a header":  {bytes.NewReader(whole[:100]), errdefs.InvalidArgument},
		"cut off in a file":    {bytes.NewReader(whole[:50_000]), errdefs.InvalidArgument},
		"no archive":           {strings.NewReader(strings.Repeat("not a tar", 1000)), errdefs.InvalidArgument},
		"an unknown error":     {io.MultiReader(bytes.NewReader(whole[:50_000]), failing{errors.New("broken")}), errdefs.Unavailable},
		"an error with a kind": {io.MultiReader(bytes.NewReader(whole[:50_000]), failing{unavailable}), errdefs.Unavailable},
		"denied":               {failing{errdefs.New(errdefs.PermissionDenied, "no")}, errdefs.PermissionDenied},
	} {
		if err := discard(t, tc.tarball, options(64*mib)); !errdefs.Is(err, tc.kind) {
			t.Errorf("%s: the error is %v of the kind %s, which should be %s", name, err, errdefs.KindOf(err), tc.kind)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*ext4.Options){
		"the size of a disk is 0 bytes":       func(o *ext4.Options) { o.Size = 0 },
		"the size of a disk is 1048577 bytes": func(o *ext4.Options) { o.Size = mib + 1 },
		"at most 2 TiB":                       func(o *ext4.Options) { o.Size = 2<<40 + mib },
		`the label "seventeen-bytes--" of a`:  func(o *ext4.Options) { o.Label = "seventeen-bytes--" },
		"the UUID of a filesystem is zero":    func(o *ext4.Options) { o.UUID = [16]byte{} },
		"the limit of entries is -1":          func(o *ext4.Options) { o.MaxEntries = -1 },
	} {
		opts := options(64 * mib)
		change(&opts)
		if err := discard(t, archive(t), opts); !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, it should say %s", err, want)
		}
	}
}

// faulty is a file whose writes fail behind a number of bytes.
type faulty struct {
	limit int64
	err   error
}

func (f faulty) WriteAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > f.limit {
		return 0, f.err
	}
	return len(b), nil
}

func TestAFullPlaceIsToldFromABrokenOne(t *testing.T) {
	t.Parallel()
	tarball := archive(t, regular("f", strings.Repeat("x", 10*mib))).Bytes()
	for err, kind := range map[error]errdefs.Kind{syscall.ENOSPC: errdefs.ResourceExhausted, syscall.EIO: errdefs.Internal} {
		for _, limit := range []int64{0, 3 * mib, 10 * mib} {
			_, got := ext4.Write(t.Context(), bytes.NewReader(tarball), faulty{limit, err}, options(64*mib))
			if !errdefs.Is(got, kind) || !errors.Is(got, err) {
				t.Errorf("%v behind %d bytes gives %v", err, limit, got)
			}
		}
	}
}

func TestWriteEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	endless := stream(t, func(w *tar.Writer) error {
		if err := put(w, "first", 1, newPattern()); err != nil {
			return err
		}
		cancel()
		return put(w, "endless", 1<<39, newPattern())
	})
	_, err := ext4.Write(ctx, endless, faulty{limit: 1 << 40}, options(1<<40))
	if !errdefs.Is(err, errdefs.Canceled) || !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

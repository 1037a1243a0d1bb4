// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vmdk"
)

const (
	mib   = 1 << 20
	grain = 64 << 10
)

var identity = vmdk.Identity{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0xab, 0xcd, 0xef, 0x01}

func options(capacity int64) vmdk.Options {
	return vmdk.Options{Capacity: capacity, Identity: identity}
}

// halfRandom yields bytes of which half are random and half are text.
func halfRandom(size int) []byte {
	b := bytes.Repeat([]byte("some text which repeats itself. "), size/32+1)[:size]
	random := rand.NewChaCha8([32]byte{7})
	for at := 0; at+4096 <= size; at += 8192 {
		random.Read(b[at : at+4096])
	}
	return b
}

// spread returns bytes of which every tenth grain has content, and the last byte.
func spread(size int) []byte {
	b := make([]byte, size)
	for at := 0; at < size; at += 10 * grain {
		copy(b[at:], "content")
	}
	b[size-1] = 1
	return b
}

func isZero(b []byte) bool { return bytes.Equal(b, make([]byte, len(b))) }

// raws are prefixes of disks that are difficult in some way.
func raws() map[string]struct {
	raw      []byte
	capacity int64
} {
	scattered := make([]byte, 70*mib)
	for _, at := range []int{0, grain - 1, 3 * grain, 33*mib + 5, 64*mib - 1, 69 * mib} {
		scattered[at] = byte(at) | 1
	}
	return map[string]struct {
		raw      []byte
		capacity int64
	}{
		"nothing":              {nil, 64 * mib},
		"only zeroes":          {make([]byte, 3*mib), 64 * mib},
		"one byte":             {[]byte{1}, 512},
		"half random":          {halfRandom(6 * mib), 8 << 30},
		"random":               {halfRandom(4096 * 3)[:4096], 10 * mib},
		"scattered":            {scattered, 70 * mib},
		"a partial grain":      {halfRandom(mib + 4096), mib + 4096},
		"a partial sector":     {halfRandom(mib + 77), 2 * mib},
		"an odd capacity":      {halfRandom(grain * 3), 3*grain + 512},
		"exactly one table":    {spread(32 * mib), 32 * mib},
		"one more than that":   {spread(32*mib + 512), 32*mib + 512},
		"a large disk":         {halfRandom(mib), 2 << 40},
		"the largest of disks": {halfRandom(grain), 62 << 40},
	}
}

// variant is a way to make a VMDK.
type variant func(ctx context.Context, name string, raw io.ReaderAt, size int64, opts vmdk.Options) (vmdk.Result, error)

func variants() map[string]variant {
	return map[string]variant{
		"tables in front": func(ctx context.Context, name string, raw io.ReaderAt, size int64, opts vmdk.Options) (vmdk.Result, error) {
			f, err := os.Create(name)
			if err != nil {
				return vmdk.Result{}, err
			}
			defer f.Close()
			return vmdk.WriteFile(ctx, f, raw, size, opts)
		},
		"stream": func(ctx context.Context, name string, raw io.ReaderAt, size int64, opts vmdk.Options) (vmdk.Result, error) {
			f, err := os.Create(name)
			if err != nil {
				return vmdk.Result{}, err
			}
			defer f.Close()
			return vmdk.WriteStream(ctx, f, raw, size, opts)
		},
	}
}

// qemuImg runs a program that is missed rather than skipped: the scripts that run
// tests install it.
func qemuImg(t testing.TB, args ...string) []byte {
	t.Helper()
	program, err := exec.LookPath("qemu-img")
	if err != nil {
		t.Fatal("qemu-img is missing, install the Debian package qemu-utils: hack/prerequisites.sh does")
	}
	out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput()
	if err != nil {
		t.Errorf("qemu-img %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

func TestADiskComesBackAsItWas(t *testing.T) {
	t.Parallel()
	for name, tc := range raws() {
		for kind, write := range variants() {
			t.Run(name+", "+kind, func(t *testing.T) {
				t.Parallel()
				file := filepath.Join(t.TempDir(), "disk.vmdk")
				result, err := write(t.Context(), file, bytes.NewReader(tc.raw), int64(len(tc.raw)), options(tc.capacity))
				if err != nil {
					t.Fatal(err)
				}
				sameAsRaw(t, file, result, tc.raw, tc.capacity)
				sameForQemu(t, file, tc.raw, tc.capacity)
			})
		}
	}
}

func sameAsRaw(t *testing.T, file string, result vmdk.Result, raw []byte, capacity int64) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if info.Size() != result.Bytes || result.Bytes%512 != 0 {
		t.Errorf("the file has %d bytes, the result is %+v", info.Size(), result)
	}
	disk, err := vmdk.Open(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	if disk.Capacity != capacity {
		t.Errorf("the capacity is %d instead of %d", disk.Capacity, capacity)
	}
	whole := io.NewSectionReader(disk, 0, min(capacity, int64(len(raw))+20*mib))
	got := make([]byte, len(raw))
	if _, err := io.ReadFull(whole, got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, raw) {
		t.Error("the content differs")
	}
	rest, err := io.ReadAll(whole)
	if err != nil || !isZero(rest) || int64(len(rest)) != min(capacity-int64(len(raw)), 20*mib) {
		t.Errorf("behind the content are %d bytes, and not all are zero, or %v", len(rest), err)
	}
	var grains []int64
	for at := 0; at < len(raw); at += grain {
		if !isZero(raw[at:min(at+grain, len(raw))]) {
			grains = append(grains, int64(at))
		}
	}
	if result.Grains != int64(len(grains)) {
		t.Errorf("%d grains were written instead of %d", result.Grains, len(grains))
	}
	if diff := cmp.Diff(grains, grainsOf(t, disk)); diff != "" {
		t.Errorf("where grains are (-want +got):\n%s", diff)
	}
}

// grainsOf are the places of all grains that a disk has.
func grainsOf(t *testing.T, disk *vmdk.Disk) (places []int64) {
	t.Helper()
	for at := int64(0); ; at += grain {
		next, err := disk.Next(at)
		if err != nil {
			t.Fatal(err)
		}
		if at = next; at == disk.Capacity {
			return places
		}
		places = append(places, at)
	}
}

func sameForQemu(t *testing.T, file string, raw []byte, capacity int64) {
	t.Helper()
	rawFile := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(rawFile, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(rawFile, capacity); err != nil {
		if errors.Is(err, syscall.EFBIG) {
			return // no file of the test's place can be that large
		}
		t.Fatal(err)
	}
	qemuImg(t, "check", "-f", "vmdk", file)
	if capacity <= 64<<30 { // it looks at every grain: minutes for more
		qemuImg(t, "compare", "-f", "vmdk", "-F", "raw", file, rawFile)
	}
	var info struct {
		VirtualSize int64 `json:"virtual-size"`
		Specific    struct {
			Data struct {
				Type      string `json:"create-type"`
				CID       uint32 `json:"cid"`
				ParentCID uint32 `json:"parent-cid"`
			} `json:"data"`
		} `json:"format-specific"`
	}
	if err := json.Unmarshal(qemuImg(t, "info", "--output=json", "-f", "vmdk", file), &info); err != nil {
		t.Fatal(err)
	}
	if data := info.Specific.Data; info.VirtualSize != capacity || data.Type != "streamOptimized" || data.CID != 0xabcdef01 || data.ParentCID != 0xffffffff {
		t.Errorf("qemu-img sees %+v", info)
	}
}

// A grain in the file begins at a sector and says where it belongs; markers are
// whole sectors. An importer reads nothing else.
func TestGrainsAndMarkersFollowEachOther(t *testing.T) {
	t.Parallel()
	raw := spread(33 * mib)
	copy(raw[grain:], halfRandom(12*grain))
	clear(raw[5*grain : 9*grain])
	for kind, want := range map[string]string{"tables in front": "end 0", "stream": "table 4, table 4, directory 2, footer 1, end 0"} {
		file := filepath.Join(t.TempDir(), "disk.vmdk")
		if _, err := variants()[kind](t.Context(), file, bytes.NewReader(raw), int64(len(raw)), options(8<<30)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		le := binary.LittleEndian
		overhead := le.Uint64(b[64:])
		var markers []string
		next := uint64(0)
		for b = b[overhead*512:]; len(b) > 0; {
			value, size := le.Uint64(b), int(le.Uint32(b[8:]))
			if size > 0 {
				if value < next || value%128 != 0 || value >= 5*128 && value < 9*128 {
					t.Errorf("%s: a grain for sector %d comes behind the one before %d", kind, value, next)
				}
				next = value + 128
				b = b[(12+size+511)/512*512:]
				continue
			}
			markers = append(markers, fmt.Sprintf("%s %d", []string{"end", "table", "directory", "footer"}[le.Uint32(b[12:])], value))
			b = b[512*(1+value):]
		}
		if got := strings.Join(markers, ", "); got != want {
			t.Errorf("%s: the markers are %s instead of %s", kind, got, want)
		}
	}
}

func TestTheSameDiskGivesTheSameBytes(t *testing.T) {
	t.Parallel()
	raw := halfRandom(3 * mib)
	for kind, write := range variants() {
		var sums [2][32]byte
		for i := range sums {
			file := filepath.Join(t.TempDir(), "disk.vmdk")
			if _, err := write(t.Context(), file, bytes.NewReader(raw), int64(len(raw)), options(64*mib)); err != nil {
				t.Fatal(err)
			}
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			sums[i] = sha256.Sum256(b)
		}
		if sums[0] != sums[1] {
			t.Errorf("%s: the digests are %x", kind, sums)
		}
	}
}

func TestALargeEmptyDiskIsSmall(t *testing.T) {
	t.Parallel()
	for kind, write := range variants() {
		result, err := write(t.Context(), filepath.Join(t.TempDir(), "disk.vmdk"), bytes.NewReader(halfRandom(grain)), grain, options(2<<40))
		if err != nil {
			t.Fatal(err)
		}
		// The grain directory alone has 256 KiB.
		if result.Bytes > 400<<10 {
			t.Errorf("%s: one grain of a disk of 2 TiB takes %d bytes", kind, result.Bytes)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*vmdk.Options, *int64){
		"the capacity of a disk is 0 bytes":                  func(o *vmdk.Options, _ *int64) { o.Capacity = 0 },
		"the capacity of a disk is 1000 bytes":               func(o *vmdk.Options, _ *int64) { o.Capacity = 1000 },
		"at most 62 TiB":                                     func(o *vmdk.Options, _ *int64) { o.Capacity = 63 << 40 },
		"the identity of a disk is zero":                     func(o *vmdk.Options, _ *int64) { o.Identity = vmdk.Identity{} },
		"the compression level is 10: it goes from 1 to 9":   func(o *vmdk.Options, _ *int64) { o.Level = 10 },
		"the compression level is -2":                        func(o *vmdk.Options, _ *int64) { o.Level = -2 },
		"a disk of 1048576 bytes is made from 1048577 bytes": func(_ *vmdk.Options, size *int64) { *size = mib + 1 },
		"a disk of 1048576 bytes is made from -1 bytes":      func(_ *vmdk.Options, size *int64) { *size = -1 },
	} {
		for _, write := range variants() {
			opts, size := options(mib), int64(0)
			change(&opts, &size)
			_, err := write(t.Context(), filepath.Join(t.TempDir(), "disk.vmdk"), bytes.NewReader(nil), size, opts)
			if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), want) {
				t.Errorf("the error is %v, it should say %s", err, want)
			}
		}
	}
}

// faulty is a file whose writes fail behind a number of bytes.
type faulty struct {
	limit, at int64
	err       error
}

func (f *faulty) Truncate(int64) error { return nil }

func (f *faulty) WriteAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > f.limit {
		return 0, f.err
	}
	return len(b), nil
}

func (f *faulty) Write(b []byte) (int, error) {
	n, err := f.WriteAt(b, f.at)
	f.at += int64(n)
	return n, err
}

// reader fails behind a number of bytes.
type reader struct {
	io.ReaderAt
	limit int64
	err   error
}

func (r reader) ReadAt(b []byte, at int64) (int, error) {
	if at+int64(len(b)) > r.limit {
		return 0, r.err
	}
	return r.ReaderAt.ReadAt(b, at)
}

func TestErrorsKeepTheirKind(t *testing.T) {
	t.Parallel()
	raw := halfRandom(6 * mib)
	size := int64(len(raw))
	write := map[string]func(f *faulty, r io.ReaderAt, size int64) error{
		"file": func(f *faulty, r io.ReaderAt, size int64) error {
			_, err := vmdk.WriteFile(t.Context(), f, r, size, options(64*mib))
			return err
		},
		"stream": func(f *faulty, r io.ReaderAt, size int64) error {
			_, err := vmdk.WriteStream(t.Context(), f, r, size, options(64*mib))
			return err
		},
	}
	gone := errdefs.New(errdefs.NotFound, "gone")
	for kind, write := range write {
		for _, limit := range []int64{0, 20 << 10, mib, 2 * mib} {
			for want, err := range map[errdefs.Kind]error{errdefs.ResourceExhausted: syscall.ENOSPC, errdefs.Internal: syscall.EIO, errdefs.Canceled: context.Canceled, errdefs.NotFound: gone} {
				if got := write(&faulty{limit: limit, err: err}, bytes.NewReader(raw), size); !errdefs.Is(got, want) || !errors.Is(got, err) {
					t.Errorf("%s: writing fails with %v behind %d bytes: %v", kind, err, limit, got)
				}
			}
		}
		whole := &faulty{limit: 1 << 40}
		for want, err := range map[errdefs.Kind]error{errdefs.Unavailable: syscall.EIO, errdefs.NotFound: gone} {
			if got := write(whole, reader{bytes.NewReader(raw), 3 * mib, err}, size); !errdefs.Is(got, want) || !errors.Is(got, err) {
				t.Errorf("%s: reading fails with %v: %v", kind, err, got)
			}
		}
		if got := write(whole, bytes.NewReader(raw), size+1); !errdefs.Is(got, errdefs.InvalidArgument) {
			t.Errorf("%s: the disk is shorter than said: %v", kind, got)
		}
	}
}

func TestWritingEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for kind, write := range variants() {
		_, err := write(ctx, filepath.Join(t.TempDir(), "disk.vmdk"), bytes.NewReader(halfRandom(mib)), mib, options(mib))
		if !errdefs.Is(err, errdefs.Canceled) {
			t.Errorf("%s: the error is %v", kind, err)
		}
	}
}

// The header is written last: before that nothing takes the file for a disk.
func TestAFileThatIsCutOffIsNoDisk(t *testing.T) {
	t.Parallel()
	raw := halfRandom(10 * mib)
	name := filepath.Join(t.TempDir(), "disk.vmdk")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	_, err = vmdk.WriteFile(t.Context(), f, reader{bytes.NewReader(raw), 9 * mib, syscall.EIO}, 10*mib, options(64*mib))
	if err == nil {
		t.Fatal("there is no error")
	}
	if _, err := vmdk.Open(f, 20*mib); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("opening gives %v", err)
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vmdk_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/vmdk"
)

// small returns two disks of 40 MiB with two grains, of both variants.
func small(t testing.TB) [][]byte {
	t.Helper()
	raw := make([]byte, 40*mib)
	copy(raw[grain:], "text")
	copy(raw[39*mib:], "more")
	var both [][]byte
	for _, write := range variants() {
		name := filepath.Join(t.TempDir(), "disk.vmdk")
		if _, err := write(context.Background(), name, bytes.NewReader(raw), int64(len(raw)), options(40*mib)); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, b)
	}
	return both
}

func readAll(b []byte) error {
	disk, err := vmdk.Open(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, io.NewSectionReader(disk, 0, min(disk.Capacity, 64*mib)))
	return err
}

func TestDamageIsFound(t *testing.T) {
	t.Parallel()
	for _, whole := range small(t) {
		if err := readAll(whole); err != nil {
			t.Fatal(err)
		}
		le := binary.LittleEndian
		data := int(le.Uint64(whole[64:])) * 512
		for what, damage := range map[string]func(b []byte) []byte{
			"no bytes":             func([]byte) []byte { return nil },
			"only a header":        func(b []byte) []byte { return b[:512] },
			"cut off":              func(b []byte) []byte { return b[:len(b)-512] },
			"another magic":        func(b []byte) []byte { b[0] = 'X'; return b },
			"version 1":            func(b []byte) []byte { b[4] = 1; return b },
			"sent as text":         func(b []byte) []byte { b[75] = '\n'; return b },
			"a capacity too large": func(b []byte) []byte { le.PutUint64(b[12:], 1<<50); return b },
			"no capacity":          func(b []byte) []byte { le.PutUint64(b[12:], 0); return b },
			"another type": func(b []byte) []byte {
				return bytes.Replace(b, []byte("streamOptimized"), []byte("monolithicSpars"), 1)
			},
			"a grain elsewhere":   func(b []byte) []byte { b[data]++; return b },
			"a grain too long":    func(b []byte) []byte { le.PutUint32(b[data+8:], 1<<30); return b },
			"a grain with a flaw": func(b []byte) []byte { b[data+20] ^= 0x55; return b },
			"a wrong checksum":    func(b []byte) []byte { b[data+12+int(le.Uint32(b[data+8:]))-1]++; return b },
			"no zlib":             func(b []byte) []byte { b[data+12] = 0; return b },
		} {
			err := readAll(damage(bytes.Clone(whole)))
			// What is behind the end marker is not looked at with tables in front.
			if what == "cut off" && le.Uint64(whole[56:]) < 1<<32 {
				continue
			}
			if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.HasPrefix(err.Error(), "reading a VMDK") {
				t.Errorf("%s: the error is %v", what, err)
			}
		}
	}
}

// Whatever a file holds, reading it ends, with an error of a kind if need be. The
// input is what is changed on a good disk: places and bytes.
func FuzzOpen(f *testing.F) {
	both := small(f)
	f.Add([]byte{0, 0, 0, 4, 1})
	f.Add([]byte{1, 0, 0, 0, 56, 0, 0, 2, 8, 255})
	f.Fuzz(func(t *testing.T, changes []byte) {
		for _, whole := range both {
			b := bytes.Clone(whole)
			for rest := changes; len(rest) >= 4; rest = rest[4:] {
				at := int(rest[0])<<16 | int(rest[1])<<8 | int(rest[2])
				b[at%len(b)] = rest[3]
			}
			if err := readAll(b); err != nil && !errdefs.Is(err, errdefs.InvalidArgument) {
				t.Errorf("the error is %v", err)
			}
		}
	})
}

// 200 MB of data, half of it random, on a disk of 8 GiB.
func BenchmarkWriteFile(b *testing.B) {
	raw := halfRandom(200_000_000)
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		f, err := os.Create(filepath.Join(b.TempDir(), "disk.vmdk"))
		if err != nil {
			b.Fatal(err)
		}
		result, err := vmdk.WriteFile(context.Background(), f, bytes.NewReader(raw), int64(len(raw)), options(8<<30))
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(100*float64(result.Bytes)/float64(len(raw)), "%size")
		f.Close()
		os.Remove(f.Name())
	}
}

func BenchmarkRead(b *testing.B) {
	raw := halfRandom(64 * mib)
	var out bytes.Buffer
	result, err := vmdk.WriteStream(context.Background(), &out, bytes.NewReader(raw), int64(len(raw)), options(8<<30))
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		disk, err := vmdk.Open(bytes.NewReader(out.Bytes()), result.Bytes)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, io.NewSectionReader(disk, 0, int64(len(raw)))); err != nil {
			b.Fatal(err)
		}
	}
}

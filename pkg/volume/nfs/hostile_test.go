// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/nfs"
)

// everything calls all methods that ask the server, and returns their errors.
func everything(w *world) map[string]error {
	errs := map[string]error{}
	s := w.store()
	_, errs["create"] = s.Create(w.Context(), request("new"))
	_, errs["get"] = s.Get(w.Context(), "data")
	_, errs["list"] = s.List(w.Context())
	errs["remove"] = s.Remove(w.Context(), "data")
	_, errs["leftovers"] = s.Leftovers(w.Context())
	return errs
}

// Whatever an answer is in place of the right one, it is an error and nothing else.
func TestAnswersThatAreNoneAreErrors(t *testing.T) {
	t.Parallel()
	word := func(words ...uint32) []byte {
		var b []byte
		for _, v := range words {
			b = binary.BigEndian.AppendUint32(b, v)
		}
		return b
	}
	answers := map[string]func(c nfs.Call) []byte{
		"nothing but a mark":           func(nfs.Call) []byte { return word(1 << 31) },
		"garbage":                      func(nfs.Call) []byte { return bytes.Repeat([]byte("\xffgarbage"), 100) },
		"a record of two gigabytes":    func(nfs.Call) []byte { return word(0xffffffff, 1, 2, 3) },
		"fragments without end":        func(nfs.Call) []byte { return make([]byte, 8*maxFragments) },
		"many large fragments":         func(nfs.Call) []byte { return bytes.Repeat(append(word(1<<16), make([]byte, 1<<16)...), 8) },
		"the answer to something else": func(nfs.Call) []byte { return nfs.Marked(word(0xabcdef, 1, 0, 0, 0, 0, 0)) },
		"a call":                       func(c nfs.Call) []byte { a := c.Accepted(word(0)); a[7] = 0; return nfs.Marked(a) },
		"no results":                   func(c nfs.Call) []byte { return nfs.Marked(c.Accepted(nil)) },
		"success and no more":          func(c nfs.Call) []byte { return nfs.Marked(c.Accepted(word(0))) },
		"lengths that are not there":   func(c nfs.Call) []byte { return nfs.Marked(c.Accepted(word(0, 0xffffffff, 0xffffffff, 0xffffffff))) },
		"a verifier of four gigabytes": func(c nfs.Call) []byte {
			a := c.Accepted(word(0))
			copy(a[16:], word(0xffffffff))
			return nfs.Marked(a)
		},
		"neither true nor false": func(c nfs.Call) []byte { return nfs.Marked(c.Accepted(append(word(0), bytes.Repeat(word(2), 100)...))) },
		"all ones": func(c nfs.Call) []byte {
			return nfs.Marked(c.Accepted(append(word(0), bytes.Repeat([]byte{0xff}, 1000)...)))
		},
		"a denial": func(c nfs.Call) []byte {
			a := c.Accepted(word(0))
			copy(a[8:], word(1, 1, 5))
			return nfs.Marked(a)
		},
		"a denial of the version": func(c nfs.Call) []byte {
			a := c.Accepted(word(0))
			copy(a[8:], word(1, 0, 2, 2))
			return nfs.Marked(a)
		},
		"no such program": func(c nfs.Call) []byte {
			a := c.Accepted(nil)
			copy(a[20:], word(1))
			return nfs.Marked(a)
		},
	}
	for name, answer := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, procedure := range []string{"MNT", "LOOKUP", "GETATTR", "READDIRPLUS", "READ", "CREATE", "MKDIR", "WRITE", "RENAME"} {
				w := newServed(t, nfs.Options{})
				w.create("data")
				w.server.SetFault(func(c nfs.Call) nfs.Action {
					if c.Procedure != procedure {
						return nfs.Pass()
					}
					return nfs.Raw(answer(c))
				})
				failed := 0
				for what, err := range everything(w) {
					if err == nil {
						continue
					}
					failed++
					if kind := errdefs.KindOf(err); kind == errdefs.Unknown || kind == errdefs.NotFound || kind == errdefs.AlreadyExists {
						t.Errorf("%s with %s to %s: %v of kind %s", what, name, procedure, err, kind)
					}
				}
				// Of RENAME nothing but the status is read, and GETATTR is rare.
				if failed == 0 && procedure != "RENAME" && procedure != "GETATTR" {
					t.Errorf("%s to %s is no error", name, procedure)
				}
			}
		})
	}
}

// page is an answer to READDIRPLUS with entries that have a name and number.
func directoryPage(c nfs.Call, names []string, cookie uint64, end uint32) []byte {
	var e encoder
	e.uint32(0) // success,
	e.uint32(0) // no attributes
	e.uint64(1)
	for _, name := range names {
		cookie++
		e.uint32(1)
		e.uint64(cookie)
		e.text(name)
		e.uint64(cookie)
		e.uint32(0)
		e.uint32(0)
	}
	e.uint32(0)
	e.uint32(end)
	return nfs.Marked(c.Accepted(e))
}

// A directory without end is an error, and takes little memory.
func TestADirectoryWithoutEndIsAnError(t *testing.T) {
	w := newServed(t, nfs.Options{})
	w.create("data")
	names := make([]string, 100)
	for i := range names {
		names[i] = strings.Repeat("n", maxName)
	}
	for what, page := range map[string]func(nfs.Call) []byte{
		"the same page again and again": func(c nfs.Call) []byte { return directoryPage(c, names, 0, 0) },
		"no entries and no end":         func(c nfs.Call) []byte { return directoryPage(c, nil, 0, 0) },
		"only itself":                   func(c nfs.Call) []byte { return directoryPage(c, []string{".", ".."}, 0, 0) },
	} {
		w.server.SetFault(func(c nfs.Call) nfs.Action {
			if c.Procedure == "READDIRPLUS" {
				return nfs.Raw(page(c))
			}
			return nfs.Pass()
		})
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		if _, err := w.store().List(t.Context()); err == nil {
			t.Errorf("%s is no error", what)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		if grown := int64(after.HeapInuse) - int64(before.HeapInuse); grown > 64<<20 {
			t.Errorf("%s took %d bytes that stay", what, grown)
		}
	}
}

// A tree without bottom is an error, too, and so are files that come again.
func TestATreeWithoutBottomIsAnError(t *testing.T) {
	t.Parallel()
	for what, fault := range map[string]nfs.Fault{
		"a directory in a directory in a directory": func(c nfs.Call) nfs.Action {
			switch c.Procedure {
			case "RMDIR":
				return nfs.Answer(nfs.NOTEMPTY)
			case "READDIRPLUS":
				return nfs.Raw(directoryPage(c, []string{"d"}, 0, 1))
			case "LOOKUP":
				if bytes.Contains(c.Args(), []byte("\x00\x00\x00\x01d")) {
					var e encoder
					e.uint32(0)
					e.text("some")
					e.uint32(1)
					e.uint32(typeDirectory)
					e = append(e, make([]byte, 80)...)
					e.uint32(0)
					return nfs.Raw(nfs.Marked(c.Accepted(e)))
				}
			}
			return nfs.Pass()
		},
		"a directory that is empty and not": nfs.On(nfs.Answer(nfs.NOTEMPTY), "RMDIR"),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			w := newServed(t, nfs.Options{})
			w.create("data")
			w.server.SetFault(fault)
			if err := w.store().Remove(t.Context(), "data"); err == nil {
				t.Error("no error")
			}
			w.server.SetFault(nil)
			if w.wantWhole("data") {
				t.Error("the volume is there")
			}
			w.clean()
			if files := w.Files(); len(files) != 0 {
				t.Errorf("left is %q", files)
			}
		})
	}
}

func TestMetadataThatAreTooLargeAreDamage(t *testing.T) {
	t.Parallel()
	w := newServed(t, nfs.Options{})
	w.Damage("data", noJSON)
	large := append(bytes.Repeat([]byte(" "), volume.MaxMetadata), "{}"...)
	w.writeMetadata("data", large)
	v, err := w.store().Get(t.Context(), "data")
	if err != nil || v.Damage == "" {
		t.Errorf("get: %+v, %v", v, err)
	}
	w.writeMetadata("data", large[2:])
	if v, err = w.store().Get(t.Context(), "data"); err != nil || v.Damage != "" {
		t.Errorf("just not too large: %+v, %v", v, err)
	}
	r := request("new")
	r.Metadata.Image = string(large)
	if _, err := w.store().Create(t.Context(), r); !errdefs.Is(err, errdefs.InvalidArgument) {
		t.Errorf("create: %v", err)
	}
}

// FuzzAnswers reads any bytes as every answer there is.
func FuzzAnswers(f *testing.F) {
	f.Add([]byte{})
	f.Add(bytes.Repeat([]byte{0xff}, 100))
	f.Add(append([]byte{0x80, 0, 0, 40}, make([]byte, 40)...))
	f.Add(append([]byte{0x80, 0, 0, 60, 0, 0, 0, 1, 0, 0, 0, 1}, make([]byte, 52)...))
	f.Add(append([]byte{0, 0, 0, 4, 1, 2, 3, 4, 0x80, 0, 0, 1}, 5))
	f.Fuzz(func(t *testing.T, answer []byte) {
		record, err := readRecord(bytes.NewReader(answer))
		if err == nil && len(record) > len(answer) {
			t.Errorf("%d bytes became %d", len(answer), len(record))
		}
		c := newConn(nil, nil, justDo)
		for _, b := range [][]byte{answer, record} {
			for _, read := range []func(d *decoder){
				func(d *decoder) {
					p := d.page()
					if d.failed && len(p.entries) > 0 || len(p.entries) > len(b)/28 {
						t.Errorf("%d entries of %d bytes", len(p.entries), len(b))
					}
				},
				func(d *decoder) { d.handle(); d.optionalAttributes() },
				func(d *decoder) { d.changes(); d.uint32() },
				func(d *decoder) { d.opaque(chunk); d.bool() },
			} {
				d := &decoder{rest: b}
				read(d)
				if d.failed && (d.err() == nil || d.uint32() != 0 || d.opaque(10) != nil) {
					t.Error("what failed goes on")
				}
			}
			if d, err := c.results(procedure{}, b); err == nil && d == nil {
				t.Error("neither results nor an error")
			}
		}
	})
}

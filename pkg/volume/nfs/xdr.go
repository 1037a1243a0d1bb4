// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"encoding/binary"
	"errors"
)

// errMalformed is that an answer is not what the protocol says.
var errMalformed = errors.New("the answer is malformed")

// encoder writes XDR (RFC 4506).
type encoder []byte

func (e *encoder) uint32(v uint32) { *e = binary.BigEndian.AppendUint32(*e, v) }
func (e *encoder) uint64(v uint64) { *e = binary.BigEndian.AppendUint64(*e, v) }

func (e *encoder) opaque(b []byte) {
	e.uint32(uint32(len(b))) //nolint:gosec // what we send is small
	*e = append(*e, b...)
	*e = append(*e, make([]byte, -len(b)&3)...)
}

func (e *encoder) text(s string) { e.opaque([]byte(s)) }

// decoder reads XDR. It never panics and allocates nothing that the answer does not
// have; once something is missing it has failed, and all that it returns is zero.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) fail() {
	d.rest, d.failed = nil, true
}

func (d *decoder) err() error {
	if d.failed {
		return errMalformed
	}
	return nil
}

func (d *decoder) take(n int) []byte {
	if d.failed || n < 0 || n > len(d.rest) {
		d.fail()
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// bool fails for what is neither true nor false: it would say that what follows
// is something else.
func (d *decoder) bool() bool {
	v := d.uint32()
	if v > 1 {
		d.fail()
	}
	return !d.failed && v == 1
}

// opaque returns bytes of the answer itself, at most limit of them.
func (d *decoder) opaque(limit uint32) []byte {
	n := d.uint32()
	if n > limit {
		d.fail()
		return nil
	}
	b := d.take(int(n))
	d.take(-int(n) & 3)
	if d.failed {
		return nil
	}
	return b
}

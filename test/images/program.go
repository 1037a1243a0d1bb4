// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"encoding/binary"
)

// program returns a static ELF executable for linux/amd64 that writes text to its
// standard output and then waits for signals, which do what they do by default.
func program(text string) string {
	const (
		base   = 0x400000
		header = 64 + 56 // ELF header and one program header
	)
	code := []byte{
		0xb8, 1, 0, 0, 0, // mov eax, SYS_write
		0xbf, 1, 0, 0, 0, // mov edi, 1
		0xbe, 0, 0, 0, 0, // mov esi, text
		0xba, 0, 0, 0, 0, // mov edx, its length
		0x0f, 0x05, // syscall
		0xb8, 34, 0, 0, 0, // wait: mov eax, SYS_pause
		0x0f, 0x05, // syscall
		0xeb, 0xf7, // jmp wait
	}
	size := header + len(code) + len(text)
	le := binary.LittleEndian
	le.PutUint32(code[11:], uint32(base+header+len(code)))
	le.PutUint32(code[16:], uint32(len(text)))
	file := make([]byte, header, size)
	copy(file, "\x7fELF\x02\x01\x01")    // 64 bits, little endian, version 1
	le.PutUint16(file[16:], 2)           // executable
	le.PutUint16(file[18:], 62)          // x86-64
	le.PutUint32(file[20:], 1)           // version
	le.PutUint64(file[24:], base+header) // where it begins
	le.PutUint64(file[32:], 64)          // program headers behind this one
	le.PutUint16(file[52:], 64)          // size of this header
	le.PutUint16(file[54:], 56)          // size of a program header
	le.PutUint16(file[56:], 1)           // how many
	le.PutUint32(file[64:], 1)           // a segment to load
	le.PutUint32(file[68:], 5)           // readable, executable
	le.PutUint64(file[80:], base)        // where to
	le.PutUint64(file[88:], base)        // the same
	le.PutUint64(file[96:], uint64(size))
	le.PutUint64(file[104:], uint64(size))
	le.PutUint64(file[112:], 0x1000) // alignment
	return string(append(append(file, code...), text...))
}

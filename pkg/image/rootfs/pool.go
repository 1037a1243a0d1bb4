// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootfs

// A pool holds values that are named by small numbers. It grows by chunks, so
// that growing copies nothing, and holds no pointers that a collector must follow.
type pool[T any] struct {
	chunks [][]T
	free   []uint32
	used   uint32 // numbers ever handed out
}

const (
	chunkBits = 12
	chunkSize = 1 << chunkBits
)

// at returns the value of a number. The pointer stays valid.
func (p *pool[T]) at(n uint32) *T { return &p.chunks[n>>chunkBits][n%chunkSize] }

// take returns the number of a zero value.
func (p *pool[T]) take() uint32 {
	if last := len(p.free) - 1; last >= 0 {
		n := p.free[last]
		p.free = p.free[:last]
		return n
	}
	n := p.used
	if n%chunkSize == 0 {
		p.chunks = append(p.chunks, make([]T, chunkSize))
	}
	p.used++
	return n
}

// give takes a number back.
func (p *pool[T]) give(n uint32) {
	var zero T
	*p.at(n) = zero
	p.free = append(p.free, n)
}

// texts holds short texts, each shorter than a block.
type texts struct{ blocks [][]byte }

const textBlock = 1 << 16

// add keeps a text and returns its place.
func (t *texts) add(s string) uint32 {
	last := len(t.blocks) - 1
	if last < 0 || len(t.blocks[last])+len(s) > textBlock {
		t.blocks = append(t.blocks, make([]byte, 0, textBlock))
		last++
	}
	at := len(t.blocks[last])
	t.blocks[last] = append(t.blocks[last], s...)
	return uint32(last)*textBlock + uint32(at) //nolint:gosec // MaxMemory is far below 4 GiB
}

// get returns the text of a length at a place. It must not be changed.
func (t *texts) get(at uint32, length int) []byte {
	start := int(at % textBlock)
	return t.blocks[at/textBlock][start : start+length]
}

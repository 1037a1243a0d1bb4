// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// chunkSize is how much of a file must be zero to become a hole.
	chunkSize = 256 << 10
	// maxExtent is how many blocks one extent tells.
	maxExtent = 32768
	// rootExtents and blockExtents are how many entries of an extent tree have
	// room in an inode, and in a block.
	rootExtents  = 4
	blockExtents = (blockSize - extentEntry) / extentEntry
	extentEntry  = 12
)

// extent is a piece of a file, in blocks.
type extent struct{ logical, physical, blocks uint32 }

// reserve makes sure that as many more blocks fit. When they do not, the rest of
// the archive is only counted, to say what size would do; and when it is a
// multiple of the disk, not even that.
func (w *writer) reserve(blocks int64) error {
	const patience, slack = 4, 1 << 30 / blockSize
	used := int64(w.out.block()) + w.holes
	total := w.opts.Size / blockSize
	if blocks > patience*total+slack-used {
		return tooSmall(&TooSmallError{Size: w.opts.Size, Need: patience*w.opts.Size + slack*blockSize, AtLeast: true})
	}
	if used+blocks > total {
		w.out.discard = true
	}
	return nil
}

func tooSmall(err *TooSmallError) error {
	return errdefs.Wrap(errdefs.InvalidArgument, err, "making an ext4 filesystem")
}

// addContent writes what a file contains.
func (w *writer) addContent(number uint32, name string, size int64, content io.Reader) error {
	if err := w.reserve(blocksOf(size)); err != nil {
		return err
	}
	n := w.node(number)
	n.size = size
	n.first = w.out.block()
	if w.out.discard {
		w.out.start += blocksOf(size) * blockSize
		return nil
	}
	extents, err := w.copyContent(name, size, content)
	if err != nil {
		return err
	}
	leaves := splitExtents(extents)
	if oneRun(extents) && len(leaves) <= rootExtents {
		n.blocks += w.out.block() - n.first
		return nil
	}
	root, err := w.extentTree(leaves)
	if err != nil {
		return err
	}
	w.inline[number] = root
	w.kept += len(root)
	n.blocks += w.out.block() - n.first
	return nil
}

// oneRun reports whether the extents of a file follow from where it begins.
func oneRun(extents []extent) bool {
	return len(extents) == 0 || len(extents) == 1 && extents[0].logical == 0
}

// copyContent writes the blocks of a file that are not zero.
func (w *writer) copyContent(name string, size int64, content io.Reader) ([]extent, error) {
	var extents []extent
	for done := int64(0); done < size; {
		if err := w.ctx.Err(); err != nil {
			return nil, writeError(err)
		}
		chunk := w.chunk[:min(chunkSize, size-done)]
		if _, err := io.ReadFull(content, chunk); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, errdefs.Wrap(errdefs.KindOf(w.archiveError(err)), w.archiveError(err), "archive entry %q", short(name))
		}
		blocks := uint32(blocksOf(int64(len(chunk)))) //nolint:gosec // at most 64
		logical := uint32(done / blockSize)
		done += int64(len(chunk))
		if isZero(chunk) {
			w.holes += int64(blocks)
			continue
		}
		physical := w.out.block()
		if last := len(extents) - 1; last >= 0 && extents[last].logical+extents[last].blocks == logical {
			extents[last].blocks += blocks
		} else {
			extents = append(extents, extent{logical, physical, blocks})
		}
		if err := w.out.write(chunk); err != nil {
			return nil, err
		}
		if err := w.out.pad(); err != nil {
			return nil, err
		}
	}
	return extents, nil
}

// isZero reports whether all bytes are 0: the first is, and each equals the next.
func isZero(b []byte) bool {
	return len(b) == 0 || b[0] == 0 && bytes.Equal(b[:len(b)-1], b[1:])
}

// splitExtents cuts extents so that none is too long.
func splitExtents(extents []extent) []extent {
	var leaves []extent
	for _, e := range extents {
		for e.blocks > maxExtent {
			leaves = append(leaves, extent{e.logical, e.physical, maxExtent})
			e = extent{e.logical + maxExtent, e.physical + maxExtent, e.blocks - maxExtent}
		}
		leaves = append(leaves, e)
	}
	return leaves
}

// extentTree writes the blocks of a tree over extents, and returns its root.
func (w *writer) extentTree(level []extent) ([]byte, error) {
	depth := uint16(0)
	for ; len(level) > rootExtents; depth++ {
		var above []extent
		for len(level) > 0 {
			n := min(len(level), blockExtents)
			above = append(above, extent{logical: level[0].logical, physical: w.out.block()})
			if err := w.out.write(extentNode(level[:n], depth, blockExtents)); err != nil {
				return nil, err
			}
			if err := w.out.pad(); err != nil {
				return nil, err
			}
			level = level[n:]
		}
		level = above
	}
	return extentNode(level, depth, rootExtents), nil
}

// extentNode encodes one node of an extent tree: extents at depth 0, else
// blocks of nodes of the depth below.
func extentNode(entries []extent, depth uint16, room int) []byte {
	le := binary.LittleEndian
	b := make([]byte, 0, extentEntry*(1+len(entries)))
	b = le.AppendUint16(b, extentMagic)
	b = le.AppendUint16(b, uint16(len(entries))) //nolint:gosec // at most 340
	b = le.AppendUint16(b, uint16(room))         //nolint:gosec // at most 340
	b = le.AppendUint16(b, depth)
	b = le.AppendUint32(b, 0)
	for _, e := range entries {
		b = le.AppendUint32(b, e.logical)
		if depth == 0 {
			b = le.AppendUint16(b, uint16(e.blocks)) //nolint:gosec // at most maxExtent
			b = le.AppendUint16(b, 0)
			b = le.AppendUint32(b, e.physical)
		} else {
			b = le.AppendUint32(b, e.physical)
			b = le.AppendUint32(b, 0)
		}
	}
	return b
}

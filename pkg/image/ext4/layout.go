// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package ext4

import "math"

const (
	// smallDisk is below which the journal is small.
	smallDisk           = 128 * mib
	smallJournalBlocks  = 4 * mib / blockSize
	normalJournalBlocks = 16 * mib / blockSize
	// worthAGroup is how much a last group must have beyond its own inode table.
	worthAGroup = 64
)

// layout says where everything is, in blocks.
type layout struct {
	// blocks is the size of the filesystem: of the disk without a rest at its
	// end that is too small for a group.
	blocks uint32
	groups uint32
	// inodes and tableBlocks are those of each group.
	inodes, tableBlocks uint32
	// usedTables is how many inode tables have content: those of the first groups.
	usedTables uint32
	// low is how many groups keep bitmaps and inode table in the prefix. They are
	// all groups that the prefix touches, or that have inodes in use.
	low uint32
	// apart says that the last group is behind the prefix. It is the only one
	// there whose bitmaps are in the prefix, since it may be short and then must
	// not be declared uninitialized.
	apart bool
	// bitmaps, the first block of the journal and the tables begin here. What is
	// behind the highest inode has no content: rest of the tables, rest of the
	// journal, spare, which are unused tables of low groups; end is behind these.
	bitmaps, journal, tables, rest, spare, end uint32
	journalBlocks                              uint32
	// highest is the highest inode.
	highest uint32
}

func groupsOf(size int64) uint32 {
	return uint32((blocksOf(size) + blocksPerGroup - 1) / blocksPerGroup) //nolint:gosec // at most MaxSize
}

func descriptorBlocks(groups uint32) uint32 {
	return (groups + descriptorsInBlock - 1) / descriptorsInBlock
}

// newLayout lays out a disk whose files and directories take content blocks, and
// whose highest inode is given. It reports whether they fit.
func newLayout(size, content int64, highest uint32) (layout, bool) {
	l := layout{blocks: uint32(size / blockSize), groups: groupsOf(size), journalBlocks: normalJournalBlocks, highest: highest} //nolint:gosec // at most MaxSize
	if size < smallDisk {
		l.journalBlocks = smallJournalBlocks
	}
	data := 1 + int64(descriptorBlocks(l.groups))
	l.chooseInodes(highest)
	if rest := l.blocks - (l.groups-1)*blocksPerGroup; l.groups > 1 && rest < l.tableBlocks+2+worthAGroup {
		l.groups--
		l.blocks = l.groups * blocksPerGroup
		l.chooseInodes(highest)
	}
	l.usedTables = (highest + l.inodes - 1) / l.inodes
	if l.usedTables > l.groups || data+content >= math.MaxUint32/2 {
		return l, false
	}
	l.bitmaps = uint32(data + content) //nolint:gosec // checked
	// More groups in the prefix make it longer, which may take more groups in.
	for low := l.usedTables; ; low++ {
		l.setLow(low)
		if int64(l.end) > int64(l.blocks) {
			return l, false
		}
		if l.low == l.groups || l.end <= l.low*blocksPerGroup {
			return l, true
		}
	}
}

// setLow places what depends on how many groups are low.
func (l *layout) setLow(low uint32) {
	l.low = low
	l.apart = low < l.groups
	l.journal = l.bitmaps + 2*low
	if l.apart {
		l.journal += 2
	}
	l.tables = l.journal + 1
	l.rest = l.tables + l.usedTables*l.tableBlocks
	l.spare = l.rest + l.journalBlocks - 1
	l.end = l.spare + (low-l.usedTables)*l.tableBlocks
}

// chooseInodes sets how many inodes a group has: the usual number, or more if
// that is not enough.
func (l *layout) chooseInodes(highest uint32) {
	l.inodes = min(inodesPerGroup, roundUp(l.blocks/(16384/blockSize)))
	if wanted := highest + highest/16 + inodesPerBlock; l.inodes < (wanted+l.groups-1)/l.groups {
		l.inodes = min(maxInodesPerGroup, roundUp((wanted+l.groups-1)/l.groups))
	}
	l.tableBlocks = l.inodes / inodesPerBlock
}

// roundUp returns a number of inodes that fills whole blocks.
func roundUp(inodes uint32) uint32 {
	return (inodes + inodesPerBlock - 1) / inodesPerBlock * inodesPerBlock
}

// prefix is the number of blocks that have content: up to the highest inode. Tables
// follow one another, and each has whole blocks.
func (l *layout) prefix() uint32 { return l.tables + (l.highest+inodesPerBlock-1)/inodesPerBlock }

// journalExtents are where the journal is: only its first block has content.
func (l *layout) journalExtents() []extent {
	return []extent{{0, l.journal, 1}, {1, l.rest, l.journalBlocks - 1}}
}

// descriptor returns where a group has its bitmaps and its inode table, and
// whether these are in the prefix.
func (l *layout) descriptor(group uint32) (d descriptor, initialized bool) {
	start := group * blocksPerGroup
	switch {
	case group < l.low:
		d.blockBitmap, d.inodeBitmap = l.bitmaps+2*group, l.bitmaps+2*group+1
		d.inodeTable = l.tables + group*l.tableBlocks
		if group >= l.usedTables {
			d.inodeTable = l.spare + (group-l.usedTables)*l.tableBlocks
		}
		return d, true
	case group == l.groups-1:
		d.blockBitmap, d.inodeBitmap, d.inodeTable = l.bitmaps+2*l.low, l.bitmaps+2*l.low+1, start
		return d, true
	}
	d.blockBitmap, d.inodeBitmap, d.inodeTable = start, start+1, start+2
	return d, false
}

// smallest returns the smallest size that fits.
func smallest(content int64, highest uint32) int64 {
	low, high := int64(0), int64(mib)
	fits := func(size int64) bool {
		_, ok := newLayout(size, content, highest)
		return ok
	}
	for ; !fits(high); high *= 2 {
		low = high
	}
	for high-low > mib {
		middle := (low + high) / 2 / mib * mib
		if fits(middle) {
			high = middle
		} else {
			low = middle
		}
	}
	return high
}

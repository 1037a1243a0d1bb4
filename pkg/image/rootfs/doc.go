// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package rootfs flattens the layers of a container image into one tar stream
// that holds what the image's file tree is: each path once, parents before
// their children, targets before their links.
//
// It works in three steps. Unpack decompresses each layer once into a temporary
// file that has no name, and verifies its digest. NewPlan reads the headers of
// all layers and decides which files survive under which names. Plan.Write reads
// the layers again, skips what did not survive, and streams the rest. Memory is
// bounded by Options, whatever the image's size: the plan keeps some 80 bytes for
// each path, and no content.
//
// Words: an entry is a header of a layer's tar; a whiteout is an entry that hides
// a path of the layers below; an opaque directory hides all that it has in the
// layers below; an implied directory is one that only its children name.
//
// Layers are applied to a tree from the lowest to the highest, entry by entry,
// since links, symbolic links in the middle of a path and entries that come twice
// mean what the tree says at that moment. Whiteouts hide only what lower layers
// brought, wherever they stand in their layer. A hard link is a second name of
// the content, not of the path: it keeps the content when its target is replaced
// or deleted, and then carries it in the result. The attributes are those of the
// entry that brought the content. A symbolic link in the middle of a path is
// followed, as in a chroot: ".." at the root stays there, so nothing escapes.
// Layers of the merged-usr kind, with /lib a symbolic link, so keep working. The
// last part of a path is never followed. Where a symbolic link points to nothing,
// the directory is made. A file of a lower layer gives way when a higher layer
// has something below its path.
//
// Refused, naming layer and entry: names and hard-link targets with ".." that
// leave the root, hard links to what does not exist or is a directory, loops of
// symbolic links, unknown entry types, and what no Linux file system can hold.
// Sockets leave nothing at their path. Of an entry's extended records only
// extended attributes survive; user and group are numbers.
//
// The package knows nothing of registries, disks or vSphere: readers in, a writer
// out, temporary files only in the directory it is given.
package rootfs

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package nfs is the volume store that has directories of an NFSv3 export.
//
// Called by pkg/volume/locations, which knows which stores a VCH has. It keeps to the
// contract of package volume. Each operation mounts the export, works, unmounts it and
// closes its connections; nothing is kept, and nothing of a server that is broken or
// means harm makes it panic, hang or take more than a few megabytes.
//
// On the export there are, of VIC, volumes/<name> and
// volumes_metadata/<name>/DockerMetaData, and besides them mcm-volumes with what is
// unfinished: new, removed, and metadata that are on their way out. create.go and remove.go
// say in which order.
//
// Calls are made with AUTH_SYS as uid and gid of the location's query, 1000 if it does not say,
// which must own the export or may write there. They come from a privileged port if the process may
// have one (root, or CAP_NET_BIND_SERVICE); otherwise the export needs the option
// insecure. What containers write belongs to whom they run as, so volumes with
// files of others can only be removed as uid 0 with no_root_squash.
package nfs

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"crypto/rand"
	"math"
	"net"
	"os"
	"path"
	"strings"
	"sync"

	"github.com/go-git/go-billy/v5"
	"github.com/willscott/go-nfs"
	"github.com/willscott/go-nfs/file"
)

// handler tells go-nfs of the tree. A handle is of a file at a path, so that those of what
// was moved or deleted are stale, and what comes to its place has another one. One call
// at a time uses it.
type handler struct {
	tree    *tree
	export  string
	files   map[string]known
	handles map[known]string
}

// known is a file that has a handle.
type known struct {
	path string
	id   uint64
}

func newHandler(t *tree, export string) *handler {
	return &handler{tree: t, export: export, files: map[string]known{}, handles: map[known]string{}}
}

// at is what is at a path now.
func (h *handler) at(name string) (known, bool) {
	info, err := os.Lstat(h.tree.path(name))
	if err != nil {
		return known{path: name}, false
	}
	if own := file.GetInfo(info); own != nil {
		return known{path: name, id: own.Fileid}, true
	}
	return known{path: name}, true
}

func (h *handler) Mount(_ context.Context, _ net.Conn, request nfs.MountRequest) (nfs.MountStatus, billy.Filesystem, []nfs.AuthFlavor) {
	if path.Clean(string(request.Dirpath)) != h.export {
		return nfs.MountStatusErrNoEnt, h.tree, nil
	}
	return nfs.MountStatusOk, h.tree, []nfs.AuthFlavor{nfs.AuthFlavorUnix}
}

func (h *handler) Change(billy.Filesystem) billy.Change { return h.tree }

func (h *handler) FSStat(context.Context, billy.Filesystem, *nfs.FSStat) error { return nil }

func (h *handler) ToHandle(_ billy.Filesystem, elements []string) []byte {
	what, _ := h.at(path.Join(elements...))
	if _, ok := h.handles[what]; !ok {
		handle := rand.Text()[:24] // go-nfs reads no padding
		h.handles[what], h.files[handle] = handle, what
	}
	return []byte(h.handles[what])
}

func (h *handler) FromHandle(handle []byte) (billy.Filesystem, []string, error) {
	meant, ok := h.files[string(handle)]
	if now, there := h.at(meant.path); !ok || !there || now != meant {
		return nil, nil, &nfs.NFSStatusError{NFSStatus: nfs.NFSStatusStale}
	}
	if meant.path == "" {
		return h.tree, []string{}, nil
	}
	return h.tree, strings.Split(meant.path, "/"), nil
}

func (h *handler) InvalidateHandle(_ billy.Filesystem, handle []byte) error {
	delete(h.handles, h.files[string(handle)])
	delete(h.files, string(handle))
	return nil
}

func (h *handler) HandleLimit() int { return math.MaxInt32 }

// quietly has go-nfs say nothing of calls that fail, as it does on standard error; it
// has one logger for all servers.
var quietly sync.Once

func quiet() { quietly.Do(func() { nfs.Log.SetLevel(nfs.FatalLevel) }) }

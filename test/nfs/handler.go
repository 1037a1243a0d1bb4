// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"crypto/sha256"
	"math"
	"net"
	"path"
	"strings"
	"sync"

	"github.com/go-git/go-billy/v5"
	"github.com/willscott/go-nfs"
)

// handler tells go-nfs of the tree. A handle is made of a path, so that those of what
// was moved or deleted are stale. One call at a time uses it.
type handler struct {
	tree   *tree
	export string
	paths  map[string]string
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
	name := path.Join(elements...)
	sum := sha256.Sum256([]byte(name))
	h.paths[string(sum[:])] = name
	return sum[:]
}

func (h *handler) FromHandle(handle []byte) (billy.Filesystem, []string, error) {
	name, ok := h.paths[string(handle)]
	if ok {
		if _, err := h.tree.root.Lstat(clean(name)); err != nil {
			ok = false
		}
	}
	switch {
	case !ok:
		return nil, nil, &nfs.NFSStatusError{NFSStatus: nfs.NFSStatusStale}
	case name == "":
		return h.tree, []string{}, nil
	}
	return h.tree, strings.Split(name, "/"), nil
}

func (h *handler) InvalidateHandle(_ billy.Filesystem, handle []byte) error {
	delete(h.paths, string(handle))
	return nil
}

func (h *handler) HandleLimit() int { return math.MaxInt32 }

// quietly has go-nfs say nothing of calls that fail, as it does on standard error; it
// has one logger for all servers.
var quietly sync.Once //nolint:gochecknoglobals // so has go-nfs

func quiet() { quietly.Do(func() { nfs.Log.SetLevel(nfs.FatalLevel) }) }

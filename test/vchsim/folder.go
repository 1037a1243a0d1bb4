// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// folderPrefix is where vCenter serves the files of datastores.
const folderPrefix = "/folder/"

// serveFolder answers requests of files as vCenter does and vcsim does not: only
// with a valid session, only in directories that exist, and with a status that
// tells a new file from a replaced one. An upload that is cut off leaves what
// came of it.
func (s *Sim) serveFolder(w http.ResponseWriter, r *http.Request) {
	if !s.loggedIn(r) {
		http.Error(w, "no valid session", http.StatusUnauthorized)
		return
	}
	query := r.URL.Query()
	file := strings.TrimPrefix(r.URL.Path, folderPrefix)
	if strings.Trim(query.Get("dcPath"), "/") != s.Datacenter || !s.isDatastore(query.Get("dsName")) {
		http.NotFound(w, r)
		return
	}
	if file == "" || !filepath.IsLocal(file) {
		http.Error(w, "bad path", http.StatusBadRequest)
		return
	}
	s.calls.files.Lock()
	local := s.localPath((&object.DatastorePath{Datastore: query.Get("dsName"), Path: file}).String())
	s.calls.files.Unlock()
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		s.download(w, r, local)
	case http.MethodPut:
		s.upload(w, r, local)
	default:
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
	}
}

// loggedIn reports whether a request bears the cookie of a session.
func (s *Sim) loggedIn(r *http.Request) bool {
	cookie, err := r.Cookie(soap.SessionCookieName)
	if err != nil {
		return false
	}
	body, ok := s.registry.SessionManager().SessionIsActive(s.newContext(), &types.SessionIsActive{
		SessionID: strings.Trim(cookie.Value, `"`), UserName: s.Username,
	}).(*methods.SessionIsActiveBody)
	return ok && body.Res != nil && body.Res.Returnval
}

func (*Sim) download(w http.ResponseWriter, r *http.Request, local string) {
	f, err := os.Open(local)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil || info.IsDir() {
		http.NotFound(w, r)
		return
	}
	http.ServeContent(w, r, "", info.ModTime(), f)
}

func (*Sim) upload(w http.ResponseWriter, r *http.Request, local string) {
	status := http.StatusCreated
	if _, err := os.Stat(local); err == nil {
		status = http.StatusOK
	}
	f, err := os.OpenFile(local, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	switch {
	case errors.Is(err, os.ErrNotExist):
		http.NotFound(w, r)
		return
	case err != nil:
		http.Error(w, "cannot write", http.StatusInternalServerError)
		return
	}
	_, err = io.Copy(f, r.Body)
	if err := errors.Join(err, f.Close()); err != nil {
		http.Error(w, "cannot write", http.StatusInternalServerError)
		return
	}
	w.WriteHeader(status)
}

// BytesReceived returns how many bytes of file contents came in since the start or
// the last ResetCounters, uploads that failed included.
func (s *Sim) BytesReceived() int64 {
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	return s.counters.bytesIn
}

// received counts the content of uploads while it comes in.
type received struct {
	io.ReadCloser
	counters *counters
}

// Read reads and counts.
func (b *received) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.counters.mu.Lock()
	b.counters.bytesIn += int64(n)
	b.counters.mu.Unlock()
	return n, err
}

// errCut ends a content of which half is to go through.
var errCut = errors.New("cut by the simulator")

// half serves a request whose content, in whichever direction, is cut in the middle.
func (s *Sim) half(w http.ResponseWriter, r *http.Request) {
	r.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(io.LimitReader(r.Body, max(0, r.ContentLength/2)), failing{}), r.Body}
	s.service.ServeMux.ServeHTTP(&halfWriter{ResponseWriter: w}, r)
	cut(w)
}

// corruptAt is within the descriptor that a VMDK holds: who takes it for a disk does not notice.
const corruptAt = 520

// corrupting changes one byte.
type corrupting struct {
	io.ReadCloser
	at int
}

// Read reads and changes.
func (c *corrupting) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if i := corruptAt - c.at; 0 <= i && i < n {
		p[i] ^= 1
	}
	c.at += n
	return n, err
}

type failing struct{}

// Read fails.
func (failing) Read([]byte) (int, error) { return 0, errCut }

// halfWriter lets half of an answer through and then ends the connection.
type halfWriter struct{ http.ResponseWriter }

// Write writes half and does not return.
func (h *halfWriter) Write(p []byte) (int, error) {
	// An answer that did not go out is cut all the same.
	_, _ = h.ResponseWriter.Write(p[:len(p)/2])
	_ = http.NewResponseController(h.ResponseWriter).Flush()
	panic(http.ErrAbortHandler)
}

// stall takes half of the content, then neither reads nor answers before the
// client has gone or the world ends.
func (s *Sim) stall(w http.ResponseWriter, r *http.Request) {
	// How much came is of no interest.
	_, _ = io.CopyN(io.Discard, r.Body, max(0, r.ContentLength/2))
	select {
	case <-s.closed:
	case <-r.Context().Done():
	}
	cut(w)
}

// exclusive runs a method of vcsim and its task while nothing else changes files:
// see overrides.files.
func (o *overrides) exclusive(call func() soap.HasFault) soap.HasFault {
	return o.alone(call, func() {})
}

// MakeDirectory refuses to make a top-level directory of a vSAN datastore: those
// are objects, which another manager makes.
func (o *overrides) MakeDirectory(ctx *simulator.Context, req *types.MakeDirectory) soap.HasFault {
	return o.exclusive(func() soap.HasFault {
		var p object.DatastorePath
		if p.FromString(req.Name) && o.sim.places.vsan {
			top, _, _ := strings.Cut(p.Path, "/")
			if !o.sim.exists((&object.DatastorePath{Datastore: p.Datastore, Path: top}).String()) {
				return &methods.MakeDirectoryBody{Fault_: simulator.Fault("", &types.CannotCreateFile{FileFault: types.FileFault{File: req.Name}})}
			}
		}
		return o.sim.registry.FileManager().MakeDirectory(ctx, req)
	})
}

// MoveDatastoreFileTask refuses files that a running VM has, and replaces no
// directory, forced or not.
func (o *overrides) MoveDatastoreFileTask(ctx *simulator.Context, req *types.MoveDatastoreFile_Task) soap.HasFault {
	manager := o.sim.registry.FileManager()
	return o.exclusive(func() soap.HasFault {
		fault := o.locked(req.SourceName, false)
		if fault == nil {
			fault = o.locked(req.DestinationName, false)
		}
		if info, err := os.Stat(o.sim.localPath(req.DestinationName)); fault == nil && err == nil && info.IsDir() {
			fault = fileFault(req.DestinationName, os.ErrExist)
		}
		if fault != nil {
			task := failingTask(ctx, manager.Self, "moveDatastoreFile", fault)
			return &methods.MoveDatastoreFile_TaskBody{Res: &types.MoveDatastoreFile_TaskResponse{Returnval: task}}
		}
		return manager.MoveDatastoreFileTask(ctx, req)
	})
}

// CopyDatastoreFileTask only adds that nothing else changes files meanwhile.
func (o *overrides) CopyDatastoreFileTask(ctx *simulator.Context, req *types.CopyDatastoreFile_Task) soap.HasFault {
	return o.exclusive(func() soap.HasFault { return o.sim.registry.FileManager().CopyDatastoreFileTask(ctx, req) })
}

// CreateVirtualDiskTask only adds that nothing else changes files meanwhile.
func (o *overrides) CreateVirtualDiskTask(ctx *simulator.Context, req *types.CreateVirtualDisk_Task) soap.HasFault {
	return o.exclusive(func() soap.HasFault { return o.sim.registry.VirtualDiskManager().CreateVirtualDiskTask(ctx, req) })
}

// MoveVirtualDiskTask refuses a disk that a running VM has.
func (o *overrides) MoveVirtualDiskTask(ctx *simulator.Context, req *types.MoveVirtualDisk_Task) soap.HasFault {
	manager := o.sim.registry.VirtualDiskManager()
	return o.exclusive(func() soap.HasFault {
		if f := o.locked(req.SourceName, false); f != nil {
			task := failingTask(ctx, manager.Reference(), "moveVirtualDisk", f)
			return &methods.MoveVirtualDisk_TaskBody{Res: &types.MoveVirtualDisk_TaskResponse{Returnval: task}}
		}
		return manager.MoveVirtualDiskTask(ctx, req)
	})
}

// SearchDatastoreTask only adds that nothing else changes files meanwhile.
func (o *overrides) SearchDatastoreTask(ctx *simulator.Context, req *types.SearchDatastore_Task) soap.HasFault {
	browser, ok := o.sim.registry.Get(req.This).(*simulator.HostDatastoreBrowser)
	if !ok {
		return &methods.SearchDatastore_TaskBody{Fault_: simulator.Fault("", &types.ManagedObjectNotFound{Obj: req.This})}
	}
	return o.exclusive(func() soap.HasFault { return browser.SearchDatastoreTask(ctx, req) })
}

// SearchDatastoreSubFoldersTask only adds that nothing else changes files meanwhile.
func (o *overrides) SearchDatastoreSubFoldersTask(ctx *simulator.Context, req *types.SearchDatastoreSubFolders_Task) soap.HasFault {
	browser, ok := o.sim.registry.Get(req.This).(*simulator.HostDatastoreBrowser)
	if !ok {
		return &methods.SearchDatastoreSubFolders_TaskBody{Fault_: simulator.Fault("", &types.ManagedObjectNotFound{Obj: req.This})}
	}
	return o.exclusive(func() soap.HasFault { return browser.SearchDatastoreSubFoldersTask(ctx, req) })
}

// namespaces makes and names the top-level directories of vSAN datastores.
func (o *overrides) namespaces() *simulator.DatastoreNamespaceManager {
	instance, ok := o.sim.registry.Get(vim25.ServiceInstance).(*simulator.ServiceInstance)
	if !ok || instance.Content.DatastoreNamespaceManager == nil {
		return &simulator.DatastoreNamespaceManager{}
	}
	manager, ok := o.sim.registry.Get(*instance.Content.DatastoreNamespaceManager).(*simulator.DatastoreNamespaceManager)
	if !ok {
		return &simulator.DatastoreNamespaceManager{}
	}
	return manager
}

// CreateDirectory only adds that nothing else changes files meanwhile.
func (o *overrides) CreateDirectory(ctx *simulator.Context, req *types.CreateDirectory) soap.HasFault {
	return o.exclusive(func() soap.HasFault { return o.namespaces().CreateDirectory(ctx, req) })
}

// ConvertNamespacePathToUuidPath only adds that nothing else changes files meanwhile.
func (o *overrides) ConvertNamespacePathToUuidPath(ctx *simulator.Context, req *types.ConvertNamespacePathToUuidPath) soap.HasFault { //nolint:revive // vSphere's name
	return o.exclusive(func() soap.HasFault { return o.namespaces().ConvertNamespacePathToUuidPath(ctx, req) })
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"
)

// What descriptors of virtual disks say of their extent, and whether they may be deleted.
const (
	extentPattern    = `(?m)^RW (\d+) (\S+) "([^"]+)"(.*)$`
	protectedPattern = `(?m)^\s*ddb\.deletable\s*=\s*"false"`
)

const sector = 512

// ExtendVirtualDiskTask enlarges the descriptor and, unlike vcsim, the extent too.
// The rest of the descriptor stays as it is. A disk that a running VM has is refused,
// as by the other methods.
func (o *overrides) ExtendVirtualDiskTask(ctx *simulator.Context, req *types.ExtendVirtualDisk_Task) soap.HasFault {
	task := o.diskTask(ctx, "extendVirtualDisk", func() types.BaseMethodFault {
		local, text, extent, fault := o.descriptor(req.Name)
		if fault != nil {
			return fault
		}
		if f := o.locked(req.Name, false); f != nil {
			return f
		}
		sectors := req.NewCapacityKb * 1024 / sector
		if old, err := strconv.ParseInt(string(text[extent[2]:extent[3]]), 10, 64); err != nil || old > sectors {
			return &types.InvalidArgument{InvalidProperty: "newCapacityKb"}
		}
		flat := filepath.Join(filepath.Dir(local), string(text[extent[6]:extent[7]]))
		changed := slices.Concat(text[:extent[2]], fmt.Append(nil, sectors), text[extent[3]:])
		if err := errors.Join(os.Truncate(flat, sectors*sector), os.WriteFile(local, changed, 0o600)); err != nil {
			return fileFault(req.Name, err)
		}
		return nil
	})
	return &methods.ExtendVirtualDisk_TaskBody{Res: &types.ExtendVirtualDisk_TaskResponse{Returnval: task}}
}

// CopyVirtualDiskTask copies descriptor and extent and, unlike vcsim, makes the
// copy's descriptor name the copy's extent. It takes nothing but whole disks. One that
// a running VM only reads can be copied.
func (o *overrides) CopyVirtualDiskTask(ctx *simulator.Context, req *types.CopyVirtualDisk_Task) soap.HasFault {
	task := o.diskTask(ctx, "copyVirtualDisk", func() types.BaseMethodFault {
		local, text, extent, fault := o.descriptor(req.SourceName)
		if fault != nil {
			return fault
		}
		if f := o.locked(req.SourceName, true); f != nil {
			return f
		}
		to := o.sim.localPath(req.DestName)
		if to == "" {
			return &types.InvalidDatastorePath{DatastorePath: req.DestName}
		}
		// Not by vcsim's function, which takes the first .vmdk in a path for its end.
		toFlat := strings.TrimSuffix(to, ".vmdk") + "-flat.vmdk"
		for _, file := range []string{to, toFlat} {
			if _, err := os.Stat(file); err == nil {
				return fileFault(req.DestName, os.ErrExist)
			}
		}
		flat := filepath.Join(filepath.Dir(local), string(text[extent[6]:extent[7]]))
		changed := slices.Concat(text[:extent[6]], []byte(filepath.Base(toFlat)), text[extent[7]:])
		if err := copySparse(flat, toFlat); err != nil {
			return fileFault(req.DestName, errors.Join(err, os.Remove(toFlat)))
		}
		if err := os.WriteFile(to, changed, 0o600); err != nil {
			return fileFault(req.DestName, err)
		}
		return nil
	})
	return &methods.CopyVirtualDisk_TaskBody{Res: &types.CopyVirtualDisk_TaskResponse{Returnval: task}}
}

// DeleteVirtualDiskTask deletes descriptor and extent. It refuses, as vCenter does,
// a disk whose descriptor says that it must not be deleted, and one that a running
// VM has in its chain.
func (o *overrides) DeleteVirtualDiskTask(ctx *simulator.Context, req *types.DeleteVirtualDisk_Task) soap.HasFault {
	task := o.diskTask(ctx, "deleteVirtualDisk", func() types.BaseMethodFault {
		local, text, extent, fault := o.descriptor(req.Name)
		if fault != nil {
			return fault
		}
		if regexp.MustCompile(protectedPattern).Match(text) {
			return &types.CannotDeleteFile{FileFault: types.FileFault{File: req.Name}}
		}
		if f := o.locked(req.Name, false); f != nil {
			return f
		}
		flat := filepath.Join(filepath.Dir(local), string(text[extent[6]:extent[7]]))
		if err := os.Remove(flat); err != nil {
			return fileFault(req.Name, err)
		}
		if err := os.Remove(local); err != nil {
			return fileFault(req.Name, err)
		}
		return nil
	})
	return &methods.DeleteVirtualDisk_TaskBody{Res: &types.DeleteVirtualDisk_TaskResponse{Returnval: task}}
}

// diskTask runs f in a task while nothing else changes files.
func (o *overrides) diskTask(ctx *simulator.Context, name string, f func() types.BaseMethodFault) (task ref) {
	manager := o.sim.registry.VirtualDiskManager()
	o.exclusive(func() soap.HasFault {
		task = simulator.CreateTask(manager, name, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
			return nil, f()
		}).Run(ctx)
		return &methods.DeleteVirtualDisk_TaskBody{Res: &types.DeleteVirtualDisk_TaskResponse{Returnval: task}}
	})
	return task
}

// descriptor reads the descriptor of a disk with one extent. extent are the
// offsets of what extentPattern matches.
func (o *overrides) descriptor(name string) (local string, text []byte, extent []int, fault types.BaseMethodFault) {
	if local = o.sim.localPath(name); local == "" {
		return "", nil, nil, &types.InvalidDatastorePath{DatastorePath: name}
	}
	text, err := os.ReadFile(local)
	if err != nil {
		return "", nil, nil, fileFault(name, err)
	}
	all := regexp.MustCompile(extentPattern).FindAllSubmatchIndex(text, -1)
	if len(all) != 1 {
		return "", nil, nil, &types.InvalidDiskFormat{}
	}
	return local, text, all[0], nil
}

func fileFault(name string, err error) types.BaseMethodFault {
	fault := types.FileFault{File: name}
	switch {
	case errors.Is(err, os.ErrNotExist):
		return &types.FileNotFound{FileFault: fault}
	case errors.Is(err, os.ErrExist):
		return &types.FileAlreadyExists{FileFault: fault}
	default:
		return &types.CannotAccessFile{FileFault: fault}
	}
}

// copySparse copies a file and leaves out what is zero.
func copySparse(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	info, err := in.Stat()
	if err != nil {
		return err
	}
	return writeSparse(to, in, info.Size(), func(at int64) (int64, error) {
		const seekData = 3 // Linux
		next, err := in.Seek(at, seekData)
		switch {
		case errors.Is(err, syscall.ENXIO):
			return info.Size(), nil
		case err != nil:
			return at, nil //nolint:nilerr // this system does not tell: all may be data
		}
		return next, nil
	})
}

// writeSparse writes size bytes of r to a new file and leaves out what is zero.
func writeSparse(to string, r io.ReaderAt, size int64, next func(at int64) (int64, error)) error {
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	if err := out.Truncate(size); err != nil {
		return err
	}
	buffer, zeroes := make([]byte, 1<<20), make([]byte, 1<<20)
	for at := int64(0); at < size; at += int64(len(buffer)) {
		data, err := next(at)
		if err != nil {
			return err
		}
		if at = data; at >= size {
			break
		}
		part := buffer[:min(int64(len(buffer)), size-at)]
		if _, err := r.ReadAt(part, at); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		if bytes.Equal(part, zeroes[:len(part)]) {
			continue
		}
		if _, err := out.WriteAt(part, at); err != nil {
			return err
		}
	}
	return out.Close()
}

// DiskContent opens the raw content of a virtual disk with one extent. The caller closes it.
func (s *Sim) DiskContent(file string) (*os.File, error) {
	s.calls.files.Lock()
	defer s.calls.files.Unlock()
	local, text, extent, fault := s.calls.descriptor(file)
	if fault != nil {
		return nil, fmt.Errorf("open disk %s: %T", file, fault)
	}
	return os.Open(filepath.Join(filepath.Dir(local), string(text[extent[6]:extent[7]])))
}

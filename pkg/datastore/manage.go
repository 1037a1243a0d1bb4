// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	"context"
	"errors"
	"strings"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// MakeDirectory makes a directory. Without parents it is one atomic step, whoever
// else tries the same: AlreadyExists if it is there, NotFound if its parent is
// not. With parents it makes them too, and what is there already is no error.
func (f *Files) MakeDirectory(ctx context.Context, dir string, parents bool) error {
	if err := f.check(dir); err != nil {
		return err
	}
	top, _, deep := strings.Cut(dir, "/")
	if !f.namespaced() || deep && !parents {
		return f.makeDirectory(ctx, dir, parents)
	}
	err := f.makeTop(ctx, top)
	if exists := errdefs.Is(err, errdefs.AlreadyExists); !deep {
		if exists && parents {
			return nil
		}
		return err
	} else if exists {
		err = nil
	}
	// The top may be an id, or of another kind: the file manager has the last word.
	if made := f.makeDirectory(ctx, dir, true); made != nil {
		return errors.Join(made, err)
	}
	return nil
}

func (f *Files) makeDirectory(ctx context.Context, dir string, parents bool) error {
	vim := f.o.Client.Vim()
	_, err := methods.MakeDirectory(ctx, vim, &types.MakeDirectory{
		This: *vim.ServiceContent.FileManager, Name: f.Path(dir), Datacenter: &f.o.Datacenter, CreateParentDirectories: &parents,
	})
	if parents && vcenter.IsAlreadyExists(err) {
		return nil
	}
	return convert(err, "make directory %s", f.Path(dir))
}

// makeTop makes the object that is a top-level directory, for which vCenter wants
// the privilege Datastore.Config.
func (f *Files) makeTop(ctx context.Context, name string) error {
	vim := f.o.Client.Vim()
	if vim.ServiceContent.DatastoreNamespaceManager == nil {
		return errdefs.New(errdefs.FailedPrecondition, "make directory %s: this vCenter makes no top-level directories on %s", f.Path(name), f.o.Type)
	}
	_, err := methods.CreateDirectory(ctx, vim, &types.CreateDirectory{
		This: *vim.ServiceContent.DatastoreNamespaceManager, Datastore: f.o.Datastore, DisplayName: name,
	})
	return convert(err, "make top-level directory %s", f.Path(name))
}

// Resolve returns p as the devices of a VM must have it: where top-level
// directories are objects, with the id of the first element; two requests. On
// other datastores that is p itself.
func (f *Files) Resolve(ctx context.Context, p string) (string, error) {
	if err := f.check(p); err != nil {
		return "", err
	}
	vim := f.o.Client.Vim()
	if !f.namespaced() || vim.ServiceContent.DatastoreNamespaceManager == nil {
		return p, nil
	}
	var ds mo.Datastore
	if err := property.DefaultCollector(vim).RetrieveOne(ctx, f.o.Datastore, []string{"summary.url"}, &ds); err != nil {
		return "", convert(err, "read datastore %s", f.o.Name)
	}
	top, rest, deep := strings.Cut(p, "/")
	res, err := methods.ConvertNamespacePathToUuidPath(ctx, vim, &types.ConvertNamespacePathToUuidPath{
		This: *vim.ServiceContent.DatastoreNamespaceManager, Datacenter: &f.o.Datacenter, NamespaceUrl: ds.Summary.Url + top, // the URL ends with a slash
	})
	if err != nil {
		return "", convert(err, "look up the id of directory %s", f.Path(top))
	}
	id := strings.TrimRight(res.Returnval, "/")
	id = id[strings.LastIndex(id, "/")+1:]
	if id == "" {
		return "", errdefs.New(errdefs.Internal, "look up the id of directory %s: vCenter answered %q", f.Path(top), res.Returnval)
	}
	if !deep {
		return id, nil
	}
	return id + "/" + rest, nil
}

// Delete deletes a file, or a directory with all that is in it. What is not there
// is no error. Virtual disks are deleted with DeleteDisk first: where they are
// objects, a deleted descriptor would leave the object behind.
func (f *Files) Delete(ctx context.Context, p string) error {
	if err := f.check(p); err != nil {
		return err
	}
	release, err := f.o.Client.Heavy(ctx, f.o.Datastore)
	if err != nil {
		return convert(err, "delete %s", f.Path(p))
	}
	defer release()
	vim := f.o.Client.Vim()
	res, err := methods.DeleteDatastoreFile_Task(ctx, vim, &types.DeleteDatastoreFile_Task{
		This: *vim.ServiceContent.FileManager, Name: f.Path(p), Datacenter: &f.o.Datacenter,
	})
	if err == nil {
		_, err = f.await(ctx, res.Returnval)
	}
	if vcenter.IsFileNotFound(err) {
		return nil
	}
	return convert(err, "delete %s", f.Path(p))
}

// Move renames a file or directory within the datastore. AlreadyExists if to is there.
func (f *Files) Move(ctx context.Context, from, to string) error {
	if err := f.check(from, to); err != nil {
		return err
	}
	release, err := f.o.Client.Heavy(ctx, f.o.Datastore)
	if err != nil {
		return convert(err, "move %s to %s", f.Path(from), f.Path(to))
	}
	defer release()
	vim := f.o.Client.Vim()
	res, err := methods.MoveDatastoreFile_Task(ctx, vim, &types.MoveDatastoreFile_Task{
		This:       *vim.ServiceContent.FileManager,
		SourceName: f.Path(from), SourceDatacenter: &f.o.Datacenter,
		DestinationName: f.Path(to), DestinationDatacenter: &f.o.Datacenter,
		Force: ptr.To(false),
	})
	if err == nil {
		_, err = f.await(ctx, res.Returnval)
	}
	return convert(err, "move %s to %s", f.Path(from), f.Path(to))
}

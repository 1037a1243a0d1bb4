// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Entry is what a directory has.
type Entry struct {
	// Name is one element of a path.
	Name string
	// Dir says that it is a directory.
	Dir bool
	// Size is that of a file in bytes; vCenter shows the descriptor of a disk with
	// the size of the whole disk, so Files.Size is what tells that of one file.
	Size int64
	// Modified is by the clock of the host that wrote it; zero if not known.
	Modified time.Time
}

// List returns what a directory has, sorted by name; dir may be empty for the
// datastore itself. pattern has * and ? and matches names. NotFound if the
// directory is not there.
func (f *Files) List(ctx context.Context, dir, pattern string) ([]Entry, error) {
	browser, err := f.browser(ctx, dir)
	if err != nil {
		return nil, err
	}
	var info *types.TaskInfo
	res, err := methods.SearchDatastore_Task(ctx, f.o.Client.Vim(), &types.SearchDatastore_Task{
		This: *browser, DatastorePath: f.Path(dir), SearchSpec: searchSpec(pattern),
	})
	if err == nil {
		info, err = f.await(ctx, res.Returnval)
	}
	if err != nil {
		return nil, convert(err, "list %s", f.Path(dir))
	}
	found, ok := info.Result.(types.HostDatastoreBrowserSearchResults)
	if !ok {
		return nil, errdefs.New(errdefs.Internal, "list %s: vCenter answered with %T", f.Path(dir), info.Result)
	}
	return entries(found.File), nil
}

// Tree returns what a directory and all below it have, in one search: by the path
// of each directory relative to dir, which itself is "". A directory that is empty
// has an empty list. NotFound if dir is not there.
func (f *Files) Tree(ctx context.Context, dir string) (map[string][]Entry, error) {
	browser, err := f.browser(ctx, dir)
	if err != nil {
		return nil, err
	}
	var info *types.TaskInfo
	res, err := methods.SearchDatastoreSubFolders_Task(ctx, f.o.Client.Vim(), &types.SearchDatastoreSubFolders_Task{
		This: *browser, DatastorePath: f.Path(dir), SearchSpec: searchSpec("*"),
	})
	if err == nil {
		info, err = f.await(ctx, res.Returnval)
	}
	if err != nil {
		return nil, convert(err, "list %s and all below", f.Path(dir))
	}
	found, ok := info.Result.(types.ArrayOfHostDatastoreBrowserSearchResults)
	if !ok {
		return nil, errdefs.New(errdefs.Internal, "list %s and all below: vCenter answered with %T", f.Path(dir), info.Result)
	}
	return tree(found.HostDatastoreBrowserSearchResults), nil
}

// tree makes the paths of results relative to the directory that was searched. It
// is the shortest one; what it is called depends on the datastore.
func tree(results []types.HostDatastoreBrowserSearchResults) map[string][]Entry {
	paths := make([]string, len(results))
	for i, r := range results {
		_, p, _ := strings.Cut(r.FolderPath, "]")
		paths[i] = strings.Trim(p, " /")
	}
	if len(paths) == 0 {
		return map[string][]Entry{}
	}
	root := slices.MinFunc(paths, func(a, b string) int { return len(a) - len(b) })
	out := make(map[string][]Entry, len(results))
	for i, r := range results {
		out[strings.Trim(strings.TrimPrefix(paths[i], root), "/")] = entries(r.File)
	}
	return out
}

// browser returns the object that searches the datastore.
func (f *Files) browser(ctx context.Context, dir string) (*types.ManagedObjectReference, error) {
	if dir != "" {
		if err := f.check(dir); err != nil {
			return nil, err
		}
	}
	var ds mo.Datastore
	if err := property.DefaultCollector(f.o.Client.Vim()).RetrieveOne(ctx, f.o.Datastore, []string{"browser"}, &ds); err != nil {
		return nil, convert(err, "read datastore %s", f.o.Name)
	}
	return &ds.Browser, nil
}

func searchSpec(pattern string) *types.HostDatastoreBrowserSearchSpec {
	return &types.HostDatastoreBrowserSearchSpec{
		// Without the type, directories look like files.
		Details:      &types.FileQueryFlags{FileType: true, FileSize: true, Modification: true},
		MatchPattern: []string{pattern},
	}
}

func entries(files []types.BaseFileInfo) []Entry {
	out := make([]Entry, 0, len(files))
	for _, file := range files {
		info := file.GetFileInfo()
		e := Entry{Name: strings.Trim(info.Path, "/"), Size: info.FileSize}
		if info.FriendlyName != "" {
			e.Name = info.FriendlyName // a top-level directory that is an object
		}
		if info.Modification != nil {
			e.Modified = *info.Modification
		}
		if _, e.Dir = file.(*types.FolderFileInfo); e.Dir {
			e.Size = 0
		}
		out = append(out, e)
	}
	slices.SortFunc(out, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	return out
}

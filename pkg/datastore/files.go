// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	"context"
	"errors"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

// defaultStall is how long a transfer may stand still. vCenter itself ends quiet
// connections after two minutes.
const defaultStall = time.Minute

// Options say which datastore. Stall and Clock have defaults.
type Options struct {
	// Client is a session with the vCenter.
	Client *vcenter.Client
	// Datacenter holds the datastore, DatacenterPath is its inventory path, such as /folder/dc-1.
	Datacenter     types.ManagedObjectReference
	DatacenterPath string
	// Datastore and Name are the datastore; Type is summary.type, such as VMFS or vsan.
	Datastore  types.ManagedObjectReference
	Name, Type string
	// Stall is how long a transfer may go without moving a byte. Default: one minute.
	Stall time.Duration
	// Clock measures it. Default: the real one.
	Clock clock.WithTicker
}

// Files are the files of one datastore. It keeps no state, costs nothing to make,
// and is safe for concurrent use.
type Files struct{ o Options }

// New returns the files of a datastore. Nothing is sent.
func New(o Options) *Files {
	if o.Stall <= 0 {
		o.Stall = defaultStall
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	return &Files{o: o}
}

// Path returns the datastore path of p, such as [ds1] vch-1/a.json.
func (f *Files) Path(p string) string {
	return (&object.DatastorePath{Datastore: f.o.Name, Path: p}).String()
}

// check refuses paths that could mean another place than they seem to.
func (f *Files) check(paths ...string) error {
	for _, p := range paths {
		if p == "" {
			return errdefs.New(errdefs.InvalidArgument, "a path on datastore %s is empty", f.o.Name)
		}
		bad := !utf8.ValidString(p) || strings.ContainsFunc(p, func(r rune) bool { return r == '\\' || unicode.IsControl(r) })
		for element := range strings.SplitSeq(p, "/") {
			bad = bad || element == "" || element == "." || element == ".."
		}
		if bad {
			return errdefs.New(errdefs.InvalidArgument, "path %q on datastore %s: it must be relative, of elements that are neither empty nor . or .., without backslashes and control characters", p, f.o.Name)
		}
	}
	return nil
}

// convert is vcenter.Convert for files: one that is absent is NotFound here.
func convert(err error, format string, args ...any) error {
	converted := vcenter.Convert(err, format, args...)
	if e, ok := errors.AsType[*errdefs.Error](converted); ok && vcenter.IsFileNotFound(err) {
		return &errdefs.Error{Kind: errdefs.NotFound, Message: e.Message, Err: e.Err}
	}
	return converted
}

// await waits for the end of a task.
func (f *Files) await(ctx context.Context, task types.ManagedObjectReference) (*types.TaskInfo, error) {
	return f.o.Client.Task(ctx, task)
}

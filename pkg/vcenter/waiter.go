// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	// maxPoll is how long one request rests in vCenter. A wait is made of as many as it needs.
	maxPoll = time.Minute
	// maxLost is how often one wait begins anew because its session was renewed.
	maxLost = 3
	// cleanUpTimeout bounds the request that removes a collector.
	cleanUpTimeout = 10 * time.Second
)

// Waiter waits for tasks and properties. It makes one property collector at the
// first wait, uses it for all waits and removes it at Close, so a wait costs a
// filter and one or two polls. Make one for each operation. It is not for
// concurrent use.
type Waiter struct {
	client    *Client
	collector *types.ManagedObjectReference
	// stale are filters of the last wait whose objects may go on changing, or are
	// gone. The next wait removes them first.
	stale []types.ManagedObjectReference
}

// NewWaiter returns a Waiter; nothing is sent before its first wait.
func (c *Client) NewWaiter() *Waiter { return &Waiter{client: c} }

// Task waits until a task has ended and returns its info: Task, Key, State,
// DescriptionId, Entity, EntityName and Result are set. A task that failed is
// answered with its fault by way of Convert. When ctx ends first, the task goes
// on in vCenter and the answer is DeadlineExceeded or Canceled, naming it; a
// later Task may wait for it again. A task that vCenter forgot is Aborted.
func (w *Waiter) Task(ctx context.Context, ref types.ManagedObjectReference) (*types.TaskInfo, error) {
	info := &types.TaskInfo{Task: ref, Key: ref.Value}
	spec := types.PropertyFilterSpec{
		ObjectSet: []types.ObjectSpec{{Obj: ref}},
		// Not info: its progress would wake us all the time.
		PropSet: []types.PropertySpec{{Type: ref.Type, PathSet: []string{
			"info.descriptionId", "info.entity", "info.entityName", "info.state", "info.error", "info.result",
		}}},
	}
	err := w.wait(ctx, []types.PropertyFilterSpec{spec}, true, func(updates []types.ObjectUpdate) (bool, error) {
		for _, u := range updates {
			if u.Kind == types.ObjectUpdateKindLeave {
				return false, &taskFault{types.LocalizedMethodFault{Fault: &types.ManagedObjectNotFound{Obj: ref}}}
			}
			for _, change := range u.ChangeSet {
				readTaskInfo(info, change)
			}
		}
		return info.State == types.TaskInfoStateSuccess || info.State == types.TaskInfoStateError, nil
	})
	switch {
	case err != nil && isGone(err, ref):
		return nil, errdefs.Wrap(errdefs.Aborted, err, "vCenter does not know task %s any more", ref.Value)
	case err != nil:
		return nil, Convert(err, "wait for %s", taskTitle(info))
	case info.State == types.TaskInfoStateError && info.Error != nil:
		return nil, Convert(&taskFault{*info.Error}, "%s failed", taskTitle(info))
	case info.State == types.TaskInfoStateError:
		return nil, errdefs.New(errdefs.Internal, "%s failed; vCenter gives no reason", taskTitle(info))
	}
	return info, nil
}

func readTaskInfo(info *types.TaskInfo, change types.PropertyChange) {
	switch v := change.Val.(type) {
	case types.TaskInfoState:
		info.State = v
	case types.LocalizedMethodFault:
		info.Error = &v
	case *types.LocalizedMethodFault:
		info.Error = v
	}
	switch change.Name {
	case "info.descriptionId":
		info.DescriptionId, _ = change.Val.(string)
	case "info.entityName":
		info.EntityName, _ = change.Val.(string)
	case "info.entity":
		if ref, ok := change.Val.(types.ManagedObjectReference); ok {
			info.Entity = &ref
		}
	case "info.result":
		info.Result = change.Val
	}
}

// taskTitle names a task as people find it in vCenter.
func taskTitle(info *types.TaskInfo) string {
	s := "task " + info.Key
	if info.DescriptionId != "" {
		s += " " + info.DescriptionId
	}
	if info.EntityName != "" {
		s += " of " + info.EntityName
	} else if info.Entity != nil {
		s += " of " + info.Entity.Value
	}
	return s
}

// Until calls done with updates of the objects of specs until it answers true or
// an error, which is returned as it is. The first call holds the present state of
// everything that specs select, which may be nothing; the next ones what changed
// since. A property that may not be read ends the wait with PermissionDenied, an
// object that is named in specs and absent with NotFound; an object that goes away
// later is an update of kind leave. When ctx ends: DeadlineExceeded or Canceled.
func (w *Waiter) Until(ctx context.Context, specs []types.PropertyFilterSpec, done func([]types.ObjectUpdate) (bool, error)) error {
	return w.wait(ctx, specs, false, done)
}

// Close removes the collector, also when ctx has ended. It may be called more
// than once. It answers no error: the collector goes with the session at the latest.
func (w *Waiter) Close(ctx context.Context) {
	collector := w.collector
	if collector == nil {
		return
	}
	w.collector, w.stale = nil, nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	req := types.DestroyPropertyCollector{This: *collector}
	if _, err := methods.DestroyPropertyCollector(ctx, w.client.Vim(), &req); err != nil {
		klog.FromContext(ctx).V(4).Info("Could not remove a property collector", "collector", collector.Value, "reason", err.Error())
	}
}

// wait does one wait, and begins anew when the session was renewed meanwhile,
// since collectors go with their session. last says that the objects do not
// change any more once the wait is over, so that the filter may stay.
func (w *Waiter) wait(ctx context.Context, specs []types.PropertyFilterSpec, last bool, done func([]types.ObjectUpdate) (bool, error)) error {
	for lost := 0; ; lost++ {
		err := w.attempt(ctx, specs, last, done)
		if w.collector == nil || !isLost(err) || lost == maxLost {
			return err
		}
		w.collector, w.stale = nil, nil
	}
}

// isLost reports that a collector or filter is gone.
func isLost(err error) bool {
	gone, ok := faultOf(err).(*types.ManagedObjectNotFound)
	return ok && slices.Contains([]string{"PropertyCollector", "PropertyFilter"}, gone.Obj.Type)
}

// isGone reports that ref itself is gone.
func isGone(err error, ref types.ManagedObjectReference) bool {
	gone, ok := faultOf(err).(*types.ManagedObjectNotFound)
	return ok && gone.Obj.Value == ref.Value
}

func (w *Waiter) attempt(ctx context.Context, specs []types.PropertyFilterSpec, last bool, done func([]types.ObjectUpdate) (bool, error)) error {
	filters, err := w.filters(ctx, specs)
	if err != nil {
		return err
	}
	w.stale = filters
	// The empty version asks for the present state of all filters. Those of
	// earlier waits answer too; what they say is left out below.
	version, first := "", true
	var batch []types.ObjectUpdate
	for {
		set, err := w.poll(ctx, version)
		if err != nil {
			return err
		}
		if set == nil {
			continue // nothing happened
		}
		version = set.Version
		if batch, err = collect(batch, set, filters); err != nil {
			return err
		}
		if ptr.Deref(set.Truncated, false) || (len(batch) == 0 && !first) {
			continue
		}
		if ok, err := done(batch); ok || err != nil {
			if ok && last {
				w.stale = nil
			}
			return err
		}
		batch, first = nil, false
	}
}

// filters makes the filters of one wait, and the collector before the first one.
func (w *Waiter) filters(ctx context.Context, specs []types.PropertyFilterSpec) ([]types.ManagedObjectReference, error) {
	vim := w.client.Vim()
	if w.collector == nil {
		res, err := methods.CreatePropertyCollector(ctx, vim, &types.CreatePropertyCollector{This: vim.ServiceContent.PropertyCollector})
		if err != nil {
			return nil, Convert(err, "create a property collector")
		}
		w.collector = &res.Returnval
	}
	for len(w.stale) > 0 {
		if _, err := methods.DestroyPropertyFilter(ctx, vim, &types.DestroyPropertyFilter{This: w.stale[0]}); err != nil {
			return nil, Convert(err, "remove the property filter of an earlier wait")
		}
		w.stale = w.stale[1:]
	}
	var filters []types.ManagedObjectReference
	for _, spec := range specs {
		res, err := methods.CreateFilter(ctx, vim, &types.CreateFilter{This: *w.collector, Spec: spec})
		if err != nil {
			w.stale = append(w.stale, filters...)
			return nil, Convert(err, "create a property filter")
		}
		filters = append(filters, res.Returnval)
	}
	return filters, nil
}

// poll is one request; nil says that nothing happened.
func (w *Waiter) poll(ctx context.Context, version string) (*types.UpdateSet, error) {
	seconds := maxPoll.Seconds()
	if deadline, ok := ctx.Deadline(); ok {
		left := deadline.Sub(w.client.session.pool.opts.Clock.Now()).Seconds()
		seconds = max(1, min(seconds, math.Ceil(left)))
	}
	res, err := methods.WaitForUpdatesEx(ctx, w.client.Vim(), &types.WaitForUpdatesEx{
		This:    *w.collector,
		Version: version,
		Options: &types.WaitOptions{MaxWaitSeconds: ptr.To(int32(seconds))},
	})
	switch {
	case err == nil:
		return res.Returnval, nil
	case ctx.Err() == nil:
		return nil, Convert(err, "wait for changes")
	}
	// The request may still rest in vCenter and would take updates from the next
	// one, so the collector is not used again.
	w.Close(ctx)
	return nil, errdefs.Wrap(errdefs.KindOf(ctx.Err()), err, "wait for changes")
}

// collect adds the updates of the given filters to batch.
func collect(batch []types.ObjectUpdate, set *types.UpdateSet, filters []types.ManagedObjectReference) ([]types.ObjectUpdate, error) {
	for _, f := range set.FilterSet {
		if !slices.Contains(filters, f.Filter) {
			continue
		}
		for _, m := range f.MissingSet {
			return nil, Convert(&taskFault{m.Fault}, "read %s", m.Obj.Value)
		}
		for _, u := range f.ObjectSet {
			for _, m := range u.MissingSet {
				if isFault(m.Fault.Fault, "SecurityError") {
					return nil, Convert(&taskFault{m.Fault}, "read %s of %s", m.Path, u.Obj.Value)
				}
			}
		}
		batch = append(batch, f.ObjectSet...)
	}
	return batch, nil
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"

	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Task waits until a task has ended and returns its info: Task, Key, State,
// DescriptionId, Entity, EntityName and Result are set. A task that failed is
// answered with its fault by way of Convert. When ctx ends first, the task goes
// on in vCenter and the answer is DeadlineExceeded or Canceled, naming it; a
// later Task may wait for it again. A task that vCenter forgot is Aborted.
//
// All waits of a session share one property collector and one request that rests in
// vCenter; a wait costs one call, or a part of one when many begin at the same time.
func (c *Client) Task(ctx context.Context, ref types.ManagedObjectReference) (*types.TaskInfo, error) {
	info := &types.TaskInfo{Task: ref, Key: ref.Value}
	err := c.watchTask(ctx, info)
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

func (c *Client) watchTask(ctx context.Context, info *types.TaskInfo) error {
	watch, err := c.hub.task(ctx, info.Task)
	defer c.hub.forget(watch)
	for err == nil && info.State != types.TaskInfoStateSuccess && info.State != types.TaskInfoStateError {
		var updates []types.ObjectUpdate
		updates, err = watch.next(ctx)
		for _, u := range updates {
			for _, change := range u.ChangeSet {
				readTaskInfo(info, change)
			}
		}
	}
	return err
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
// an error, which is returned as it is. Each spec selects at least one object. The first
// call holds the present state of everything that specs select; the next ones what changed
// since, or the present state again after a session was renewed. A property that may not
// be read ends the wait with PermissionDenied, an object that is named in specs and absent
// with NotFound; an object that goes away later is an update of kind leave. When ctx
// ends: DeadlineExceeded or Canceled. done runs in the caller's goroutine.
func (c *Client) Until(ctx context.Context, specs []types.PropertyFilterSpec, done func([]types.ObjectUpdate) (bool, error)) error {
	w := newWatch(specs, nil)
	err := c.hub.watch(ctx, w)
	defer c.hub.forget(w)
	for err == nil {
		var updates []types.ObjectUpdate
		if updates, err = w.next(ctx); err != nil {
			break
		}
		if ok, err := done(updates); ok || err != nil {
			return err
		}
	}
	return err
}

// Watch tells of what specs select, from the present state on, until ctx ends or the watch fails, and returns
// why. It costs one call for each spec, and none while nothing changes but the one that rests in vCenter for
// all that wait in a session. After a session or collector was lost it goes on by itself, with a Reset.
//
// tell is called one after the other, from goroutines that serve all who wait: it must be quick and must not call the
// client. When a task that somebody waits for by Task has ended, tell has had what vCenter said at the same time
// and before, so who knows of the end finds its effects told.
//
// A watch does not keep its session: when nobody uses that for long, it is ended, and the watch with it (Unavailable).
// Other kinds are those of Until, and Unavailable or DeadlineExceeded when vCenter cannot be reached several times in a row.
func (c *Client) Watch(ctx context.Context, specs []types.PropertyFilterSpec, tell func(News)) error {
	w := newWatch(specs, tell)
	err := c.hub.watch(ctx, w)
	defer c.hub.forget(w)
	if err != nil {
		return err
	}
	_, err = w.next(ctx)
	return err
}

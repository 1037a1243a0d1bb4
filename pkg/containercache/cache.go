// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containercache

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

const (
	// MaxAge is how long a view answers without having heard of vCenter. It hears at least every 30 seconds from one that lives.
	MaxAge = 90 * time.Second
	// idleFor is how long a VCH is watched that nobody asks for.
	idleFor = time.Hour
	// firstPause and longestPause bound the time after which a watch that failed is begun again.
	firstPause, longestPause = time.Second, 5 * time.Minute
)

// Cache has the views. Safe for concurrent use.
type Cache struct {
	clock clock.PassiveClock

	mu    sync.Mutex
	views map[viewKey]*View
}

// viewKey tells views apart. A VCH whose place changed gets another one.
type viewKey struct {
	client                  *vcenter.Client
	appliance, folder, pool types.ManagedObjectReference
}

// New returns a cache that watches nothing yet.
func New(clk clock.PassiveClock) *Cache {
	return &Cache{clock: clk, views: map[viewKey]*View{}}
}

// Of returns the view of a VCH, and begins to watch it if nobody does. It neither waits nor sends
// anything itself. The watch ends with the client's session, or when nobody asked for an hour; one that
// failed begins anew when somebody asks, after a pause that grows to five minutes.
func (c *Cache) Of(ctx context.Context, client *vcenter.Client, host *vch.Config) *View {
	key := viewKey{client, host.Appliance, host.Folder, host.Pool}
	now := c.clock.Now()
	c.mu.Lock()
	v := c.views[key]
	if v == nil {
		c.prune(now)
		v = newView(client, host, c.clock)
		c.views[key] = v
	}
	c.mu.Unlock()
	if watching, stop := v.begin(context.WithoutCancel(ctx), now); watching != nil {
		go func() {
			defer stop()
			c.watch(watching, key, v)
		}()
	}
	return v
}

// prune drops views that nobody watches or asks for: those that failed, and whose session ended then. The caller has the lock.
func (c *Cache) prune(now time.Time) {
	maps.DeleteFunc(c.views, func(_ viewKey, v *View) bool { return v.abandoned(now) })
}

// watch is the life of one watch.
func (c *Cache) watch(ctx context.Context, key viewKey, v *View) {
	err := v.client.Watch(ctx, v.specs(), v.tell)
	idle := v.end(c.clock.Now())
	log := klog.FromContext(ctx)
	if !idle && !vcenter.IsEnded(err) {
		log.V(1).Info("The watch of a VCH failed; until it works again, every question goes to vCenter", "vch", v.host.Name, "reason", err.Error())
		return
	}
	// Nobody asks, or can ask with that client.
	log.V(2).Info("Ended the watch of a VCH", "vch", v.host.Name, "idle", idle, "reason", err.Error())
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.views[key] == v {
		delete(c.views, key)
	}
}

// Stats returns the state of each watch, sorted by vCenter and VCH. It sends nothing and may be called at any time.
func (c *Cache) Stats() []Stats {
	c.mu.Lock()
	views := make([]*View, 0, len(c.views))
	for _, v := range c.views {
		views = append(views, v)
	}
	c.mu.Unlock()
	out := make([]Stats, 0, len(views))
	for _, v := range views {
		out = append(out, v.stats())
	}
	slices.SortFunc(out, func(a, b Stats) int {
		return cmp.Or(cmp.Compare(a.VCenter, b.VCenter), cmp.Compare(a.VCH, b.VCH), cmp.Compare(a.Updates, b.Updates))
	})
	return out
}

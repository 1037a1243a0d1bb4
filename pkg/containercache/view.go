// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containercache

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

// View is what is known of the container VMs of one VCH. Safe for concurrent use; no method but
// Read sends anything.
type View struct {
	client *vcenter.Client
	host   *vch.Config
	clock  clock.PassiveClock
	reads  reads

	mu sync.Mutex
	// cancel ends the watch; nil while there is none.
	cancel context.CancelFunc
	// asked is when somebody last wanted the view, failures and again say when a watch that failed may begin anew.
	asked    time.Time
	failures int
	again    time.Time

	synced bool
	heard  time.Time
	// appliance says that the VCH's is there.
	appliance bool
	vms       map[types.ManagedObjectReference]*entry
	// byUUID has the VMs with a proven mark by their BIOS UUID. There should be one for each.
	byUUID  map[string][]*entry
	waiting map[types.ManagedObjectReference]map[chan struct{}]struct{}

	// begun says that a watch has told something: another reset is a resync.
	begun                          bool
	updates, resyncs, hits, misses uint64
}

// entry is a container VM.
type entry struct {
	ref                      types.ManagedObjectReference
	name, uuid               string
	encodedMark, containerID string
	seen                     Seen
	// mark is nil unless it is proven by uuid; id follows from it.
	mark  *identity.Mark
	id    identity.Identity
	facts *learned
}

// learned are facts and the state that they hang on.
type learned struct {
	Facts
	at Seen
}

func newView(client *vcenter.Client, host *vch.Config, clk clock.PassiveClock) *View {
	v := &View{client: client, host: host, clock: clk, asked: clk.Now()}
	v.reads.client = client
	v.clear()
	v.waiting = map[types.ManagedObjectReference]map[chan struct{}]struct{}{}
	return v
}

func (v *View) clear() {
	v.synced, v.appliance = false, false
	v.vms, v.byUUID = map[types.ManagedObjectReference]*entry{}, map[string][]*entry{}
}

// begin returns the context of a watch that is to begin now, and what ends it; nil if one is there, or
// failed too short a time ago.
func (v *View) begin(ctx context.Context, now time.Time) (context.Context, context.CancelFunc) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.asked = now
	if v.cancel != nil || now.Before(v.again) {
		return nil, nil
	}
	ctx, v.cancel = context.WithCancel(ctx)
	return ctx, v.cancel
}

// end notes that the watch has ended; idle says that it was for want of questions.
func (v *View) end(now time.Time) (idle bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.cancel = nil
	v.clear()
	v.again = now.Add(min(longestPause, firstPause<<min(v.failures, 10)))
	v.failures++
	return now.Sub(v.asked) >= idleFor
}

// abandoned reports that there is no watch, and that nobody asked for one for long.
func (v *View) abandoned(now time.Time) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.cancel == nil && now.Sub(v.asked) >= idleFor
}

func markProperty() string {
	return vch.KeyProperty(guestinfo.AnnotationKey(identity.MarkAnnotation))
}

// specs select the container VMs of the VCH, by VIC's own rule of membership, and the appliance, without
// which there is no VCH. What is asked of each VM is little, since each change of it is sent.
func (v *View) specs() []types.PropertyFilterSpec {
	from, traversal := v.host.Members()
	return []types.PropertyFilterSpec{{
		ObjectSet: []types.ObjectSpec{
			{Obj: v.host.Appliance},
			{Obj: from, Skip: types.NewBool(true), SelectSet: []types.BaseSelectionSpec{traversal}},
		},
		PropSet: []types.PropertySpec{{Type: "VirtualMachine", PathSet: []string{
			"name", "config.uuid", "config.changeVersion", "runtime.powerState", "guest.ipAddress",
			markProperty(), vch.KeyProperty(guestinfo.CommonIDKey),
		}}},
	}}
}

// tell takes in what the watch says.
func (v *View) tell(n vcenter.News) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if n.Reset {
		v.clear()
		if v.begun {
			v.resyncs++
		}
		v.begun = true
	}
	for _, u := range n.Updates {
		v.update(u)
	}
	if n.Synced {
		v.synced, v.heard, v.failures = true, n.At, 0
		if v.cancel != nil && n.At.Sub(v.asked) >= idleFor {
			v.cancel()
		}
	}
}

func (v *View) update(u types.ObjectUpdate) {
	v.updates++
	if u.Obj == v.host.Appliance {
		v.appliance = u.Kind != types.ObjectUpdateKindLeave
		return
	}
	e := v.vms[u.Obj]
	if u.Kind == types.ObjectUpdateKindLeave {
		v.drop(e)
		v.wake(u.Obj)
		return
	}
	if e == nil {
		if u.Kind != types.ObjectUpdateKindEnter {
			return // Forget was faster
		}
		e = &entry{ref: u.Obj}
		v.vms[u.Obj] = e
	}
	for _, c := range u.ChangeSet {
		e.set(c)
	}
	v.prove(e)
	v.wake(u.Obj)
}

// set takes a property over. One that was removed has no value.
func (e *entry) set(c types.PropertyChange) {
	text, _ := c.Val.(string)
	switch c.Name {
	case "name":
		e.name = text
	case "config.uuid":
		e.uuid = text
	case "config.changeVersion":
		e.seen.ChangeVersion = text
	case "guest.ipAddress":
		e.seen.Address = text
	case "runtime.powerState":
		e.seen.Power, _ = c.Val.(types.VirtualMachinePowerState)
	case markProperty():
		e.encodedMark = vch.KeyValue(c.Val)
	case vch.KeyProperty(guestinfo.CommonIDKey):
		e.containerID = vch.KeyValue(c.Val)
	}
}

// prove finds out whose the VM is.
func (v *View) prove(e *entry) {
	mark, id := v.host.Proven(e.encodedMark, e.uuid)
	if e.mark != nil && mark != nil && *e.mark == *mark && e.id == id {
		return
	}
	v.unlist(e)
	e.mark, e.id = mark, id
	if mark != nil {
		v.byUUID[id.BIOSUUID] = append(v.byUUID[id.BIOSUUID], e)
	}
}

func (v *View) unlist(e *entry) {
	if e.mark == nil {
		return
	}
	var others []*entry
	for _, other := range v.byUUID[e.id.BIOSUUID] {
		if other != e {
			others = append(others, other)
		}
	}
	if len(others) == 0 {
		delete(v.byUUID, e.id.BIOSUUID)
	} else {
		v.byUUID[e.id.BIOSUUID] = others
	}
}

func (v *View) drop(e *entry) {
	if e != nil {
		v.unlist(e)
		delete(v.vms, e.ref)
	}
}

func (v *View) wake(ref types.ManagedObjectReference) {
	for ch := range v.waiting[ref] {
		select {
		case ch <- struct{}{}:
		default:
		}
	}
}

// usable reports whether the view may answer.
func (v *View) usable() bool {
	return v.synced && v.appliance && v.clock.Since(v.heard) <= MaxAge
}

func (v *View) stats() Stats {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := Stats{
		VCenter: v.client.Host(), VCH: strings.TrimPrefix(v.host.DatacenterPath, "/") + "/" + v.host.Name, Synced: v.usable(), VMs: len(v.vms), Heard: v.heard,
		Updates: v.updates, Resyncs: v.resyncs, Hits: v.hits, Misses: v.misses,
	}
	for _, of := range v.byUUID {
		s.Machines += len(of)
	}
	return s
}

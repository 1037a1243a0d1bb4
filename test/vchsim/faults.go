// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/vmware/govmomi/simulator"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// FaultRule says which calls fail, and how.
type FaultRule struct {
	// Method is the vSphere method, for example CreateVM_Task, or * for all.
	// Requests to datastore files are named by HTTP method and path, for example
	// "PUT /folder".
	Method string
	// Kind is one of FaultKinds. Default: InvalidState. Prefixed with "task:" the fault is
	// not the method's answer but that of the task which the method starts.
	Kind string
	// Probability is the chance that a matching call fails. Default: 1.
	Probability float64
	// NthCall makes only the n-th matching call fail, counted from 1. Default: every call.
	NthCall int
	// Count is how often the rule strikes at most. Default: no limit.
	Count int
}

// taskPrefix of a fault's kind puts the fault into the task.
const taskPrefix = "task:"

// Kinds of faults that are not vSphere faults.
const (
	// KindHTTP503 answers 503 Service Unavailable; the call is not executed.
	KindHTTP503 = "HTTP503"
	// KindConnectionReset cuts the connection; the call is not executed.
	KindConnectionReset = "ConnectionReset"
	// KindResponseLost executes the call and cuts the connection instead of answering.
	KindResponseLost = "ResponseLost"
)

// Kinds of faults that only requests of files may meet, such as "PUT /folder".
const (
	// KindHTTP401 and the others are statuses that are answered instead of executing the request.
	KindHTTP401 = "HTTP401"
	KindHTTP403 = "HTTP403"
	KindHTTP404 = "HTTP404"
	KindHTTP500 = "HTTP500"
	KindHTTP507 = "HTTP507"
	// KindHalf executes the request with half of its content, or sends half of the
	// answer's, and cuts the connection.
	KindHalf = "Half"
	// KindStall takes half of the content and then does nothing any more.
	KindStall = "Stall"
	// KindCorrupt changes a byte of the content on its way in.
	KindCorrupt = "Corrupt"
)

// transferKinds returns the statuses of the kinds that only requests of files
// may meet; 0 for no status.
func transferKinds() map[string]int {
	return map[string]int{
		KindHTTP401: http.StatusUnauthorized, KindHTTP403: http.StatusForbidden, KindHTTP404: http.StatusNotFound,
		KindHTTP500: http.StatusInternalServerError, KindHTTP507: http.StatusInsufficientStorage,
		KindHalf: 0, KindStall: 0, KindCorrupt: 0,
	}
}

func statusOf(kind string) int {
	if kind == KindHTTP503 {
		return http.StatusServiceUnavailable
	}
	return transferKinds()[kind]
}

// FaultKinds returns the kinds that a FaultRule of any method may have, sorted. All
// vSphere faults among them may be prefixed with "task:".
func FaultKinds() []string {
	kinds := []string{KindHTTP503, KindConnectionReset, KindResponseLost}
	for kind := range vimFaults() {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	return kinds
}

func isTransportKind(kind string) bool {
	_, transfer := transferKinds()[kind]
	return transfer || kind == KindHTTP503 || kind == KindConnectionReset || kind == KindResponseLost
}

// vimFaults makes a new fault of each kind for the object that was called.
func vimFaults() map[string]func(types.ManagedObjectReference) types.BaseMethodFault {
	type ref = types.ManagedObjectReference
	return map[string]func(ref) types.BaseMethodFault{
		"NotAuthenticated": func(r ref) types.BaseMethodFault {
			return &types.NotAuthenticated{NoPermission: types.NoPermission{Object: &r, PrivilegeId: "System.View"}}
		},
		"InvalidLogin": func(ref) types.BaseMethodFault { return &types.InvalidLogin{} },
		"NoPermission": func(r ref) types.BaseMethodFault {
			return &types.NoPermission{Object: &r, PrivilegeId: "VirtualMachine.Inventory.Create"}
		},
		"ManagedObjectNotFound": func(r ref) types.BaseMethodFault { return &types.ManagedObjectNotFound{Obj: r} },
		"TaskInProgress":        func(r ref) types.BaseMethodFault { return &types.TaskInProgress{Task: r} },
		"ConcurrentAccess":      func(ref) types.BaseMethodFault { return &types.ConcurrentAccess{} },
		"InvalidState":          func(ref) types.BaseMethodFault { return &types.InvalidState{} },
		"InvalidPowerState": func(ref) types.BaseMethodFault {
			return &types.InvalidPowerState{RequestedState: types.VirtualMachinePowerStatePoweredOff, ExistingState: types.VirtualMachinePowerStatePoweredOn}
		},
		"DuplicateName":              func(r ref) types.BaseMethodFault { return &types.DuplicateName{Name: "injected", Object: r} },
		"AlreadyExists":              func(ref) types.BaseMethodFault { return &types.AlreadyExists{Name: "injected"} },
		"NotFound":                   func(ref) types.BaseMethodFault { return &types.NotFound{} },
		"InsufficientResourcesFault": func(ref) types.BaseMethodFault { return &types.InsufficientResourcesFault{} },
		"InsufficientCpuResourcesFault": func(ref) types.BaseMethodFault {
			return &types.InsufficientCpuResourcesFault{Unreserved: 1, Requested: 2}
		},
		"InsufficientMemoryResourcesFault": func(ref) types.BaseMethodFault {
			return &types.InsufficientMemoryResourcesFault{Unreserved: 1, Requested: 2}
		},
		"NoDiskSpace": func(ref) types.BaseMethodFault {
			return &types.NoDiskSpace{FileFault: types.FileFault{File: ImageDisk}, Datastore: Datastore}
		},
		"HostNotConnected":  func(ref) types.BaseMethodFault { return &types.HostNotConnected{} },
		"HostCommunication": func(ref) types.BaseMethodFault { return &types.HostCommunication{} },
		"Timedout":          func(ref) types.BaseMethodFault { return &types.Timedout{} },
		"FileLocked":        func(ref) types.BaseMethodFault { return &types.FileLocked{FileFault: types.FileFault{File: ImageDisk}} },
		"FileNotFound": func(ref) types.BaseMethodFault {
			return &types.FileNotFound{FileFault: types.FileFault{File: ImageDisk}}
		},
		"FileAlreadyExists": func(ref) types.BaseMethodFault {
			return &types.FileAlreadyExists{FileFault: types.FileFault{File: ImageDisk}}
		},
		"CannotDeleteFile": func(ref) types.BaseMethodFault {
			return &types.CannotDeleteFile{FileFault: types.FileFault{File: ImageDisk}}
		},
		"InvalidArgument":            func(ref) types.BaseMethodFault { return &types.InvalidArgument{InvalidProperty: "injected"} },
		"InvalidDatastorePath":       func(ref) types.BaseMethodFault { return &types.InvalidDatastorePath{DatastorePath: "injected"} },
		"MethodDisabled":             func(ref) types.BaseMethodFault { return &types.MethodDisabled{Source: "VIC"} },
		"NotSupported":               func(ref) types.BaseMethodFault { return &types.NotSupported{} },
		"ResourceInUse":              func(ref) types.BaseMethodFault { return &types.ResourceInUse{Type: "VirtualMachine", Name: "injected"} },
		"GuestOperationsUnavailable": func(ref) types.BaseMethodFault { return &types.GuestOperationsUnavailable{} },
		"InvalidGuestLogin":          func(ref) types.BaseMethodFault { return &types.InvalidGuestLogin{} },
		"NetworkDisruptedAndConfigRolledBack": func(ref) types.BaseMethodFault {
			return &types.NetworkDisruptedAndConfigRolledBack{Host: "injected"}
		},
		"RequestCanceled":  func(ref) types.BaseMethodFault { return &types.RequestCanceled{} },
		"SystemErrorFault": func(ref) types.BaseMethodFault { return &types.SystemErrorFault{Reason: "injected"} },
		"VimFault":         func(ref) types.BaseMethodFault { return &types.VimFault{} },
	}
}

func (r FaultRule) validate() error {
	kind := strings.TrimPrefix(r.Kind, taskPrefix)
	if _, ok := vimFaults()[kind]; !ok && r.Kind != "" && !isTransportKind(r.Kind) {
		return errdefs.New(errdefs.InvalidArgument, "fault kind %q is unknown; known are %s", r.Kind, strings.Join(FaultKinds(), ", "))
	}
	if _, transfer := transferKinds()[kind]; transfer && !strings.Contains(r.Method, " /") {
		return errdefs.New(errdefs.InvalidArgument, "fault kind %q is for requests of files, such as \"PUT /folder\", got method %q", r.Kind, r.Method)
	}
	if strings.HasPrefix(r.Kind, taskPrefix) && !strings.HasSuffix(r.Method, "_Task") {
		return errdefs.New(errdefs.InvalidArgument, "fault kind %q needs a method that starts a task, got %q", r.Kind, r.Method)
	}
	if strings.HasPrefix(r.Kind, taskPrefix) && taskResponses()[r.Method] == nil {
		return errdefs.New(errdefs.InvalidArgument, "the task of method %q cannot be made to fail", r.Method)
	}
	if r.Method == "" {
		return errdefs.New(errdefs.InvalidArgument, "fault rule needs a method, or * for all")
	}
	if r.Probability < 0 || r.Probability > 1 {
		return errdefs.New(errdefs.InvalidArgument, "fault probability must be between 0 and 1, got %v", r.Probability)
	}
	return nil
}

// ParseFaultRule reads METHOD=PROBABILITY[:KIND], as vchsim's --fault takes it;
// KIND may be prefixed with "task:".
func ParseFaultRule(s string) (FaultRule, error) {
	method, rest, ok := strings.Cut(s, "=")
	if !ok {
		return FaultRule{}, errdefs.New(errdefs.InvalidArgument, "fault %q is not of the form METHOD=PROBABILITY[:KIND]", s)
	}
	number, kind, _ := strings.Cut(rest, ":")
	probability, err := strconv.ParseFloat(number, 64)
	if err != nil || probability <= 0 {
		return FaultRule{}, errdefs.New(errdefs.InvalidArgument, "fault %q: probability must be a number above 0 and at most 1, got %q", s, number)
	}
	rule := FaultRule{Method: method, Probability: probability, Kind: kind}
	return rule, rule.validate()
}

// injector decides which calls fail. Each level (transport, method) asks only
// for its own kinds, so that a rule counts each call once.
type injector struct {
	mu    sync.Mutex
	rules []*activeRule
}

type activeRule struct {
	FaultRule
	seen, struck int
}

func (i *injector) add(rule FaultRule) error {
	if err := rule.validate(); err != nil {
		return err
	}
	if rule.Kind == "" {
		rule.Kind = "InvalidState"
	}
	if rule.Probability == 0 {
		rule.Probability = 1
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rules = append(i.rules, &activeRule{FaultRule: rule})
	return nil
}

func (i *injector) clear() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.rules = nil
}

// strike returns the kind of fault that the call meets, or "".
func (i *injector) strike(method string, transport bool) string {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, r := range i.rules {
		if isTransportKind(r.Kind) != transport || (r.Method != "*" && r.Method != method) {
			continue
		}
		r.seen++
		switch {
		case r.NthCall > 0 && r.seen != r.NthCall,
			r.Count > 0 && r.struck >= r.Count,
			r.Probability < 1 && rand.Float64() >= r.Probability:
			continue
		}
		r.struck++
		return r.Kind
	}
	return ""
}

// newFault makes the vSphere fault of a kind, without its task prefix.
func newFault(kind string, on types.ManagedObjectReference) types.BaseMethodFault {
	return vimFaults()[strings.TrimPrefix(kind, taskPrefix)](on)
}

// SetFault adds a rule. Rules are asked in the order in which they were set; the
// first that strikes decides. A bad rule is InvalidArgument.
func (s *Sim) SetFault(rule FaultRule) error { return s.faults.add(rule) }

// ClearFaults removes all rules.
func (s *Sim) ClearFaults() { s.faults.clear() }

// failingTask starts a task of the entity that fails, and returns its reference.
func failingTask(ctx *simulator.Context, entity types.ManagedObjectReference, name string, with types.BaseMethodFault) types.ManagedObjectReference {
	return simulator.CreateTask(entity, name, func(*simulator.Task) (types.AnyType, types.BaseMethodFault) {
		return nil, with
	}).Run(ctx)
}

// OnCall has f called, in its goroutine, when the next call of a method arrives,
// before it is executed; stop forgets it. Requests of files count under the names
// of Calls.
func (s *Sim) OnCall(method string, f func()) (stop func()) {
	stop, _ = s.onArrival(method, 0, f)
	return stop
}

// OnRequest is OnCall for the n-th request from now on, counted from 1, whatever it
// is, but those that rest until something changes: they come at any time and are no steps of
// an operation. handled is closed when the simulator has done with it; tasks that it began may go on.
func (s *Sim) OnRequest(n int, f func()) (stop func(), handled <-chan struct{}) {
	return s.onArrival("", n-1, f)
}

func (s *Sim) onArrival(method string, after int, f func()) (stop func(), handled <-chan struct{}) {
	s.counters.mu.Lock()
	defer s.counters.mu.Unlock()
	done := make(chan struct{})
	s.counters.method, s.counters.after, s.counters.arrived, s.counters.handled = method, after, f, done
	return func() {
		s.counters.mu.Lock()
		defer s.counters.mu.Unlock()
		s.counters.arrived = nil
	}, done
}

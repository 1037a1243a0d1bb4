// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/task"
	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// soapFault is what the transport returns for a fault.
func soapFault(text string, fault types.BaseMethodFault) error {
	f := &soap.Fault{Code: "ServerFaultCode", String: text}
	f.Detail.Fault = fault
	return soap.WrapSoapFault(f)
}

func newFault(t *testing.T, name string) types.BaseMethodFault {
	t.Helper()
	typ, ok := types.TypeFunc()(name)
	if !ok {
		t.Fatalf("vSphere has no fault %s", name)
	}
	fault, ok := reflect.New(typ).Interface().(types.BaseMethodFault)
	if !ok {
		t.Fatalf("%s is no fault", name)
	}
	return fault
}

// The table holds names; this finds those that no fault bears.
func TestEveryFaultOfTheTableExistsAndConverts(t *testing.T) {
	for name, kind := range kinds {
		if kind == errdefs.Unimplemented || kind == errdefs.Uninitialized {
			t.Errorf("%s has kind %s, which no fault may have", name, kind)
		}
		if _, ok := types.TypeFunc()(name); !ok {
			t.Errorf("vSphere has no fault %s", name)
			continue
		}
		for what, err := range map[string]error{
			"SOAP fault":   soapFault("text", newFault(t, name)),
			"vim fault":    soap.WrapVimFault(newFault(t, name)),
			"task fault":   task.Error{LocalizedMethodFault: &types.LocalizedMethodFault{Fault: newFault(t, name), LocalizedMessage: "text"}},
			"wrapped":      fmt.Errorf("reconfigure: %w", soapFault("text", newFault(t, name))),
			"second round": Convert(soapFault("text", newFault(t, name)), "first round"),
		} {
			got := Convert(err, "try %s", "something")
			if errdefs.KindOf(got) != kind || !strings.Contains(got.Error(), name) || !strings.HasPrefix(got.Error(), "try something: ") {
				t.Errorf("%s as %s: got %s %q, want %s", name, what, errdefs.KindOf(got), got, kind)
			}
			if !errors.Is(got, err) {
				t.Errorf("%s as %s: the cause is lost", name, what)
			}
		}
	}
}

// What a fault has no entry for, it inherits; the nearest ancestor wins.
func TestFaultsInheritTheirKind(t *testing.T) {
	for name, want := range map[string]errdefs.Kind{
		"InsufficientMemoryResourcesFault":   errdefs.ResourceExhausted,
		"InsufficientHostCpuCapacityFault":   errdefs.ResourceExhausted,
		"InsufficientStandbyMemoryResource":  errdefs.ResourceExhausted,
		"InsufficientFailoverResourcesFault": errdefs.ResourceExhausted,
		"VmFaultToleranceTooManyVMsOnHost":   errdefs.ResourceExhausted,
		"PasswordExpired":                    errdefs.Unauthenticated,
		"VAppTaskInProgress":                 errdefs.Aborted,
		"InvalidPowerState":                  errdefs.FailedPrecondition,
		"InvalidHostState":                   errdefs.FailedPrecondition,
		"QuestionPending":                    errdefs.FailedPrecondition,
		"VmConfigFault":                      errdefs.FailedPrecondition,
		"CannotAccessNetwork":                errdefs.FailedPrecondition,
		"InvalidDeviceSpec":                  errdefs.InvalidArgument,
		"TooManyDevices":                     errdefs.InvalidArgument,
		"InvalidIndexArgument":               errdefs.InvalidArgument,
		"InvalidDatastorePath":               errdefs.InvalidArgument,
		"SwapDatastoreNotWritableOnHost":     errdefs.FailedPrecondition,
		"HostNotConnected":                   errdefs.Unavailable,
		"HostNotReachable":                   errdefs.Unavailable,
		"InaccessibleFTMetadataDatastore":    errdefs.Unavailable,
		"NoHost":                             errdefs.Unavailable,
		"PowerOnFtSecondaryTimedout":         errdefs.DeadlineExceeded,
		"ExpiredFeatureLicense":              errdefs.FailedPrecondition,
		"SystemError":                        errdefs.Internal,
		"MethodNotFound":                     errdefs.Internal,
		"NotImplemented":                     errdefs.Internal,
		"InvalidProperty":                    errdefs.Internal,
		"NetworkCopyFault":                   errdefs.Internal,
	} {
		if got := errdefs.KindOf(Convert(soapFault("", newFault(t, name)), "try")); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
}

func TestACauseSpeaksForAFaultThatSaysNothing(t *testing.T) {
	fault := &types.SystemError{Reason: "vpxd"}
	fault.FaultCause = &types.LocalizedMethodFault{Fault: &types.NoDiskSpace{Datastore: "ds1"}, LocalizedMessage: "Insufficient disk space on datastore ds1."}
	err := Convert(soapFault("A general system error occurred", fault), "create VM m1")
	const want = "create VM m1: SystemError (reason vpxd): A general system error occurred, caused by NoDiskSpace (datastore ds1): Insufficient disk space on datastore ds1."
	if errdefs.KindOf(err) != errdefs.ResourceExhausted || err.Error() != want {
		t.Errorf("got %s %q,\nwant ResourceExhausted %q", errdefs.KindOf(err), err, want)
	}
}

func TestTheTextSaysWhatVCenterSaid(t *testing.T) {
	vm := types.ManagedObjectReference{Type: "VirtualMachine", Value: "vm-12"}
	noPermission := &types.NoPermission{Object: &vm, PrivilegeId: "VirtualMachine.Interact.PowerOn"}
	noPermission.FaultMessage = []types.LocalizableMessage{{Key: "k", Message: "ask your administrator"}}
	for want, err := range map[string]error{
		"try: NoPermission (object VirtualMachine:vm-12, privilegeId VirtualMachine.Interact.PowerOn): Permission denied: ask your administrator": soapFault("Permission denied", noPermission),
		"try: NoPermission (missingPrivileges Datastore.FileManagement and Datastore.Browse on Datastore:ds-1)":                                   soapFault("", &types.NoPermission{MissingPrivileges: []types.NoPermissionEntityPrivileges{{Entity: types.ManagedObjectReference{Type: "Datastore", Value: "ds-1"}, PrivilegeIds: []string{"Datastore.FileManagement", "Datastore.Browse"}}}}),
		"try: InvalidPowerState (requestedState poweredOn, existingState suspended)":                                                              soapFault("", &types.InvalidPowerState{RequestedState: "poweredOn", ExistingState: "suspended"}),
		"try: FileNotFound (file [ds] a.vmdk)":                                        soap.WrapVimFault(&types.FileNotFound{FileFault: types.FileFault{File: "[ds] a.vmdk"}}),
		"try: DuplicateName (name m1, object VirtualMachine:vm-12): m1 is there":      soapFault("m1 is there", &types.DuplicateName{Name: "m1", Object: vm}),
		"try: InsufficientMemoryResourcesFault (unreserved 1, requested 2)":           soapFault("", &types.InsufficientMemoryResourcesFault{Unreserved: 1, Requested: 2}),
		"try: step: InvalidArgument (invalidProperty spec.deviceChange): not correct": fmt.Errorf("step: %w", soapFault("not correct", &types.InvalidArgument{InvalidProperty: "spec.deviceChange"})),
		"try: ServerFaultCode: no detail":                                             soapFault("no detail", nil),
	} {
		if diff := cmp.Diff(want, Convert(err, "try").Error()); diff != "" {
			t.Errorf("text (-want +got):\n%s", diff)
		}
	}
}

func TestErrorsWithoutAFault(t *testing.T) {
	unavailable := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	t.Cleanup(unavailable.Close)
	hangUp := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(hangUp.Close)
	call := func(server string) error {
		_, err := NewPool(Options{}).Client(t.Context(), Config{Endpoint: server, Username: testUser, Password: planted})
		return err
	}
	for name, tc := range map[string]struct {
		err  error
		want errdefs.Kind
	}{
		"503":                {call(unavailable.URL), errdefs.Unavailable},
		"connection closed":  {call(hangUp.URL), errdefs.Unavailable},
		"connection refused": {call("http://127.0.0.1:1"), errdefs.Unavailable},
		"unknown host":       {call("nowhere.invalid"), errdefs.Unavailable},
		"reset":              {&net.OpError{Op: "read", Err: os.NewSyscallError("read", syscall.ECONNRESET)}, errdefs.Unavailable},
		"EOF":                {io.ErrUnexpectedEOF, errdefs.Unavailable},
		"deadline":           {&url.Error{Op: "Post", URL: "x", Err: context.DeadlineExceeded}, errdefs.DeadlineExceeded},
		"cancelled":          {&url.Error{Op: "Post", URL: "x", Err: context.Canceled}, errdefs.Canceled},
		"a kind":             {errdefs.New(errdefs.OutOfRange, "two"), errdefs.OutOfRange},
		"anything else":      {errors.New("odd"), errdefs.Internal},
	} {
		got := Convert(tc.err, "try")
		if errdefs.KindOf(got) != tc.want || strings.Contains(got.Error(), planted) {
			t.Errorf("%s: got %s %v, want %s", name, errdefs.KindOf(got), got, tc.want)
		}
	}
	if Convert(nil, "try") != nil {
		t.Error("nil became an error")
	}
}

func TestPredicates(t *testing.T) {
	for name, tc := range map[string]struct {
		is       func(error) bool
		yes, not []string
	}{
		"IsManagedObjectNotFound": {IsManagedObjectNotFound, []string{"ManagedObjectNotFound"}, []string{"NotFound", "FileNotFound"}},
		"IsConcurrent":            {IsConcurrent, []string{"ConcurrentAccess", "TaskInProgress", "VAppTaskInProgress", "InvalidState"}, []string{"InvalidPowerState", "InvalidHostState", "FileLocked"}},
		"IsInvalidPowerState":     {IsInvalidPowerState, []string{"InvalidPowerState"}, []string{"InvalidState"}},
		"IsFileNotFound":          {IsFileNotFound, []string{"FileNotFound"}, []string{"NotFound", "CannotAccessFile"}},
		"IsMethodDisabled":        {IsMethodDisabled, []string{"MethodDisabled"}, []string{"NotSupported"}},
		"IsFileLocked":            {IsFileLocked, []string{"FileLocked"}, []string{"FileFault", "CannotAccessFile", "TaskInProgress", "ResourceInUse"}},
		"IsAlreadyExists":         {IsAlreadyExists, []string{"DuplicateName", "AlreadyExists", "FileAlreadyExists"}, []string{"ResourceInUse"}},
	} {
		for want, faults := range map[bool][]string{true: tc.yes, false: tc.not} {
			for _, fault := range faults {
				if got := tc.is(Convert(soapFault("", newFault(t, fault)), "try")); got != want {
					t.Errorf("%s(%s) = %t", name, fault, got)
				}
			}
		}
		if tc.is(nil) || tc.is(errors.New("odd")) {
			t.Errorf("%s is true of an error without a fault", name)
		}
	}
}

// vSphere says of a disk in use which file it is in a message, and not in the fault's type.
func TestADiskInUseIsToldByItsMessages(t *testing.T) {
	const disk = "/vmfs/volumes/59a4/volumes/data/data.vmdk"
	message := func(key string, arguments ...any) types.LocalizableMessage {
		m := types.LocalizableMessage{Key: key}
		for _, a := range arguments {
			m.Arg = append(m.Arg, types.KeyAnyValue{Key: "1", Value: a})
		}
		return m
	}
	of := func(messages ...types.LocalizableMessage) *types.LocalizedMethodFault {
		f := &types.GenericVmConfigFault{}
		f.FaultMessage = messages
		return &types.LocalizedMethodFault{Fault: f, LocalizedMessage: "Failed to lock the file"}
	}
	caused := &types.LocalizedMethodFault{Fault: &types.GenericVmConfigFault{VmConfigFault: types.VmConfigFault{
		VimFault: types.VimFault{MethodFault: types.MethodFault{FaultCause: of(message(messageLocked), message(messageDisk, disk))}},
	}}}
	for name, tc := range map[string]struct {
		fault *types.LocalizedMethodFault
		is    bool
		disks []string
	}{
		"as VIC knows it":             {of(message("msg.moduletable.powerOnFailed", "Disk"), message(messageDisk, disk), message(messageLocked)), true, []string{disk}},
		"two disks":                   {of(message(messageLocked), message(messageDisk, disk), message(messageDisk, "/b.vmdk", int32(1))), true, []string{disk, "/b.vmdk"}},
		"as a cause":                  {caused, true, []string{disk}},
		"a file that is no disk":      {of(message(messageLocked)), true, nil},
		"a disk that cannot be found": {of(message(messageDisk, disk), message("msg.fileio.noent")), false, nil},
		"no message":                  {of(), false, nil},
		"a fault for it":              {&types.LocalizedMethodFault{Fault: &types.FileLocked{}}, true, nil},
	} {
		for way, err := range map[string]error{
			"task": &taskFault{*tc.fault}, "govmomi's task": task.Error{LocalizedMethodFault: tc.fault}, "SOAP fault": soapFault("text", tc.fault.Fault),
		} {
			err = Convert(errdefs.Wrap(errdefs.Internal, Convert(err, "power on"), "start"), "initialize")
			if got := IsFileLocked(err); got != tc.is {
				t.Errorf("%s, %s: locked = %t", name, way, got)
			}
			if diff := cmp.Diff(tc.disks, LockedDisks(err)); diff != "" {
				t.Errorf("%s, %s: disks (-want +got):\n%s", name, way, diff)
			}
		}
	}
	if IsFileLocked(nil) || LockedDisks(errors.New("odd")) != nil {
		t.Error("an error without a fault is of a locked file")
	}
}

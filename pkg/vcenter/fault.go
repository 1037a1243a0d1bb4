// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/vmware/govmomi/vim25/soap"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// kinds is the table: what a vSphere fault means to a caller. A fault that is not
// listed has the kind of its nearest listed ancestor, then that of its cause, and
// Internal if there is none. Notes:
//
//   - No fault is Unimplemented or Uninitialized: to machine-controller-manager
//     these say something about the driver and would make it skip steps.
//   - NotFound is kept for objects of the inventory. A missing file is
//     FailedPrecondition, lest a missing image disk reads like a missing machine.
//   - InvalidArgument is the caller's doing for us, since all that varies in our
//     requests comes from the ProviderSpec. (vSAN is known to answer it in passing
//     while its network is split; a repeated reconcile heals that.)
var kinds = map[string]errdefs.Kind{ //nolint:gochecknoglobals // a constant table
	// Who may do it.
	"InvalidLogin":                           errdefs.Unauthenticated,
	"NotAuthenticated":                       errdefs.Unauthenticated,
	"NoClientCertificate":                    errdefs.Unauthenticated,
	"NoPermission":                           errdefs.PermissionDenied,
	"SecurityError":                          errdefs.PermissionDenied,
	"RestrictedByAdministrator":              errdefs.PermissionDenied,
	"HostAccessRestrictedToManagementServer": errdefs.PermissionDenied,

	// Capacity.
	"InsufficientResourcesFault":        errdefs.ResourceExhausted,
	"InsufficientStorageIops":           errdefs.ResourceExhausted,
	"NoDiskSpace":                       errdefs.ResourceExhausted,
	"LimitExceeded":                     errdefs.ResourceExhausted,
	"NoCompatibleDatastore":             errdefs.ResourceExhausted,
	"VmLimitLicense":                    errdefs.ResourceExhausted,
	"VramLimitLicense":                  errdefs.ResourceExhausted,
	"HostInventoryFull":                 errdefs.ResourceExhausted,
	"DestinationSwitchFull":             errdefs.ResourceExhausted,
	"NoAvailableIp":                     errdefs.ResourceExhausted,
	"ResourceNotAvailable":              errdefs.ResourceExhausted,
	"InvalidResourcePoolStructureFault": errdefs.ResourceExhausted,

	// Somebody else is at it.
	"TaskInProgress":              errdefs.Aborted,
	"ConcurrentAccess":            errdefs.Aborted,
	"VAppOperationInProgress":     errdefs.Aborted,
	"RequestCanceled":             errdefs.Aborted,
	"FileLocked":                  errdefs.Aborted,
	"InvalidCollectorVersion":     errdefs.Aborted,
	"FailToLockFaultToleranceVMs": errdefs.Aborted,

	// It is there, or is not.
	"DuplicateName":               errdefs.AlreadyExists,
	"AlreadyExists":               errdefs.AlreadyExists,
	"FileAlreadyExists":           errdefs.AlreadyExists,
	"VmAlreadyExistsInDatacenter": errdefs.AlreadyExists,
	"ManagedObjectNotFound":       errdefs.NotFound,
	"NotFound":                    errdefs.NotFound,

	// Its state forbids it; a person must act.
	"InvalidState":               errdefs.FailedPrecondition,
	"MethodDisabled":             errdefs.FailedPrecondition,
	"MethodAlreadyDisabledFault": errdefs.FailedPrecondition,
	"NotSupported":               errdefs.FailedPrecondition,
	"RestrictedVersion":          errdefs.FailedPrecondition,
	"NotEnoughLicenses":          errdefs.FailedPrecondition,
	"ResourceInUse":              errdefs.FailedPrecondition,
	"FileNotFound":               errdefs.FailedPrecondition,
	"DirectoryNotEmpty":          errdefs.FailedPrecondition,
	"CannotDeleteFile":           errdefs.FailedPrecondition,
	"InvalidFolder":              errdefs.FailedPrecondition,
	"NoCompatibleHost":           errdefs.FailedPrecondition,
	"VmConfigFault":              errdefs.FailedPrecondition,
	"OperationDisallowedOnHost":  errdefs.FailedPrecondition,
	"DatastoreNotWritableOnHost": errdefs.FailedPrecondition,
	"NoDiskFound":                errdefs.FailedPrecondition,
	"RebootRequired":             errdefs.FailedPrecondition,

	// The input is wrong.
	"InvalidArgument":            errdefs.InvalidArgument,
	"InvalidName":                errdefs.InvalidArgument,
	"InvalidVmConfig":            errdefs.InvalidArgument,
	"InvalidDatastore":           errdefs.InvalidArgument,
	"OutOfBounds":                errdefs.InvalidArgument,
	"FileNameTooLong":            errdefs.InvalidArgument,
	"FileTooLarge":               errdefs.InvalidArgument,
	"NumVirtualCpusNotSupported": errdefs.InvalidArgument,
	"MemorySizeNotSupported":     errdefs.InvalidArgument,
	"NumVirtualCpusExceedsLimit": errdefs.InvalidArgument,

	// It cannot be reached now.
	"HostCommunication":                   errdefs.Unavailable,
	"HostConnectFault":                    errdefs.Unavailable,
	"InvalidHostConnectionState":          errdefs.Unavailable,
	"NoActiveHostInCluster":               errdefs.Unavailable,
	"NetworkDisruptedAndConfigRolledBack": errdefs.Unavailable,
	"InaccessibleDatastore":               errdefs.Unavailable,
	"NoConnectedDatastore":                errdefs.Unavailable,
	"CannotAccessFile":                    errdefs.Unavailable,
	"CannotAccessVmDisk":                  errdefs.Unavailable,
	"GuestOperationsUnavailable":          errdefs.Unavailable,
	"ToolsUnavailable":                    errdefs.Unavailable,
	"LicenseServerUnavailable":            errdefs.Unavailable,
	"DatabaseError":                       errdefs.Unavailable,
	"TooManyConcurrentNativeClones":       errdefs.Unavailable,

	"Timedout": errdefs.DeadlineExceeded,
}

// faulty is what govmomi's errors have in common.
type faulty interface {
	error
	Fault() types.BaseMethodFault
}

// taskFault is the error of a task that failed.
type taskFault struct{ types.LocalizedMethodFault }

// IsTaskFault reports that err is a task's own: the task has ended, and failed.
// Any other error of Waiter.Task leaves open how it ends.
func IsTaskFault(err error) bool {
	_, ok := errors.AsType[*taskFault](err)
	return ok
}

// Error returns vCenter's text.
func (e *taskFault) Error() string {
	if e.LocalizedMessage != "" {
		return e.LocalizedMessage
	}
	return faultName(e.LocalizedMethodFault.Fault)
}

// Fault returns the fault of the task.
func (e *taskFault) Fault() types.BaseMethodFault { return e.LocalizedMethodFault.Fault }

// converted is an error with the text that Convert made for it.
type converted struct {
	text string
	err  error
}

func (e *converted) Error() string { return e.text }

// Unwrap returns the error as it came.
func (e *converted) Unwrap() error { return e.err }

// Convert gives err its kind and says what was tried. It takes SOAP faults,
// faults of tasks, network and context errors; an error that has a kind already
// keeps it. The text names the fault and what it says of objects, privileges,
// properties and files. err stays in the chain, so that the predicates below
// still work. nil stays nil.
func Convert(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	if e, ok := errors.AsType[*errdefs.Error](err); ok {
		return errdefs.Wrap(e.Kind, err, format, args...)
	}
	if f, ok := errors.AsType[faulty](err); ok && f.Fault() != nil {
		text := strings.Replace(err.Error(), f.Error(), describe(f), 1)
		return errdefs.Wrap(kindOfFault(f.Fault()), &converted{text, err}, format, args...)
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return errdefs.Wrap(errdefs.FailedPrecondition, &converted{err.Error() + ": " + untrusted(e), err}, format, args...)
	}
	return errdefs.Wrap(kindOfTransport(err), err, format, args...)
}

// kindOfTransport is the second half of the table: errors without a fault.
func kindOfTransport(err error) errdefs.Kind {
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errdefs.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return errdefs.Canceled
	}
	// url.Error holds HTTP statuses too, for example 503 of a vCenter that is
	// starting; net.Error resolving, dialing, resets and time-outs of both.
	if isNetwork(err) || isGarbled(err) {
		return errdefs.Unavailable
	}
	return errdefs.Internal
}

func kindOfFault(fault types.BaseMethodFault) errdefs.Kind {
	for fault != nil {
		for _, name := range lineage(fault) {
			if kind, ok := kinds[name]; ok {
				return kind
			}
		}
		base := fault.GetMethodFault()
		if base == nil || base.FaultCause == nil {
			break
		}
		fault = base.FaultCause.Fault
	}
	return errdefs.Internal
}

// lineage returns the name of the fault's type and those of its ancestors, the
// nearest first. govmomi writes "extends" as an embedded struct.
func lineage(fault types.BaseMethodFault) []string {
	var names []string
	t := reflect.TypeOf(fault)
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	for t != nil && t.Kind() == reflect.Struct {
		names = append(names, t.Name())
		if t.NumField() == 0 || !t.Field(0).Anonymous {
			break
		}
		t = t.Field(0).Type
	}
	return names
}

// faultName returns the vSphere name of a fault.
func faultName(fault types.BaseMethodFault) string {
	if names := lineage(fault); len(names) > 0 {
		return names[0]
	}
	return "unknown fault"
}

// isFault reports whether a fault is of one of the named types or of a subtype.
func isFault(fault types.BaseMethodFault, names ...string) bool {
	return fault != nil && slices.ContainsFunc(lineage(fault), func(n string) bool { return slices.Contains(names, n) })
}

// faultOf returns the fault in err's chain, or nil.
func faultOf(err error) types.BaseMethodFault {
	if f, ok := errors.AsType[faulty](err); ok {
		return f.Fault()
	}
	return nil
}

// hasFault reports whether err is a fault of one of the named types or of a
// subtype, or was caused by one.
func hasFault(err error, names ...string) bool {
	for fault := faultOf(err); fault != nil; {
		if isFault(fault, names...) {
			return true
		}
		base := fault.GetMethodFault()
		if base == nil || base.FaultCause == nil {
			return false
		}
		fault = base.FaultCause.Fault
	}
	return false
}

// IsManagedObjectNotFound reports that the object behind a reference is gone.
func IsManagedObjectNotFound(err error) bool { return hasFault(err, "ManagedObjectNotFound") }

// IsConcurrent reports that another operation interfered, so that the caller
// should repeat from a fresh read: ConcurrentAccess, TaskInProgress, and
// InvalidState itself, but none of its subtypes such as InvalidPowerState.
func IsConcurrent(err error) bool {
	return hasFault(err, "ConcurrentAccess", "TaskInProgress") || faultName(faultOf(err)) == "InvalidState"
}

// IsInvalidPowerState reports that a VM was not in the power state that the operation needs.
func IsInvalidPowerState(err error) bool { return hasFault(err, "InvalidPowerState") }

// IsFileNotFound reports that a file or directory of a datastore is absent.
func IsFileNotFound(err error) bool { return hasFault(err, "FileNotFound") }

// IsMethodDisabled reports that a method is disabled on the object, as VIC does
// with Destroy on its VMs.
func IsMethodDisabled(err error) bool { return hasFault(err, "MethodDisabled") }

// Keys of the messages of a fault when a VM does not start since a disk of it is in use (VIC, pkg/vsphere/disk/vmdk.go:37-125).
const (
	messageLocked = "msg.fileio.lock"
	messageDisk   = "msg.disk.noBackEnd"
)

// IsFileLocked reports that somebody else has a file open, as when another VM has a
// disk. It may also be a file of the VM's own: only who looks at the users of a disk can tell.
func IsFileLocked(err error) bool {
	return hasFault(err, "FileLocked") || len(messageArguments(err, messageLocked)) > 0
}

// LockedDisks returns what err, of which IsFileLocked is true, says of the disks that
// are in use: paths of files as hosts have them, in any number.
func LockedDisks(err error) []string {
	if !IsFileLocked(err) {
		return nil
	}
	var disks []string
	for _, arguments := range messageArguments(err, messageDisk) {
		for _, a := range arguments {
			if path, ok := a.Value.(string); ok {
				disks = append(disks, path)
			}
		}
	}
	return disks
}

// messageArguments returns the arguments of each message with a key, of err's fault and of its causes.
func messageArguments(err error, key string) [][]types.KeyAnyValue {
	var found [][]types.KeyAnyValue
	for fault := faultOf(err); fault != nil; {
		base := fault.GetMethodFault()
		if base == nil {
			break
		}
		for _, m := range base.FaultMessage {
			if m.Key == key {
				found = append(found, m.Arg)
			}
		}
		if base.FaultCause == nil {
			break
		}
		fault = base.FaultCause.Fault
	}
	return found
}

// IsAlreadyExists reports that something of that name is there: a VM, folder or file.
func IsAlreadyExists(err error) bool {
	return hasFault(err, "DuplicateName", "AlreadyExists", "FileAlreadyExists", "VmAlreadyExistsInDatacenter")
}

// describe writes a fault in one line: its name, its own fields, vCenter's text
// and the chain of causes.
func describe(f faulty) string {
	text := f.Error()
	if soap.IsSoapFault(f) {
		text = soap.ToSoapFault(f).String
	}
	var parts []string
	for fault := f.Fault(); fault != nil; {
		parts = append(parts, describeOne(fault, text))
		base := fault.GetMethodFault()
		if base == nil || base.FaultCause == nil {
			break
		}
		fault, text = base.FaultCause.Fault, base.FaultCause.LocalizedMessage
	}
	return strings.Join(parts, ", caused by ")
}

func describeOne(fault types.BaseMethodFault, text string) string {
	name := faultName(fault)
	out := name
	if fields := fieldsOf(reflect.ValueOf(fault)); len(fields) > 0 {
		out += " (" + strings.Join(fields, ", ") + ")"
	}
	texts := []string{text}
	if base := fault.GetMethodFault(); base != nil {
		for _, m := range base.FaultMessage {
			texts = append(texts, m.Message)
		}
	}
	said := map[string]bool{"": true, name: true}
	for _, t := range texts {
		if t = strings.TrimSpace(t); !said[t] {
			said[t] = true
			out += ": " + t
		}
	}
	return out
}

// fieldsOf lists what a fault says beyond its type: the object and privilege of
// NoPermission, the states of InvalidPowerState, the file of a FileFault.
func fieldsOf(v reflect.Value) []string {
	for v.Kind() == reflect.Pointer && !v.IsNil() {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil
	}
	var out []string
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		if field.Anonymous {
			if field.Type != reflect.TypeFor[types.MethodFault]() {
				out = append(out, fieldsOf(value)...)
			}
			continue
		}
		if value.IsZero() {
			continue
		}
		if s, ok := scalar(value.Interface()); ok {
			out = append(out, strings.ToLower(field.Name[:1])+field.Name[1:]+" "+s)
		}
	}
	return out
}

func scalar(v any) (string, bool) {
	switch v := v.(type) {
	case types.ManagedObjectReference:
		return v.String(), true
	case *types.ManagedObjectReference:
		return v.String(), true
	case []types.NoPermissionEntityPrivileges:
		var all []string
		for _, e := range v {
			all = append(all, fmt.Sprintf("%s on %s", strings.Join(e.PrivilegeIds, " and "), e.Entity))
		}
		return strings.Join(all, ", "), true
	}
	switch reflect.TypeOf(v).Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int16, reflect.Int32, reflect.Int64, reflect.Float32, reflect.Float64:
		return fmt.Sprint(v), true
	default:
		return "", false
	}
}

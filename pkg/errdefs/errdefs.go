// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package errdefs defines the kinds of errors that cross package borders.
//
// A kind says what the caller can do about an error: correct its input, wait
// and repeat, ask for rights. Kinds carry the meaning of
// machine-controller-manager's codes but know nothing of them: pkg/provider is
// the one place that turns kinds into codes.
//
// Every package makes errors with New or Wrap and asks with KindOf or Is; none
// reads error text. The package does no I/O and imports nothing of this module.
package errdefs

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// Kind classifies an error by what the caller can do about it.
type Kind string

// The kinds. Each comment says what the caller should do.
const (
	// Unknown is the kind of an error that nobody classified.
	Unknown Kind = "Unknown"
	// InvalidArgument: the input is wrong; correct it, repeating is useless.
	InvalidArgument Kind = "InvalidArgument"
	// NotFound: the object does not exist, verified at its source.
	NotFound Kind = "NotFound"
	// AlreadyExists: an object of that identity exists and differs from what was asked.
	AlreadyExists Kind = "AlreadyExists"
	// PermissionDenied: the user is known but lacks a privilege.
	PermissionDenied Kind = "PermissionDenied"
	// Unauthenticated: the credentials are missing or wrong.
	Unauthenticated Kind = "Unauthenticated"
	// ResourceExhausted: capacity is used up (CPU, memory, datastore, addresses); another place may have some.
	ResourceExhausted Kind = "ResourceExhausted"
	// FailedPrecondition: the object is in a state, or of an owner, that forbids the operation; a person must act.
	FailedPrecondition Kind = "FailedPrecondition"
	// Aborted: another operation interfered; repeat from a fresh read.
	Aborted Kind = "Aborted"
	// OutOfRange: several objects claim one identity.
	OutOfRange Kind = "OutOfRange"
	// Unimplemented: this implementation does not offer the operation.
	Unimplemented Kind = "Unimplemented"
	// Internal: an invariant is broken, a bug here or in a server.
	Internal Kind = "Internal"
	// Unavailable: the service cannot be reached or asks to wait; repeat later.
	Unavailable Kind = "Unavailable"
	// DeadlineExceeded: the operation's own time limit passed; repeat, it continues where it stopped.
	DeadlineExceeded Kind = "DeadlineExceeded"
	// Canceled: the caller gave up.
	Canceled Kind = "Canceled"
	// Uninitialized: the machine exists but has not been started to the end; InitializeMachine finishes it.
	Uninitialized Kind = "Uninitialized"
)

// Kinds returns all kinds, in a fixed order. The slice is the caller's.
func Kinds() []Kind {
	return []Kind{
		Unknown, InvalidArgument, NotFound, AlreadyExists, PermissionDenied, Unauthenticated,
		ResourceExhausted, FailedPrecondition, Aborted, OutOfRange, Unimplemented, Internal,
		Unavailable, DeadlineExceeded, Canceled, Uninitialized,
	}
}

// Error is an error with a kind. Its text never contains the kind.
type Error struct {
	// Kind is what the caller can do about it.
	Kind Kind
	// Message says what was tried, with identifiers, and never contains a secret.
	Message string
	// Err is the cause; may be nil.
	Err error
}

// Error returns the message followed by the cause.
func (e *Error) Error() string {
	switch {
	case e.Err == nil:
		return e.Message
	case e.Message == "":
		return e.Err.Error()
	default:
		return e.Message + ": " + e.Err.Error()
	}
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of the given kind.
func New(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns err with a kind and a message that says what was tried.
// It returns nil when err is nil.
func Wrap(kind Kind, err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...), Err: err}
}

// KindOf returns the kind of the outermost Error in err's chain. Context errors
// without a kind are DeadlineExceeded and Canceled, a disk of ours that is full is
// ResourceExhausted; anything else is Unknown; nil has the empty kind.
func KindOf(err error) Kind {
	if err == nil {
		return ""
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return DeadlineExceeded
	case errors.Is(err, context.Canceled):
		return Canceled
	case IsFull(err):
		return ResourceExhausted
	}
	return Unknown
}

// IsFull reports whether a file of this process could not be written since its disk,
// or what the user may have of it, is full.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// Is reports whether err is of the given kind.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

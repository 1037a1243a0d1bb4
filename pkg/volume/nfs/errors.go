// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package nfs

import (
	"context"
	"errors"
	"fmt"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// is reports that the server answered with one of some statuses.
func is(err error, statuses ...status) bool {
	failed, ok := errors.AsType[*statusError](err)
	if !ok {
		return false
	}
	for _, s := range statuses {
		if failed.status == s {
			return true
		}
	}
	return false
}

// answered reports that the server said that it did not do what was asked; after any
// other error it may have done it.
func answered(err error) bool {
	_, said := errors.AsType[*statusError](err)
	_, refused := errors.AsType[*refusal](err)
	return said || refused
}

// kind is what a caller can do about an error, with what a person can, if that is known.
func (s *Store) kind(err error) (errdefs.Kind, string) {
	if e, ok := errors.AsType[*errdefs.Error](err); ok {
		return e.Kind, ""
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return errdefs.KindOf(err), ""
	}
	if failed, ok := errors.AsType[*statusError](err); ok {
		return s.statusKind(failed)
	}
	if refused, ok := errors.AsType[*refusal](err); ok {
		switch {
		case refused.rights:
			return errdefs.PermissionDenied, s.rights()
		case refused.service:
			return errdefs.FailedPrecondition, "an export of NFS version 3 over TCP is needed"
		}
		return errdefs.Unavailable, ""
	}
	return errdefs.Unavailable, ""
}

func (s *Store) statusKind(failed *statusError) (errdefs.Kind, string) {
	if failed.procedure == "MNT" {
		switch failed.status { //nolint:exhaustive // the others mean here what they mean elsewhere
		case statusPerm, statusAccess:
			return errdefs.PermissionDenied, fmt.Sprintf("the server does not let this host mount %s: %s", s.place.export, s.rights())
		case statusNoEnt, statusNotDir, statusInval, statusNameTooLong, statusNotSupp:
			return errdefs.FailedPrecondition, fmt.Sprintf("the server has no export %s for this host", s.place.export)
		}
	}
	switch failed.status {
	case statusNoSpace, statusQuota, statusFBig:
		return errdefs.ResourceExhausted, "the export is full, or a quota is used up"
	case statusPerm, statusAccess:
		return errdefs.PermissionDenied, s.rights()
	case statusReadOnly:
		return errdefs.FailedPrecondition, "the export can only be read"
	case statusNoEnt, statusExist, statusNotEmpty, statusStale, statusBadHandle, statusBadCookie:
		// That a volume is or is not there is said by those who looked for it. This is
		// about what was to be there or not on the way.
		return errdefs.Aborted, "something was made, moved or removed meanwhile"
	case statusNotDir, statusIsDir, statusInval, statusNameTooLong, statusNotSupp:
		return errdefs.FailedPrecondition, ""
	case statusIO, statusServerFault, statusJukebox:
		return errdefs.Unavailable, ""
	default:
		return errdefs.Unavailable, ""
	}
}

func (s *Store) rights() string {
	return fmt.Sprintf("calls are made as uid %d and gid %d (uid and gid in the query of the location), which must be allowed to write there; "+
		"root_squash takes uid 0 for nobody, and without the option insecure a server wants a source port below 1024, which not every process can have", s.place.uid, s.place.gid)
}

// fail says what was tried, with this store.
func (s *Store) fail(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	kind, advice := s.kind(err)
	if advice != "" {
		err = fmt.Errorf("%w; %s", err, advice)
	}
	return errdefs.Wrap(kind, err, "%s: %s", s, fmt.Sprintf(format, args...))
}

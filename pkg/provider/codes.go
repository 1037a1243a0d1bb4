// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// codeOf is the table from kinds to MCM's codes, and the only one. What nobody
// classified is Internal: MCM would repeat an Unknown every five seconds.
func codeOf(kind errdefs.Kind) codes.Code {
	switch kind {
	case errdefs.InvalidArgument:
		return codes.InvalidArgument
	case errdefs.NotFound:
		return codes.NotFound
	case errdefs.AlreadyExists:
		return codes.AlreadyExists
	case errdefs.PermissionDenied:
		return codes.PermissionDenied
	case errdefs.Unauthenticated:
		return codes.Unauthenticated
	case errdefs.ResourceExhausted:
		return codes.ResourceExhausted
	case errdefs.FailedPrecondition:
		return codes.FailedPrecondition
	case errdefs.Aborted:
		return codes.Aborted
	case errdefs.OutOfRange:
		return codes.OutOfRange
	case errdefs.Unimplemented:
		return codes.Unimplemented
	case errdefs.Unavailable:
		return codes.Unavailable
	case errdefs.DeadlineExceeded:
		return codes.DeadlineExceeded
	case errdefs.Canceled:
		return codes.Canceled
	case errdefs.Uninitialized:
		return codes.Uninitialized
	case errdefs.Internal, errdefs.Unknown:
		return codes.Internal
	default:
		return codes.Internal
	}
}

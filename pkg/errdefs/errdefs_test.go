// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package errdefs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

func TestKindOf(t *testing.T) {
	t.Parallel()
	notFound := errdefs.New(errdefs.NotFound, "vm %s", "vm-1")
	for name, tc := range map[string]struct {
		err  error
		want errdefs.Kind
	}{
		"nil has none":                             {nil, ""},
		"a plain error is unknown":                 {errors.New("x"), errdefs.Unknown},
		"an error keeps its kind":                  {notFound, errdefs.NotFound},
		"a wrapped error keeps its kind":           {fmt.Errorf("find: %w", notFound), errdefs.NotFound},
		"the outermost kind wins":                  {errdefs.Wrap(errdefs.Aborted, notFound, "retry"), errdefs.Aborted},
		"a joined error shows the first kind":      {errors.Join(errors.New("x"), notFound), errdefs.NotFound},
		"a passed deadline":                        {fmt.Errorf("x: %w", context.DeadlineExceeded), errdefs.DeadlineExceeded},
		"a cancelled context":                      {context.Canceled, errdefs.Canceled},
		"a full disk":                              {&os.PathError{Op: "write", Path: "f", Err: syscall.ENOSPC}, errdefs.ResourceExhausted},
		"a used-up quota":                          {syscall.EDQUOT, errdefs.ResourceExhausted},
		"a file that is too large for its disk":    {syscall.EFBIG, errdefs.ResourceExhausted},
		"a kind wins over the context error below": {errdefs.Wrap(errdefs.Unavailable, context.Canceled, "x"), errdefs.Unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := errdefs.KindOf(tc.err); got != tc.want {
				t.Errorf("KindOf = %q, want %q", got, tc.want)
			}
			if tc.err != nil && !errdefs.Is(tc.err, tc.want) {
				t.Errorf("Is(%q) = false", tc.want)
			}
		})
	}
}

func TestTextNamesWhatWasTriedAndTheCause(t *testing.T) {
	t.Parallel()
	cause := errors.New("connection refused")
	err := errdefs.Wrap(errdefs.Unavailable, cause, "log in to %s", "vc.example.com")
	if got, want := err.Error(), "log in to vc.example.com: connection refused"; got != want {
		t.Errorf("text = %q, want %q", got, want)
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
	if errdefs.Wrap(errdefs.Internal, nil, "x") != nil {
		t.Error("Wrap(nil) is not nil")
	}
	if got := (&errdefs.Error{Kind: errdefs.Internal, Err: cause}).Error(); got != cause.Error() {
		t.Errorf("text without a message = %q", got)
	}
}

func TestKindsAreDifferent(t *testing.T) {
	t.Parallel()
	seen := map[errdefs.Kind]bool{}
	for _, k := range errdefs.Kinds() {
		if k == "" || seen[k] {
			t.Errorf("kind %q is empty or there twice", k)
		}
		seen[k] = true
	}
	if len(seen) != 16 {
		t.Errorf("%d kinds, want 16: add new ones to Kinds and to the table of pkg/provider", len(seen))
	}
}

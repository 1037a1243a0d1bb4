// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package datastore_test

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func TestWhatKeepsADatastoreBusyTakesATurnOfIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, vchsim.Options{}, vcenter.Options{MaxHeavy: 1})
	large := bytes.Repeat([]byte("x"), 64<<10)
	must(t, w.files.MakeDirectory(t.Context(), "a", true))
	w.write("a/file", "x")
	w.flat("a", "disk", []byte("x"), 1<<20, "")
	// One turn is all there is: whoever asked for a second one would wait for itself.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, tc := range []struct {
		what, method string
		do           func() error
		turns        int
	}{
		{"a small upload", "PUT /folder", func() error {
			return w.files.Write(ctx, "a/small", bytes.NewReader(large[1:]), int64(len(large)-1), nil)
		}, 0},
		{"a large upload", "PUT /folder", func() error { return w.files.Write(ctx, "a/large", bytes.NewReader(large), int64(len(large)), nil) }, 1},
		{"a copy", "CopyVirtualDisk_Task", func() error { return w.files.CopyDisk(ctx, "a/disk.vmdk", "a/copy.vmdk") }, 1},
		{"a move", "MoveDatastoreFile_Task", func() error { return w.files.Move(ctx, "a/file", "a/moved") }, 1},
		{"the removal of a disk", "DeleteVirtualDisk_Task", func() error { return w.files.DeleteDisk(ctx, "a/copy.vmdk") }, 1},
		{"the removal of a directory", "DeleteDatastoreFile_Task", func() error { return w.files.Delete(ctx, "a") }, 1},
	} {
		turns := -1
		stop := w.sim.OnCall(tc.method, func() {
			turns = 0
			for _, h := range w.pool.Stats() {
				for _, d := range h.Datastores {
					turns += d.InFlight
				}
			}
		})
		if err := tc.do(); err != nil {
			t.Errorf("%s: %v", tc.what, err)
		}
		if stop(); turns != tc.turns {
			t.Errorf("%s takes %d turns, want %d", tc.what, turns, tc.turns)
		}
	}
}

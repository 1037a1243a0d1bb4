// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

func TestAnImageThatCannotFitIsRefusedBeforeItIsDownloaded(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	free, ok := freeBytes(dir)
	if !ok || free <= 0 {
		t.Fatalf("%d bytes are free, %t", free, ok)
	}
	if err := enoughRoom(dir, 1<<20); err != nil {
		t.Error(err)
	}
	err := enoughRoom(dir, 1<<60)
	if !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), dir) {
		t.Errorf("%s error: %v", errdefs.KindOf(err), err)
	}
}

// TestDirectoriesAreMadeWhileTheDeadAreRemoved: what has been made is not taken
// away, at whatever moment somebody looks.
func TestDirectoriesAreMadeWhileTheDeadAreRemoved(t *testing.T) {
	t.Parallel()
	parent := t.TempDir()
	stop := make(chan struct{})
	var lookers, makers sync.WaitGroup
	for range 2 {
		lookers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					removeDead(parent)
				}
			}
		})
	}
	for range 4 {
		makers.Go(func() {
			for range 100 {
				d, err := newDirectory(parent)
				if err != nil {
					t.Error(err)
					return
				}
				if _, err := os.Stat(filepath.Join(d.path, lockName)); err != nil {
					t.Errorf("a directory in use is gone: %v", err)
				}
				if err := d.remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	makers.Wait()
	close(stop)
	lookers.Wait()
	if left, err := os.ReadDir(parent); err != nil || len(left) > 0 {
		t.Errorf("%v, %v stayed", left, err)
	}
}

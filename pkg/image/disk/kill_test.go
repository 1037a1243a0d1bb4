// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/disk"
)

func TestWhatAKilledProcessLeftIsRemovedByTheNext(t *testing.T) {
	t.Parallel()
	ref := small(t)
	for _, stage := range []image.Stage{image.Downloading, image.Unpacking, image.Converting, image.Compressing, image.Uploading} {
		t.Run(string(stage), func(t *testing.T) {
			t.Parallel()
			temp := t.TempDir()
			killAt(t, task{Reference: ref, Dir: temp, Size: gib, VMDK: true, HangAt: stage})
			left, err := os.ReadDir(temp)
			if err != nil || len(left) != 1 || !strings.HasPrefix(left[0].Name(), disk.Prefix) {
				t.Fatalf("%v, %v stayed", left, err)
			}
			if stage != image.Downloading && stage != image.Unpacking {
				// Files without a name are gone with their process.
				if files := filesIn(t, temp); len(files) != 2 {
					t.Errorf("%q stayed", files)
				}
			}
			c := makeContent(t, ref, disk.Options{Dir: temp}, gib, nil)
			if now, err := os.ReadDir(temp); err != nil || len(now) != 1 || now[0].Name() == left[0].Name() {
				t.Errorf("%v, %v are there while the next one lives", now, err)
			}
			closeContent(t, c, temp)
		})
	}
}

func TestTheLivingAndOthersKeepWhatTheyHave(t *testing.T) {
	t.Parallel()
	ref, temp := small(t), t.TempDir()
	others := []string{"other", filepath.Join("other", "file"), disk.Prefix + "file"}
	if err := os.Mkdir(filepath.Join(temp, "other"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range others[1:] {
		if err := os.WriteFile(filepath.Join(temp, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	living := makeContent(t, ref, disk.Options{Dir: temp}, gib, nil)
	next := makeContent(t, ref, disk.Options{Dir: temp}, gib, nil)
	if sums(t, living) != sums(t, next) {
		t.Error("one of two at the same time was disturbed")
	}
	for _, c := range []image.Content{living, next} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if files := filesIn(t, temp); len(files) != len(others) {
		t.Errorf("%q are there, want %q", files, others)
	}
}

// TestManyBeginInOneDirectory: nobody takes another's directory for a dead one's,
// not even one that is being made.
func TestManyBeginInOneDirectory(t *testing.T) {
	t.Parallel()
	ref, temp := small(t), t.TempDir()
	var group sync.WaitGroup
	for range 6 {
		group.Go(func() {
			c, err := source(t.Context(), t, ref, disk.Options{Dir: temp}, gib, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	nothingIn(t, temp)
}

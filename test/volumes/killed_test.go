// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volumes_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// worlds are the kinds of datastores that differ in how a disk gets there.
func worlds() map[string]vchsim.Options {
	return map[string]vchsim.Options{"VMFS": {}, "vSAN": {VSAN: true, LeaseTimeout: time.Second}}
}

func TestAKilledCreationLeavesAVolumeOrNoneUnderFaults(t *testing.T) {
	t.Parallel()
	for name, o := range worlds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, o)
			made := 0
			for n := 1; ; n++ {
				name := fmt.Sprintf("data-%d", n)
				if !s.kill(creates, name, n) {
					break
				}
				made = n
				there := s.isThere(name)
				if listed := slices.Contains(s.whatVICLists(), name); listed != there {
					t.Errorf("killed at request %d: there %t, for VIC %t", n, there, listed)
				}
				_, err := s.stores.Create(t.Context(), "", request(name))
				if there != errdefs.Is(err, errdefs.AlreadyExists) || !there && err != nil {
					t.Errorf("killed at request %d, there %t: the next one gets %v", n, there, err)
				}
			}
			if made < 8 {
				t.Fatalf("only %d requests: this test kills at the wrong place", made)
			}
			t.Logf("%d requests, %d leftovers", made, s.clean())
			if n := s.clean(); n > 0 {
				t.Errorf("%d leftovers after the first cleaning", n)
			}
			s.onlyVolumesAreNew()
			for n := 1; n <= made; n++ {
				s.isGood(fmt.Sprintf("data-%d", n))
			}
		})
	}
}

func TestAKilledRemovalLeavesTheVolumeOrNoneUnderFaults(t *testing.T) {
	t.Parallel()
	for name, o := range worlds() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, o)
			requests := 0
			for n := 1; ; n++ {
				name := fmt.Sprintf("data-%d", n)
				s.create(name)
				content := s.fill(name)
				if !s.kill(removes, name, n) {
					break
				}
				requests = n
				s.whatVICLists()
				if !s.isThere(name) {
					continue
				}
				if !bytes.Equal(content, s.content(name)) {
					t.Errorf("killed at request %d: the volume is there, and not what was on it", n)
				}
				if err := s.stores.Remove(t.Context(), "", name); err != nil {
					t.Errorf("killed at request %d: the next removal gets %v", n, err)
				}
			}
			if requests < 6 {
				t.Fatalf("only %d requests: this test kills at the wrong place", requests)
			}
			t.Logf("%d requests, %d leftovers", requests, s.clean())
			if n := s.clean(); n > 0 {
				t.Errorf("%d leftovers after the first cleaning", n)
			}
			if diff := s.news(); len(diff) > 0 {
				t.Errorf("debris: %v", diff)
			}
		})
	}
}

// TestAKilledCleaningLosesNothingUnderFaults cleans what a create and a removal
// left that were killed at their last but one request.
func TestAKilledCleaningLosesNothingUnderFaults(t *testing.T) {
	t.Parallel()
	s := newSite(t, vchsim.Options{})
	s.create("kept")
	content := s.fill("kept")
	for n := 1; ; n++ {
		s.leave(fmt.Sprintf("half-%d", n))
		s.old()
		struck := s.kill(cleans, "", n)
		s.whatVICLists()
		if !bytes.Equal(content, s.content("kept")) {
			t.Fatalf("killed at request %d: another volume has changed", n)
		}
		if !struck {
			break
		}
	}
	s.clean()
	if n := s.clean(); n > 0 {
		t.Errorf("%d leftovers after cleaning", n)
	}
	s.onlyVolumesAreNew()
	s.isGood("kept")
}

// leave has a creation killed after its upload, and a removal after its first step.
func (s *site) leave(name string) {
	s.Helper()
	for n := 6; ; n-- {
		if n == 0 {
			s.Fatal("nothing is left of a creation")
		}
		if s.kill(creates, name, n); !s.isThere(name) {
			break
		}
		if err := s.stores.Remove(s.Context(), "", name); err != nil {
			s.Fatal(err)
		}
	}
}

// isThere asks the stores; a damaged volume is an error.
func (s *site) isThere(name string) bool {
	s.Helper()
	v, err := s.stores.Get(s.Context(), name)
	switch {
	case errdefs.Is(err, errdefs.NotFound):
		return false
	case err != nil:
		s.Error(err)
	case v.Damage != "":
		s.Errorf("volume %s is damaged: %s", name, v.Damage)
	}
	return true
}

// isGood expects a volume that can be joined and checked.
func (s *site) isGood(name string) {
	s.Helper()
	v, err := s.stores.Get(s.Context(), name)
	if err != nil {
		s.Error(err)
		return
	}
	if v.Damage != "" || v.Capacity != capacity || v.Metadata.Labels["of"] != "a test" {
		s.Errorf("volume %s: %+v", name, v)
	}
	if _, err := s.stores.Join(v, volume.Mount{Path: "/data"}); err != nil {
		s.Error(err)
	}
	s.fsck(name)
}

func (s *site) create(name string) {
	s.Helper()
	if _, err := s.stores.Create(s.Context(), "", request(name)); err != nil {
		s.Fatal(err)
	}
}

// flat is the file with what is on a volume.
func (s *site) flat(name string) string {
	return filepath.Join(s.root, "volumes", name, name+"-flat.vmdk")
}

func (s *site) content(name string) []byte {
	s.Helper()
	content, err := os.ReadFile(s.flat(name))
	if err != nil {
		s.Error(err)
	}
	return content
}

// fill writes something on a volume, and returns all of it.
func (s *site) fill(name string) []byte {
	s.Helper()
	f, err := os.OpenFile(s.flat(name), os.O_WRONLY, 0)
	if err != nil {
		s.Fatal(err)
	}
	_, err = f.WriteAt([]byte("data of "+name), capacity-4096)
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		s.Fatal(err)
	}
	return s.content(name)
}

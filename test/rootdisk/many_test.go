// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootdisk_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func TestTenControllersThatNeedOneImageUploadItOnce(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]vchsim.Options{"flat": {NoForeign: true}, "by import": {NoForeign: true, VSAN: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, o)
			s.stale = time.Minute
			var group sync.WaitGroup
			var controllers []*controller
			for i := range 10 {
				c := s.controller(fmt.Sprintf("controller-%d", i), t.TempDir())
				controllers = append(controllers, c)
				for j := range 2 {
					group.Go(func() { c.create(fmt.Sprintf("machine-%d-%d", i, j)) })
				}
			}
			group.Wait()
			if n := len(s.sim.Machines()); n != 20 {
				t.Errorf("%d machines, want 20", n)
			}
			if got := s.registry.BlobBytes(s.layer); got != s.size {
				t.Errorf("%d bytes of the layer were downloaded, it has %d", got, s.size)
			}
			c := controllers[0]
			if n := c.prune(); n > 0 {
				t.Errorf("%d leftovers, although nothing went wrong", n)
			}
			c.onlyTheDiskIsThere()
			disks, err := c.store().List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			users, err := c.store().Users(t.Context(), disks[0].Key)
			if err != nil {
				t.Fatal(err)
			}
			if n := len(users[disks[0].Key]); n != 20 {
				t.Errorf("%d VMs use the disk, want 20", n)
			}
		})
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package rootdisk_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// victimVariable makes the test's program a process that fetches an image, and
// stands still where it is to be killed. Its value is a file with a victim.
const victimVariable = "ROOTDISK_VICTIM"

// victim says what that process does.
type victim struct {
	Secret    map[string][]byte
	VCH       v1alpha1.VirtualContainerHost
	Reference string
	Size      int64
	Insecure  []string
	Dir       string
	// Stage is where it stands still. Without one it goes on to the end and prints its result.
	Stage image.Stage
}

// result is what it prints at the end.
type result struct {
	Disk *image.Disk
	// Status is what Linux says of the process.
	Status string
}

func TestMain(m *testing.M) {
	file := os.Getenv(victimVariable)
	if file == "" {
		os.Exit(m.Run())
	}
	if err := live(context.Background(), file); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func live(ctx context.Context, file string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var v victim
	if err := json.Unmarshal(content, &v); err != nil {
		return err
	}
	cfg, err := vcenter.ConfigFromSecret(v.Secret)
	if err != nil {
		return err
	}
	client, err := vcenter.NewPool(vcenter.Options{}).Client(ctx, cfg)
	if err != nil {
		return err
	}
	host, err := vch.Find(ctx, client, v.VCH)
	if err != nil {
		return err
	}
	disk, err := pull.New(pull.Options{Dir: v.Dir}).Pull(ctx, pull.Request{
		Store: impatient("victim", soon)(client, host), Reference: v.Reference, Size: v.Size,
		Policy: v1alpha1.PullIfNotPresent, Registry: registry.Options{Insecure: v.Insecure},
	}, func(p image.Progress) {
		if p.Stage == v.Stage {
			fmt.Println(v.Stage)
			select {}
		}
	})
	switch {
	case err != nil:
		return err
	case v.Stage != "":
		return fmt.Errorf("the stage %s was never reached", v.Stage)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result{Disk: disk, Status: string(status)})
}

// killAt fetches the site's image in another process and kills it at a stage.
func (s *site) killAt(stage image.Stage, dir string) {
	s.Helper()
	file := s.victimFile(dir, s.spec().RootDiskBytes(), stage)
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), victimVariable+"="+file)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != string(stage)+"\n" {
		s.Errorf("the victim said %q: %v", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		s.Error(err)
	}
	_ = cmd.Wait() // it was killed
}

func TestAControllerThatIsKilledAtAnyStageIsMadeUpFor(t *testing.T) {
	t.Parallel()
	flat := []image.Stage{image.Resolving, image.Downloading, image.Unpacking, image.Converting, image.Uploading, image.Publishing}
	imported := []image.Stage{image.Compressing, image.Uploading, image.Publishing}
	for name, w := range map[string]struct {
		options vchsim.Options
		stages  []image.Stage
	}{
		"flat":      {vchsim.Options{NoForeign: true}, flat},
		"by import": {vchsim.Options{NoForeign: true, VSAN: true, LeaseTimeout: 5 * time.Second}, imported},
	} {
		for _, stage := range w.stages {
			t.Run(name+", "+string(stage), func(t *testing.T) {
				t.Parallel()
				s := newSite(t, w.options)
				dir := t.TempDir()
				s.killAt(stage, dir)
				c := s.controller("successor", dir)
				c.create("machine-a")
				if n := len(s.sim.Machines()); n != 1 {
					t.Errorf("%d machines, want 1", n)
				}
				t.Logf("%d leftovers", c.prune())
				c.onlyTheDiskIsThere()
				if n := c.prune(); n > 0 {
					t.Errorf("%d leftovers after the first cleaning", n)
				}
				empty(t, dir)
			})
		}
	}
}

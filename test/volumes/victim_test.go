// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volumes_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume/locations"
)

// victimVariable makes the test's program a process that does one thing with a
// volume. Its value is that thing.
const victimVariable = "VOLUMES_VICTIM"

// victim says what that process does. It prints ready when it knows its VCH, and
// begins when it is told a line.
type victim struct {
	Secret    map[string][]byte
	VCH       v1alpha1.VirtualContainerHost
	Operation operation
	Name      string
}

// operation is what a process does.
type operation string

const (
	creates operation = "create"
	removes operation = "remove"
	cleans  operation = "clean"
)

func TestMain(m *testing.M) {
	text := os.Getenv(victimVariable)
	if text == "" {
		os.Exit(m.Run())
	}
	if err := live(context.Background(), text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func live(ctx context.Context, text string) error {
	var v victim
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		return err
	}
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard)
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
	stores := locations.Open(locations.Options{Client: client, Host: host, Owner: "victim"})
	fmt.Println("ready")
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	switch v.Operation {
	case creates:
		_, err = stores.Create(ctx, "", request(v.Name))
	case removes:
		err = stores.Remove(ctx, "", v.Name)
	case cleans:
		var found []volume.Leftover
		if found, err = stores.Leftovers(ctx); err == nil {
			err = stores.Clean(ctx, found...)
		}
	}
	return err
}

func request(name string) volume.Request {
	return volume.Request{Name: name, Capacity: capacity, Metadata: volume.Metadata{Labels: map[string]string{"of": "a test"}}}
}

// kill lets a process do something and kills it at its n-th request, which is carried
// out. It reports whether there was such a request.
func (s *site) kill(o operation, name string, n int) (struck bool) {
	s.Helper()
	text, err := json.Marshal(victim{Secret: s.sim.Secret(), VCH: s.sim.ProviderSpec().VCH, Operation: o, Name: name})
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), victimVariable+"="+string(text))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		s.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "ready\n" {
		s.Fatalf("the victim said %q: %v", line, err)
	}
	killed := make(chan struct{})
	stop, handled := s.sim.OnRequest(n, func() {
		close(killed)
		_ = cmd.Process.Kill()
	})
	defer stop()
	if _, err := fmt.Fprintln(in, "go"); err != nil {
		s.Fatal(err)
	}
	err = cmd.Wait()
	select {
	case <-killed:
		<-handled
		s.settle()
		return true
	default:
	}
	if err != nil {
		s.Errorf("%s %s, whom nobody killed: %v", o, name, err)
	}
	return false
}

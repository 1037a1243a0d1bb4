// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vmware/govmomi"
	"github.com/vmware/govmomi/find"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

// beMain makes the test binary behave as the program.
const beMain = "VCHSIM_TEST_BE_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(beMain) != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func program(t *testing.T, args ...string) (*exec.Cmd, *bytes.Buffer) {
	t.Helper()
	var out bytes.Buffer
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), beMain+"=1", "TMPDIR="+t.TempDir())
	cmd.Stdout, cmd.Stderr = &out, &out
	return cmd, &out
}

func TestTheProgramServesUntilItIsToldToEnd(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "ready.json")
	cmd, out := program(t, "--ready-file="+file, "--dir="+dir, "--vch=vch-7", "--vms=5", "--docker-containers=0", "--fault=CurrentTime=1:NotFound")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r, content := awaitReady(t, file)
	if r.PID != cmd.Process.Pid || r.VCH != "vch-7" || r.ProviderSpec.VCH.Name != "vch-7" || len(r.Secret) < 5 {
		t.Errorf("ready: %s", content)
	}
	wantValid(t, r.ProviderSpec)
	u, err := url.Parse(r.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(r.Username, r.Password)
	client, err := govmomi.NewClient(t.Context(), u, true)
	if err != nil {
		t.Fatal(err)
	}
	vms, err := find.NewFinder(client.Client).VirtualMachineList(t.Context(), "/DC0/vm/...")
	if err != nil || len(vms) != 5+2+1+1+1 { // others, appliances, twins, the second VCH's container
		t.Errorf("%d VMs, %v", len(vms), err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("it ended with %v; %s", err, out)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}

func awaitReady(t *testing.T, file string) (r ready, content []byte) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); content == nil; {
		content, _ = os.ReadFile(file)
		if time.Now().After(deadline) {
			t.Fatal("no ready file")
		}
	}
	if err := json.Unmarshal(content, &r); err != nil {
		t.Fatal(err)
	}
	return r, content
}

func wantValid(t *testing.T, spec *v1alpha1.ProviderSpec) {
	t.Helper()
	raw, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v1alpha1.Load(raw); err != nil {
		t.Errorf("its spec is not valid: %v", err)
	}
}

func TestItServesTheNodeImage(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		dir := t.TempDir()
		file := filepath.Join(dir, "ready.json")
		cmd, out := program(t, "--ready-file="+file, "--dir="+dir, "--registry", fmt.Sprintf("--registry-tls=%t", secure))
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r, content := awaitReady(t, file)
		wantValid(t, r.ProviderSpec)
		if r.Image == "" || r.ProviderSpec.Image != r.Image || r.ProviderSpec.RootDisk != nil || (r.RegistryCA != "") != secure {
			t.Errorf("ready: %s", content)
		}
		ref, err := registry.ParseReference(r.Image)
		if err != nil {
			t.Fatal(err)
		}
		list := r.ProviderSpec.Registries
		image, err := registry.Resolve(t.Context(), ref, registry.Options{CABundle: []byte(list.CABundle), Insecure: list.Insecure})
		if err != nil {
			t.Fatal(err)
		}
		image.Close()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("it ended with %v; %s", err, out)
		}
		if said := out.String(); !strings.Contains(said, r.Image) || !strings.Contains(said, strings.TrimSpace(r.RegistryCA)) {
			t.Errorf("it says %s", said)
		}
	}
}

func TestBadFlagsAreRefusedWithOneLine(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--fault=CreateVM_Task"},
		{"--vms=-1"},
		{"--vch-data-version=-1"},
		{"--kubeconfig=/none"},
		{"--listen=nowhere"},
		{"--nonsense"},
		{"argument"},
		{"--ready-file=/none/ready"},
		{"--registry", "--registry-listen=0.0.0.0:0"},
	} {
		cmd, out := program(t, args...)
		if err := cmd.Run(); err == nil || strings.Count(out.String(), "\n") != 1 && !strings.Contains(args[0], "ready") {
			t.Errorf("%v: %v, %q", args, err, out)
		}
	}
}

func TestItSaysItsVersion(t *testing.T) {
	t.Parallel()
	cmd, out := program(t, "--version")
	if err := cmd.Run(); err != nil || !strings.HasPrefix(out.String(), "machine-controller-manager-provider-vch ") {
		t.Errorf("%v, %q", err, out)
	}
}

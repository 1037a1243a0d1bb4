// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/cli"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/migration"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// museum is a VCH with container VMs of older data versions, full of secrets.
type museum struct {
	world
	env map[string]string
	// backups is where migrations are saved.
	backups string

	// stdin and migrations are those of commands, if they are set.
	stdin      io.Reader
	migrations *migration.Set
	// said is all that commands wrote.
	said strings.Builder
}

// newMuseum has a VCH with two containers of docker, and an appliance of data version 3.
func newMuseum(t *testing.T) *museum {
	t.Helper()
	old := 3
	m := &museum{world: newWorld(t, vchsim.Options{NoForeign: true, DockerContainers: 2, VCHDataVersion: &old, Registries: vchsim.RegistryOptions{Insecure: []string{"reg.example.com:5000"}}})}
	m.env, m.backups = m.govc(t), filepath.Join(m.dir, "backups")
	m.set(t, m.VCHName, map[string]string{"guestinfo.vice./vic_machine_create_options~": "--password|" + planted, "guestinfo.vice./connect/token@secret": planted})
	t.Cleanup(func() {
		if strings.Contains(m.said.String(), planted) || strings.Contains(m.said.String(), "PRIVATE KEY") {
			t.Errorf("a secret is shown:\n%s", m.said.String())
		}
	})
	return m
}

// exhibit makes a machine of a data version.
func (m *museum) exhibit(t *testing.T, name string, version int, start bool) vchsim.VM {
	t.Helper()
	m.machine(t, name, start)
	vm := m.vm(t, name)
	m.set(t, vm.Name, map[string]string{guestinfo.KeyUserData: planted, "annotations|note": planted, "guestinfo.vice..createtime": "1654867607000000000"})
	m.age(t, vm.Name, version)
	return m.vm(t, name)
}

func (m *museum) age(t *testing.T, vm string, version int) {
	t.Helper()
	if err := m.Age(vm, version); err != nil {
		t.Fatal(err)
	}
}

func (m *museum) set(t *testing.T, vm string, keys map[string]string) {
	t.Helper()
	if err := m.SetKeys(vm, keys); err != nil {
		t.Fatal(err)
	}
}

// vm returns the VM of a machine.
func (m *museum) vm(t *testing.T, machine string) vchsim.VM {
	t.Helper()
	vm, ok := m.Machine(machine)
	if !ok {
		t.Fatalf("there is no machine %s", machine)
	}
	return vm
}

// docker returns a container of docker.
func (m *museum) docker(t *testing.T, name string) vchsim.VM {
	t.Helper()
	for _, vm := range m.VMs() {
		if strings.HasPrefix(vm.Name, name+"-") && vm.Folder == m.VCHName {
			return vm
		}
	}
	t.Fatalf("there is no container %s", name)
	return vchsim.VM{}
}

// run runs vchctl.
func (m *museum) run(ctx context.Context, args ...string) result {
	var stdout, stderr bytes.Buffer
	options := cli.Options{
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Env: func(name string) string { return m.env[name] }, Owner: "vchctl of a test",
		Clock: clocktesting.NewFakeClock(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)), Migrations: m.migrations,
	}
	if m.stdin != nil {
		options.Stdin = m.stdin
	}
	got := result{cli.Run(ctx, args, options), stdout.String(), stderr.String()}
	m.said.WriteString(got.stdout + got.stderr)
	return got
}

// apply runs vchctl migrate apply with the backups' directory.
func (m *museum) apply(ctx context.Context, args ...string) result {
	return m.run(ctx, append([]string{"migrate", "apply", "--backup-dir", m.backups}, args...)...)
}

// stable is world.stable, for backups and times, too.
func (m *museum) stable(s string) string {
	s = m.world.stable(s)
	s = regexp.MustCompile(`-\d+\.json`).ReplaceAllString(s, "-RANDOM.json")
	s = regexp.MustCompile(`"spec\\?":\\?"[0-9a-f]+\\?"`).ReplaceAllString(s, `"spec":"DIGEST"`)
	return s
}

// files returns the backups that there are.
func (m *museum) files(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(m.backups, "*"))
	if err != nil {
		t.Fatal(err)
	}
	hidden, err := filepath.Glob(filepath.Join(m.backups, ".*"))
	if err != nil || len(hidden) > 0 {
		t.Errorf("%v, left behind: %q", err, hidden)
	}
	return files
}

// same reports a difference between keys of a VM before and now.
func (m *museum) same(t *testing.T, before vchsim.VM, machine string) {
	t.Helper()
	if diff := cmp.Diff(before.ExtraCfg, m.vm(t, machine).ExtraCfg); diff != "" {
		t.Errorf("keys of %s (-before +after):\n%s", machine, diff)
	}
}

func decodeJSON[T any](t *testing.T, text string) T {
	t.Helper()
	var out T
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&out); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return out
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

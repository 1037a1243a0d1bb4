// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
	"sigs.k8s.io/yaml"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// planted is a value that must not be shown.
const planted = "pl4nted-s3cret"

// world is a simulated vCenter with the files that lead to it.
type world struct {
	*vchsim.Sim
	dir string
}

func newWorld(t *testing.T, options vchsim.Options) world {
	t.Helper()
	options.Dir = t.TempDir()
	sim, err := vchsim.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sim.Close)
	return world{sim, t.TempDir()}
}

// spec returns a ProviderSpec whose machines carry a secret in their environment.
func (w world) spec() *v1alpha1.ProviderSpec {
	value := planted
	spec := w.ProviderSpec()
	spec.Env = append(spec.Env, v1alpha1.EnvVar{Name: "TOKEN", Value: &value})
	return spec
}

// file writes a file and returns its name.
func (w world) file(t *testing.T, name string, content any) string {
	t.Helper()
	data, ok := content.([]byte)
	if !ok {
		var err error
		if data, err = yaml.Marshal(content); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(w.dir, name)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func (w world) secretFile(t *testing.T) string {
	t.Helper()
	return w.file(t, "secret.yaml", map[string]any{"apiVersion": "v1", "kind": "Secret", "data": w.Secret()})
}

// govc returns govc's variables for this vCenter.
func (w world) govc(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{
		"GOVC_URL": w.URL(), "GOVC_USERNAME": w.Username, "GOVC_PASSWORD": w.Password,
		"GOVC_TLS_CA_CERTS": w.file(t, "ca.pem", w.CACert()),
	}
}

// machine creates a machine and, if asked, starts it; it returns the provider id.
func (w world) machine(t *testing.T, name string, start bool) string {
	t.Helper()
	return w.machineOf(t, name, w.spec(), start)
}

func (w world) machineOf(t *testing.T, name string, spec *v1alpha1.ProviderSpec, start bool) (id string) {
	t.Helper()
	v1alpha1.SetDefaults(spec)
	secret := &corev1.Secret{Data: w.Secret()}
	w.drive(t, func(ctx context.Context, backend spi.PluginSPI) (err error) {
		if id, err = backend.CreateMachine(ctx, name, spec, secret); err == nil && start {
			_, _, err = backend.InitializeMachine(ctx, name, id, spec, secret)
		}
		return err
	})
	return id
}

// remove deletes a machine.
func (w world) remove(t *testing.T, name string, spec *v1alpha1.ProviderSpec) {
	t.Helper()
	w.drive(t, func(ctx context.Context, backend spi.PluginSPI) error {
		_, err := backend.DeleteMachine(ctx, name, "", spec, &corev1.Secret{Data: w.Secret()})
		return err
	})
}

// drive does something with the driver's backend.
func (w world) drive(t *testing.T, do func(context.Context, spi.PluginSPI) error) {
	t.Helper()
	ctx := klog.NewContext(t.Context(), klog.Logger{}) // quiet
	pool := vcenter.NewPool(vcenter.Options{})
	if err := do(ctx, vsphere.New(vsphere.Options{Pool: pool})); err != nil {
		t.Fatal(err)
	}
	if err := pool.Close(ctx); err != nil {
		t.Fatal(err)
	}
}

// stable replaces what differs from run to run.
func (w world) stable(s string) string {
	s = strings.ReplaceAll(s, w.dir, "DIR")
	s = strings.ReplaceAll(s, strings.TrimSuffix(strings.TrimPrefix(w.URL(), "https://"), "/sdk"), "HOST:PORT")
	s = regexp.MustCompile(`\b\d+ GiB`).ReplaceAllString(s, "N GiB")
	s = regexp.MustCompile(`\b(vm|dvportgroup|group|resgroup|datastore)-\w?\d+`).ReplaceAllString(s, "$1-N")
	s = regexp.MustCompile(`\b10\.\d+\.\d+\.\d+`).ReplaceAllString(s, "ADDRESS")
	s = regexp.MustCompile(` {3,}`).ReplaceAllString(s, "   ") // widths depend on the above
	return regexp.MustCompile(`([0-9A-F]{2}:){31}[0-9A-F]{2}`).ReplaceAllString(s, "SHA256")
}

func TestMachinesAreListedInATable(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	w.machine(t, "worker-a", true)
	w.machine(t, "worker-b", false)
	secret := w.secretFile(t)
	for name, args := range map[string][]string{
		"machines.txt":      nil,
		"machines-wide.txt": {"-o", "wide", "--datacenter", w.Datacenter, "--vch", w.VCHName},
	} {
		got := vchctl(t.Context(), "", nil, append([]string{"machines", "ls", "--secret-file", secret}, args...)...)
		if got.code != 0 || got.stderr != "" {
			t.Fatalf("exit code %d, %s", got.code, got.stderr)
		}
		golden(t, name, w.stable(got.stdout))
	}
}

func TestMachinesAreListedAsJSONForScripts(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	id := w.machine(t, "worker-a", true)
	specFile := w.file(t, "spec.yaml", w.spec())
	got := vchctl(t.Context(), "", w.govc(t), "machines", "ls", "-o", "json", "--provider-spec", specFile)
	if got.code != 0 || got.stderr != "" {
		t.Fatalf("exit code %d, %s", got.code, got.stderr)
	}
	var machines []map[string]any
	if err := json.Unmarshal([]byte(got.stdout), &machines); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(machines, func(m map[string]any) bool { return m["cluster"] == vchsim.Cluster })
	if i < 0 {
		t.Fatalf("no machine of %s in %s", vchsim.Cluster, got.stdout)
	}
	m := machines[i]
	addresses, _ := m["addresses"].([]any)
	if m["machine"] != "worker-a" || m["providerID"] != id || m["started"] != "true" || m["power"] != "poweredOn" || m["vch"] != w.VCHName || m["name"] != "worker-a" || m["dataVersion"] != 10.0 || len(addresses) != 1 {
		t.Errorf("got %v", m)
	}
	want := []string{"addresses", "cluster", "containerID", "dataVersion", "machine", "moref", "name", "power", "providerID", "role", "started", "vch", "vm"}
	if names := slices.Sorted(maps.Keys(m)); !slices.Equal(names, want) {
		t.Errorf("the fields are %q", names)
	}
}

func TestAVCHThatCannotBeReadDoesNotHideTheOthers(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	w.machine(t, "worker-a", false)
	// Reading a VCH begins with one look-up of its datacenter: the second VCH's fails.
	if err := w.SetFault(vchsim.FaultRule{Method: "FindByInventoryPath", Kind: "NoPermission", NthCall: 2}); err != nil {
		t.Fatal(err)
	}
	got := vchctl(t.Context(), "", w.govc(t), "machines", "ls")
	if got.code != 1 || !strings.Contains(got.stdout, "worker-a") || !strings.Contains(got.stderr, "NoPermission") || strings.Count(got.stderr, "\n") != 1 {
		t.Errorf("exit code %d, %s\n%s", got.code, got.stderr, got.stdout)
	}
	if n := w.Sessions(); n != 0 {
		t.Errorf("%d sessions are left in vCenter", n)
	}
}

func TestAVCHWithoutMachinesGivesAnEmptyList(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true})
	secret := w.secretFile(t)
	table := vchctl(t.Context(), "", nil, "machines", "ls", "--secret-file", secret)
	if table.code != 0 || table.stdout != "" || table.stderr != "No machines found.\n" {
		t.Errorf("got %+v", table)
	}
	list := vchctl(t.Context(), "", nil, "machines", "ls", "--secret-file", secret, "-o", "json")
	if list.code != 0 || list.stdout != "[]\n" || list.stderr != "" {
		t.Errorf("got %+v", list)
	}
}

func TestAMachinesConfigurationIsShownWithoutItsSecrets(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	w.machine(t, "worker-a", true)
	env := w.govc(t)
	list := vchctl(t.Context(), "", env, "machines", "ls", "--vch", w.VCHName, "-o", "json")
	var machines []struct{ Machine, VM, MoRef string }
	if err := json.Unmarshal([]byte(list.stdout), &machines); err != nil {
		t.Fatalf("%v, %s", err, list.stderr)
	}
	i := slices.IndexFunc(machines, func(m struct{ Machine, VM, MoRef string }) bool { return m.Machine == "worker-a" })
	if i < 0 {
		t.Fatalf("the machine is not in %s", list.stdout)
	}
	vm := machines[i]
	for _, name := range []string{vm.VM, vm.MoRef, "/" + w.Datacenter + "/vm/" + w.VCHName + "/" + vm.VM} {
		got := vchctl(t.Context(), "", env, "guestinfo", "decode", "--vm", name)
		if got.code != 0 || got.stderr != "" {
			t.Fatalf("%s: exit code %d, %s", name, got.code, got.stderr)
		}
		if !strings.Contains(got.stdout, `"Name": "worker-a"`) || !strings.Contains(got.stdout, `"TOKEN=REDACTED"`) {
			t.Errorf("%s: got %s", name, got.stdout)
		}
		if strings.Contains(got.stdout, planted) || strings.Contains(got.stdout, "PRIVATE KEY") {
			t.Errorf("%s: a secret is shown: %s", name, got.stdout)
		}
	}
	got := vchctl(t.Context(), "", env, "guestinfo", "decode", "--vm", vm.VM, "--show-secrets")
	if got.code != 0 || !strings.Contains(got.stdout, "TOKEN="+planted) {
		t.Errorf("--show-secrets: exit code %d, %s%s", got.code, got.stderr, got.stdout)
	}
}

func TestAnAppliancesConfigurationIsShownAsAVCH(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	got := vchctl(t.Context(), "", w.govc(t), "guestinfo", "decode", "--vm", w.ApplianceRef().Value)
	if got.code != 0 || got.stderr != "" {
		t.Fatalf("exit code %d, %s", got.code, got.stderr)
	}
	for _, want := range []string{`"ContainerNetworks"`, `"BootstrapImagePath"`, `"Token": "REDACTED"`} {
		if !strings.Contains(got.stdout, want) {
			t.Errorf("%s is missing in %s", want, got.stdout)
		}
	}
}

func TestWhatCannotBeFoundIsSaid(t *testing.T) {
	w := newWorld(t, vchsim.Options{OtherVMs: 1})
	env := w.govc(t)
	tests := []struct {
		name string
		args []string
		want string
	}{
		{"no such VM", []string{"guestinfo", "decode", "--vm", "nobody"}, `no VM "nobody"; give its name, inventory path or moref`},
		{"no such path", []string{"guestinfo", "decode", "--vm", "/DC0/vm/nobody"}, "no VM at the inventory path /DC0/vm/nobody"},
		{"no such VCH", []string{"machines", "ls", "--vch", "nobody"}, "no VCH nobody in this vCenter that the user may see"},
		{"no VCH in the datacenter", []string{"machines", "ls", "--datacenter", "DC9"}, "no VCH in datacenter DC9 in this vCenter that the user may see"},
		{"no such file", []string{"machines", "ls", "--secret-file", "/nonexistent"}, "read --secret-file: open /nonexistent: no such file or directory"},
		{"no time", []string{"machines", "ls", "--timeout", "0s"}, "--timeout must be positive, got 0s"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := vchctl(t.Context(), "", env, test.args...)
			if got.code != 1 || got.stdout != "" || got.stderr != "vchctl: "+test.want+"\n" {
				t.Errorf("got  %+v\nwant %s", got, test.want)
			}
		})
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/vmware/govmomi/vim25/methods"
	"github.com/vmware/govmomi/vim25/soap"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/cli"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func TestTheDoctorFindsAHealthyWorldHealthy(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	class := w.file(t, "class.yaml", map[string]any{"kind": "MachineClass", "providerSpec": w.spec()})
	got := vchctl(t.Context(), "", nil, "doctor", "--secret-file", w.secretFile(t), "--provider-spec", class)
	if got.code != 0 || got.stderr != "" {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
	golden(t, "doctor-healthy.txt", w.stable(got.stdout))
}

func TestTheDoctorWorksWithoutAProviderSpec(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	got := vchctl(t.Context(), "", w.govc(t), "doctor", "--vch", w.VCHName)
	if got.code != 0 || got.stderr != "" {
		t.Errorf("exit code %d, %s", got.code, got.stderr)
	}
	golden(t, "doctor-govc.txt", w.stable(got.stdout))
}

func TestTheDoctorTellsWhatIsWrong(t *testing.T) {
	w := newWorld(t, vchsim.Options{})
	healthy := w.file(t, "spec.yaml", w.spec())
	secret := func(change map[string]string) string {
		data := w.Secret()
		for key, value := range change {
			data[key] = []byte(value)
		}
		maps.DeleteFunc(data, func(_ string, value []byte) bool { return len(value) == 0 })
		return w.file(t, "broken-secret.yaml", map[string]any{"kind": "Secret", "data": data})
	}
	spec := func(change func(*v1alpha1.ProviderSpec)) string {
		s := w.spec()
		change(s)
		return w.file(t, "broken-spec.yaml", s)
	}
	tests := []struct {
		name string
		args func() []string
		// want is the beginning of the line of the first failure, in one-space form.
		want string
	}{
		{"a wrong password", func() []string {
			return []string{"--secret-file", secret(map[string]string{v1alpha1.SecretPassword: planted}), "--provider-spec", healthy}
		}, "FAIL session"},
		{"no password", func() []string {
			return []string{"--secret-file", secret(map[string]string{v1alpha1.SecretPassword: ""}), "--provider-spec", healthy}
		}, "FAIL secret secret of the machine class: secret.vspherePassword: Required value"},
		{"an untrusted certificate", func() []string {
			return []string{"--secret-file", secret(map[string]string{v1alpha1.SecretCABundle: ""}), "--provider-spec", healthy}
		}, "FAIL certificate"},
		{"another certificate", func() []string {
			return []string{"--secret-file", secret(map[string]string{v1alpha1.SecretThumbprint: strings.Repeat("ab", 20)}), "--provider-spec", healthy}
		}, "FAIL certificate"},
		{"nobody at the address", func() []string {
			return []string{"--secret-file", secret(map[string]string{v1alpha1.SecretHost: "127.0.0.1:1"}), "--provider-spec", healthy}
		}, "FAIL vCenter"},
		{"a wrong spec", func() []string {
			return []string{"--secret-file", secret(nil), "--provider-spec", spec(func(s *v1alpha1.ProviderSpec) { s.Networks = nil })}
		}, "FAIL provider spec --provider-spec DIR/broken-spec.yaml: providerSpec: networks: Required value"},
		{"another VCH", func() []string {
			return []string{"--secret-file", secret(nil), "--provider-spec", spec(func(s *v1alpha1.ProviderSpec) { s.VCH.Name = "vch-9" })}
		}, "FAIL VCH no VM for VCH vch-9 in datacenter \"DC0\""},
		{"which VCH is not said", func() []string {
			return []string{"--secret-file", secret(nil)}
		}, "FAIL VCH there are 2 VCHs, for example vch-1 and vch-2; choose one with --vch"},
		{"another network", func() []string {
			return []string{"--secret-file", secret(nil), "--provider-spec", spec(func(s *v1alpha1.ProviderSpec) { s.Networks[0].Name = "net-9" })}
		}, "FAIL network net-9 VCH vch-1 has no such container network; it has bridge, static-network, vm-network"},
		{"another datastore", func() []string {
			return []string{"--secret-file", secret(nil), "--provider-spec", spec(func(s *v1alpha1.ProviderSpec) { s.Placement = &v1alpha1.Placement{Datastore: "ds-9"} })}
		}, "FAIL datastore ds-9 the datacenter of VCH vch-1 has no such datastore; it has LocalDS_0, LocalDS_1"},
		{"no root disk", func() []string {
			return []string{"--secret-file", secret(nil), "--provider-spec", spec(func(s *v1alpha1.ProviderSpec) { s.RootDisk.VMDK = "[LocalDS_0] images/nothing.vmdk" })}
		}, "FAIL root disk put the image disk there, or correct rootDisk.vmdk: [LocalDS_0] images/nothing.vmdk does not exist"},
		{"no directory of the root disk", func() []string {
			return []string{"--secret-file", secret(nil), "--provider-spec", spec(func(s *v1alpha1.ProviderSpec) { s.RootDisk.VMDK = "[LocalDS_0] nowhere/node.vmdk" })}
		}, "FAIL root disk put the image disk there, or correct rootDisk.vmdk: [LocalDS_0] nowhere/node.vmdk does not exist: there is no directory [LocalDS_0] nowhere"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := vchctl(t.Context(), "", nil, append([]string{"doctor"}, test.args()...)...)
			if got.code != 1 || !strings.Contains(got.stderr, " checks failed\n") || strings.Count(got.stderr, "\n") != 1 {
				t.Errorf("exit code %d, %s", got.code, got.stderr)
			}
			if strings.Contains(got.stdout+got.stderr, planted) {
				t.Errorf("a secret is shown:\n%s", got.stdout)
			}
			for line := range strings.Lines(w.stable(got.stdout)) {
				if line = strings.Join(strings.Fields(line), " "); strings.HasPrefix(line, "FAIL") {
					if !strings.HasPrefix(line, test.want) {
						t.Errorf("got  %s\nwant %s", line, test.want)
					}
					return
				}
			}
			t.Errorf("nothing failed:\n%s", got.stdout)
		})
	}
}

// without answers that a privilege is missing, whatever vcsim says.
func without(privilege string) func(soap.RoundTripper) soap.RoundTripper {
	return func(next soap.RoundTripper) soap.RoundTripper {
		return roundTripper(func(ctx context.Context, req, res soap.HasFault) error {
			err := next.RoundTrip(ctx, req, res)
			if body, ok := res.(*methods.HasPrivilegeOnEntitiesBody); ok && err == nil {
				for _, entity := range body.Res.Returnval {
					for i, p := range entity.PrivAvailability {
						entity.PrivAvailability[i].IsGranted = p.PrivId != privilege
					}
				}
			}
			return err
		})
	}
}

type roundTripper func(ctx context.Context, req, res soap.HasFault) error

func (f roundTripper) RoundTrip(ctx context.Context, req, res soap.HasFault) error {
	return f(ctx, req, res)
}

func TestTheDoctorNamesMissingPrivileges(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true})
	var stdout, stderr bytes.Buffer
	env := w.govc(t)
	code := cli.Run(t.Context(), []string{"doctor"}, cli.Options{
		Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Env: func(name string) string { return env[name] },
		VCenter: vcenter.Options{Middleware: without("Network.Assign")},
	})
	if code != 1 || stderr.String() != "vchctl: 1 of 16 checks failed\n" {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
	want := "FAIL privileges user user needs on network bridge (dvportgroup-N): Network.Assign; on network static-network (dvportgroup-N): Network.Assign; " +
		"on network vm-network (dvportgroup-N): Network.Assign; add them to its role (docs/vcenter-permissions.md)"
	for line := range strings.Lines(w.stable(stdout.String())) {
		if line = strings.Join(strings.Fields(line), " "); strings.HasPrefix(line, "FAIL") && line != want {
			t.Errorf("got  %s\nwant %s", line, want)
		}
	}
}

func TestTheDoctorReportsACheckThatCouldNotBeMade(t *testing.T) {
	for method, check := range map[string]string{
		"HasPrivilegeOnEntities": "privileges", "SearchDatastore_Task": "bootstrap ISO", "Login": "session",
	} {
		t.Run(method, func(t *testing.T) {
			w := newWorld(t, vchsim.Options{NoForeign: true})
			if err := w.SetFault(vchsim.FaultRule{Method: method, Kind: "NoPermission"}); err != nil {
				t.Fatal(err)
			}
			got := vchctl(t.Context(), "", w.govc(t), "doctor")
			if got.code != 1 || !strings.Contains(strings.Join(strings.Fields(got.stdout), " "), "FAIL "+check+" ") {
				t.Errorf("exit code %d, %s\n%s", got.code, got.stderr, got.stdout)
			}
		})
	}
}

func TestTheDoctorWithoutAnyAddressSaysSo(t *testing.T) {
	got := vchctl(t.Context(), "", nil, "doctor")
	if got.code != 1 || got.stderr != "vchctl: 1 of 1 checks failed\n" || !strings.Contains(got.stdout, "which vCenter? Give --secret-file or set GOVC_URL") {
		t.Errorf("got %+v", got)
	}
}

func TestTheDoctorSeesAnUpgrade(t *testing.T) {
	w := newWorld(t, vchsim.Options{NoForeign: true})
	w.ApplianceSetUpdateInProgress(true)
	got := vchctl(t.Context(), "", nil, "doctor", "--secret-file", w.secretFile(t))
	if got.code != 1 || !strings.Contains(got.stdout, "UpdateInProgress") || got.stderr != "vchctl: 1 of 16 checks failed\n" {
		t.Errorf("exit code %d, %s\n%s", got.code, got.stderr, got.stdout)
	}
}

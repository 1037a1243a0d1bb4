// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/cli"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/fake"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func TestTheDoctorLooksWhereTheImageIs(t *testing.T) {
	l := newLibrary(t)
	hub, ref, _ := serve(t, images.Options{})
	secret := l.secretFile(t)
	examine := func(change func(*v1alpha1.ProviderSpec)) result {
		spec := l.spec()
		spec.Image, spec.RootDisk, spec.Command = ref, nil, nil
		spec.Registries = &v1alpha1.Registries{Insecure: []string{hub.Host()}}
		v1alpha1.SetDefaults(spec)
		*spec.RootDisk.Size = *quantity(t, "100Mi")
		change(spec)
		return l.command(t.Context(), "doctor", "--secret-file", secret, "--provider-spec", l.file(t, "spec.yaml", spec))
	}
	tests := []struct {
		name   string
		change func(*v1alpha1.ProviderSpec)
		code   int
		want   []string
	}{
		{"in the registry", func(*v1alpha1.ProviderSpec) {}, 0, []string{
			"OK root disk " + ref + " is in the registry, and not on the datastore: the first machine pulls 196 B, or vchctl image pull does before",
			"OK machine one called machine-0 would be VM",
		}},
		{"nowhere", func(s *v1alpha1.ProviderSpec) { s.Image = hub.Host() + "/team/none:v1" }, 1, []string{
			"FAIL root disk", "SKIP machine the image must be found first",
		}},
		{"never pulled", func(s *v1alpha1.ProviderSpec) { s.ImagePullPolicy = v1alpha1.PullNever }, 1, []string{
			"FAIL root disk imagePullPolicy is Never; make the disk with vchctl image pull",
		}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := examine(test.change)
			lines := strings.Join(strings.Fields(got.stdout), " ")
			for _, want := range test.want {
				if !strings.Contains(lines, want) {
					t.Errorf("%q is missing in\n%s", want, got.stdout)
				}
			}
			if got.code != test.code {
				t.Errorf("exit code %d, %s", got.code, got.stderr)
			}
		})
	}
	if got := l.pull(t.Context(), t, "--size", "100Mi", "--insecure-registry", hub.Host(), ref); got.code != 0 {
		t.Fatalf("got %+v", got)
	}
	disk, err := l.store.Lookup(t.Context(), ref, 100<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, policy := range []v1alpha1.PullPolicy{v1alpha1.PullAlways, v1alpha1.PullIfNotPresent, v1alpha1.PullNever} {
		hub.ResetCounts()
		got := examine(func(s *v1alpha1.ProviderSpec) { s.ImagePullPolicy = policy })
		if got.code != 0 || !strings.Contains(strings.Join(strings.Fields(got.stdout), " "), "OK root disk "+ref+" is "+disk.Path+" ") {
			t.Errorf("%s: exit code %d, %s\n%s", policy, got.code, got.stderr, got.stdout)
		}
		if asked := hub.Requests("", "") > 0; asked != (policy == v1alpha1.PullAlways) {
			t.Errorf("%s: the registry was asked: %v", policy, hub.Log())
		}
	}
}

func TestTheDoctorAsksForWhatImportsNeed(t *testing.T) {
	for privilege, want := range map[string]string{
		"VApp.Import":      "on VM folder (group-N): VApp.Import; on resource pool (resgroup-N): VApp.Import; add them",
		"Datastore.Config": "on datastore LocalDS_0 (datastore-N): Datastore.Config; add them",
	} {
		for _, vsan := range []bool{true, false} {
			w := newWorld(t, vchsim.Options{NoForeign: true, VSAN: vsan})
			spec := w.spec()
			spec.Image, spec.RootDisk, spec.ImagePullPolicy = "registry.example.com/node:v1", nil, v1alpha1.PullNever
			v1alpha1.SetDefaults(spec)
			args := []string{"doctor", "--secret-file", w.secretFile(t), "--provider-spec", w.file(t, "spec.yaml", spec)}
			var stdout, stderr bytes.Buffer
			cli.Run(t.Context(), args, cli.Options{
				Stdin: strings.NewReader(""), Stdout: &stdout, Stderr: &stderr, Env: func(string) string { return "" },
				VCenter:    vcenter.Options{Middleware: without(privilege)},
				ImageStore: func(*vcenter.Client, *vch.Config) image.Store { return fake.New(fake.Options{}).Store("a test") },
			})
			lines := strings.Join(strings.Fields(w.stable(stdout.String())), " ")
			if got := strings.Contains(lines, "FAIL privileges user user needs "+want); got != vsan {
				t.Errorf("%s, vSAN %v: got\n%s%s", privilege, vsan, stdout.String(), stderr.String())
			}
		}
	}
}

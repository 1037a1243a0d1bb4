// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
)

func TestDefaultsFillWhatIsOpen(t *testing.T) {
	spec, err := v1alpha1.Decode([]byte(small))
	if err != nil {
		t.Fatal(err)
	}
	want := spec.DeepCopy()
	want.CPUs = ptr.To[int32](2)
	want.Memory = ptr.To(resource.MustParse("2Gi"))
	want.WorkingDir = "/"
	want.StopSignal = "TERM"
	want.StopGracePeriodSeconds = ptr.To[int64](10)
	want.StartTimeoutSeconds = ptr.To[int64](180)
	want.UserData = &v1alpha1.UserData{Publish: ptr.To(true), Exec: ptr.To(false)}
	want.Networks[0].Default = ptr.To(true)

	v1alpha1.SetDefaults(spec)
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("defaults (-want +got):\n%s", diff)
	}
	v1alpha1.SetDefaults(spec)
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("defaulting twice differs (-want +got):\n%s", diff)
	}
}

func TestDefaultsKeepWhatIsSaid(t *testing.T) {
	spec := mustLoad(t, full)
	want := spec.DeepCopy()
	v1alpha1.SetDefaults(spec)
	if diff := cmp.Diff(want, spec); diff != "" {
		t.Errorf("defaults changed values (-want +got):\n%s", diff)
	}
}

func TestDefaultsOfOptionalParts(t *testing.T) {
	spec := &v1alpha1.ProviderSpec{
		Resources: &v1alpha1.Resources{CPU: &v1alpha1.CPUAllocation{}, Memory: &v1alpha1.MemoryAllocation{}},
	}
	v1alpha1.SetDefaults(spec)
	if spec.Resources.CPU.Shares != "normal" || spec.Resources.Memory.Shares != "normal" {
		t.Errorf("shares = %q, %q", spec.Resources.CPU.Shares, spec.Resources.Memory.Shares)
	}
	bare := &v1alpha1.ProviderSpec{}
	v1alpha1.SetDefaults(bare)
	if bare.Resources != nil || bare.ImagePullPolicy != "" || bare.RootDisk != nil || bare.Registries != nil || bare.Placement != nil {
		t.Errorf("parts that nobody asked for: %+v", bare)
	}
}

func TestOneNetworkCarriesTheDefaultRoute(t *testing.T) {
	yes, no := ptr.To(true), ptr.To(false)
	for name, tc := range map[string]struct{ given, want []*bool }{
		"the first, if nobody says anything":   {[]*bool{nil, nil}, []*bool{yes, no}},
		"the one that asks":                    {[]*bool{nil, yes}, []*bool{no, yes}},
		"the first that does not refuse":       {[]*bool{no, nil, nil}, []*bool{no, yes, no}},
		"none, if all refuse":                  {[]*bool{no, no}, []*bool{no, no}},
		"the first, although the second won't": {[]*bool{nil, no}, []*bool{yes, no}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &v1alpha1.ProviderSpec{}
			for _, d := range tc.given {
				spec.Networks = append(spec.Networks, v1alpha1.Network{Default: d})
			}
			for range 2 {
				v1alpha1.SetDefaults(spec)
				var got []*bool
				for _, n := range spec.Networks {
					got = append(got, n.Default)
				}
				if diff := cmp.Diff(tc.want, got); diff != "" {
					t.Fatalf("default routes (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestMemoryIsRoundedUpToMultiplesOf128Mi(t *testing.T) {
	if got := (&v1alpha1.ProviderSpec{}).MemoryMB(); got != 2048 {
		t.Errorf("without memory: %d MB", got)
	}
	for memory, want := range map[string]int64{
		"512Mi": 512, "513Mi": 640, "640Mi": 640, "1Gi": 1024, "1G": 1024, "1.5Gi": 1536, "1": 128, "536870913": 640, "6Ti": 6 << 20,
	} {
		spec := &v1alpha1.ProviderSpec{Memory: ptr.To(resource.MustParse(memory))}
		if got := spec.MemoryMB(); got != want {
			t.Errorf("%s: %d MB, want %d", memory, got, want)
		}
	}
}

func TestSignalIsTheNameWithoutSIG(t *testing.T) {
	for given, want := range map[string]string{"": "TERM", "TERM": "TERM", "SIGINT": "INT", "sigusr1": "USR1", "kill": "KILL"} {
		if got := (&v1alpha1.ProviderSpec{StopSignal: given}).Signal(); got != want {
			t.Errorf("%q: %q, want %q", given, got, want)
		}
	}
}

func TestExpandReplacesKnownPlaceholdersOnce(t *testing.T) {
	values := map[string]string{
		v1alpha1.PlaceholderProviderID:  "vch://u/1",
		v1alpha1.PlaceholderContainerID: "c1",
		v1alpha1.PlaceholderMachineName: "<<CONTAINER_ID>>", // what is put in is not expanded again
	}
	for given, want := range map[string]string{
		"":                                       "",
		"plain":                                  "plain",
		"--provider-id=<<PROVIDER_ID>>":          "--provider-id=vch://u/1",
		"<<CONTAINER_ID>><<CONTAINER_ID>>":       "c1c1",
		"<<MACHINE_NAME>>":                       "<<CONTAINER_ID>>",
		"<<BOOTSTRAP_TOKEN>> <<machine_name>> <": "<<BOOTSTRAP_TOKEN>> <<machine_name>> <",
		"<<<PROVIDER_ID>>>":                      "<vch://u/1>",
	} {
		if got := v1alpha1.Expand(given, values); got != want {
			t.Errorf("Expand(%q) = %q, want %q", given, got, want)
		}
	}
	if got := v1alpha1.Expand("<<PROVIDER_ID>>", nil); got != "<<PROVIDER_ID>>" {
		t.Errorf("without values: %q", got)
	}
}

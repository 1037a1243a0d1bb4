// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package backend

import (
	"context"
	"strings"
	"testing"
	"time"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

func parsed(t *testing.T, args ...string) (*Flags, *pflag.FlagSet) {
	t.Helper()
	var f Flags
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.AddTo(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return &f, fs
}

func TestDefaultsAreValid(t *testing.T) {
	t.Parallel()
	f, fs := parsed(t)
	if err := f.Validate(); err != nil {
		t.Error(err)
	}
	if f.CallTimeout != provider.DefaultCallTimeout {
		t.Errorf("the default of a call is %s", f.CallTimeout)
	}
	if given := OfVCenter(fs); len(given) > 0 {
		t.Errorf("flags that nobody gave: %v", given)
	}
}

func TestWrongValuesAreNamed(t *testing.T) {
	t.Parallel()
	for _, arg := range []string{
		"--vcenter-max-concurrent-requests=0", "--vcenter-max-concurrent-requests=-1", "--vcenter-request-timeout=0s", "--vcenter-request-timeout=-1s",
		"--driver-call-timeout=0s", "--driver-call-timeout=-5m", "--max-concurrent-image-pulls=0",
		"--vcenter-min-concurrent-requests=0", "--datastore-max-concurrent-operations=0",
		"--vcenter-breaker-failures=0", "--vcenter-breaker-max-wait=0s",
		"--vcenter-max-attempts=0", "--vcenter-retry-budget=0", "--vcenter-retry-budget=1.1",
		"--tracing-sample-ratio=0", "--tracing-sample-ratio=1.5", "--tracing-endpoint=collector:4317", "--tracing-endpoint=http://collector",
		"--tracing-endpoint=ftp://collector:4317", "--tracing-endpoint=http://u:p@collector:4317", "--tracing-endpoint=http://collector:4317/v1/traces",
	} {
		f, _ := parsed(t, arg)
		name, _, _ := strings.Cut(arg, "=")
		if err := f.Validate(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", arg, err)
		}
	}
}

func TestFlagsForVCenterAreToldFromOthers(t *testing.T) {
	t.Parallel()
	// A flag that is given counts, also with its default.
	_, fs := parsed(t, "--driver-call-timeout=5m", "--vcenter-request-timeout=1m", "--vcenter-max-concurrent-requests=7", "--image-temp-dir=/tmp")
	want := []string{"--vcenter-max-concurrent-requests", "--vcenter-request-timeout", "--image-temp-dir"}
	if diff := cmp.Diff(want, OfVCenter(fs)); diff != "" {
		t.Error(diff)
	}
}

func classOf(sim *vchsim.Sim) *mcmv1alpha1.MachineClass {
	return &mcmv1alpha1.MachineClass{Provider: v1alpha1.Provider, ProviderSpec: runtime.RawExtension{Raw: []byte(
		`{"vch":{"datacenter":"` + sim.Datacenter + `","name":"` + sim.VCHName + `"},"tags":{"kubernetes.io/cluster/c":"1","kubernetes.io/role/r":"1"},` +
			`"rootDisk":{"vmdk":"` + vchsim.ImageDisk + `"},"command":["/bin/x"],"networks":[{"name":"` + vchsim.ExternalNetwork + `"}]}`)}}
}

func TestTheDriverWorksAndLogsOutAlsoWhenItsContextHasEnded(t *testing.T) {
	t.Parallel()
	sim, err := vchsim.Start(t.Context(), vchsim.Options{NoForeign: true, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer sim.Close()
	f, _ := parsed(t)
	registry := prometheus.NewPedanticRegistry()
	d, logout, err := f.Driver(t.Context(), "test", registry)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := f.Driver(t.Context(), "test", registry); err == nil {
		t.Error("two drivers have their metrics in one registry")
	}
	class := classOf(sim)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := d.ListMachines(ctx, &driver.ListMachinesRequest{MachineClass: class, Secret: &corev1.Secret{Data: sim.Secret()}}); err != nil {
		t.Fatal(err)
	}
	if sim.Sessions() == 0 {
		t.Error("there is no session: this test could not fail")
	}
	host, _, _ := strings.Cut(strings.TrimPrefix(string(sim.Secret()[v1alpha1.SecretHost]), "https://"), "/")
	want := "# HELP mcm_vch_vcenter_sessions Sessions with vCenter that are logged in.\n# TYPE mcm_vch_vcenter_sessions gauge\n" +
		`mcm_vch_vcenter_sessions{vcenter="` + host + "\"} 1\n"
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "mcm_vch_vcenter_sessions"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(registry, "mcm_vch_image_pulls_total"); err != nil || n == 0 {
		t.Errorf("%d series of image pulls, %v", n, err)
	}
	ended, end := context.WithCancel(t.Context())
	end()
	if err := logout(ended); err != nil {
		t.Errorf("logout: %v", err)
	}
	if n := sim.Sessions(); n > 0 {
		t.Errorf("%d sessions are left", n)
	}
}

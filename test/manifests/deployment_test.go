// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"slices"
	"strings"
	"testing"

	mcmoptions "github.com/gardener/machine-controller-manager/cmd/machine-controller-manager/app/options"
	mcoptions "github.com/gardener/machine-controller-manager/pkg/util/provider/app/options"
	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"
)

const mcmVersion = "v0.62.1"

func deployment(t *testing.T) *appsv1.Deployment {
	t.Helper()
	return one[*appsv1.Deployment](t, load(t, "."))
}

// settings are the flags of both servers that the Deployment depends on.
type settings struct {
	flags     *pflag.FlagSet
	validate  func() error
	control   *string
	target    *string
	namespace *string
	port      *int32
	elect     *bool
}

// servers returns the options of the programs, by the name of their container.
func servers() map[string]settings {
	manager, controller := mcmoptions.NewMCMServer(), mcoptions.NewMCServer()
	all := map[string]settings{
		"machine-controller-manager": {
			pflag.NewFlagSet("manager", pflag.ContinueOnError), manager.Validate,
			&manager.ControlKubeconfig, &manager.TargetKubeconfig, &manager.Namespace, &manager.Port, &manager.LeaderElection.LeaderElect,
		},
		"machine-controller": {
			pflag.NewFlagSet("controller", pflag.ContinueOnError), controller.Validate,
			&controller.ControlKubeconfig, &controller.TargetKubeconfig, &controller.Namespace, &controller.Port, &controller.LeaderElection.LeaderElect,
		},
	}
	manager.AddFlags(all["machine-controller-manager"].flags)
	controller.AddFlags(all["machine-controller"].flags)
	return all
}

func TestBothControllersRunInOnePod(t *testing.T) {
	d := deployment(t)
	if d.Name != "machine-controller-manager" {
		t.Errorf("name = %q; the cluster autoscaler looks for machine-controller-manager", d.Name)
	}
	var names []string
	for _, c := range d.Spec.Template.Spec.Containers {
		names = append(names, c.Name)
	}
	if want := []string{"machine-controller-manager", "machine-controller"}; !slices.Equal(names, want) {
		t.Fatalf("containers = %v, want %v", names, want)
	}
	if image := d.Spec.Template.Spec.Containers[0].Image; !strings.HasSuffix(image, ":"+mcmVersion) {
		t.Errorf("image = %q, want the version of the library, %s", image, mcmVersion)
	}
	if got := d.Spec.Template.Spec.ServiceAccountName; got != account {
		t.Errorf("service account = %q", got)
	}
	if !labelsContain(d.Spec.Template.Labels, d.Spec.Selector.MatchLabels) {
		t.Errorf("the selector %v does not match the labels %v", d.Spec.Selector.MatchLabels, d.Spec.Template.Labels)
	}
}

func labelsContain(all, some map[string]string) bool {
	for key, value := range some {
		if all[key] != value {
			return false
		}
	}
	return len(some) > 0
}

func TestArgumentsAreFlagsOfThePrograms(t *testing.T) {
	all := servers()
	for _, c := range deployment(t).Spec.Template.Spec.Containers {
		s := all[c.Name]
		if len(c.Command) > 0 {
			t.Errorf("%s: command %v; the images have entry points", c.Name, c.Command)
		}
		if err := s.flags.Parse(c.Args); err != nil {
			t.Errorf("%s: %v", c.Name, err)
			continue
		}
		if err := s.validate(); err != nil {
			t.Errorf("%s: %v", c.Name, err)
		}
		if *s.control != "inClusterConfig" || *s.target != "" || !*s.elect {
			t.Errorf("%s: control %q, target %q, election %t", c.Name, *s.control, *s.target, *s.elect)
		}
		if *s.namespace != "$(POD_NAMESPACE)" || !slices.ContainsFunc(c.Env, func(e corev1.EnvVar) bool {
			return e.Name == "POD_NAMESPACE" && e.ValueFrom != nil && e.ValueFrom.FieldRef.FieldPath == "metadata.namespace"
		}) {
			t.Errorf("%s: namespace %q is not the Pod's", c.Name, *s.namespace)
		}
		if probe := c.LivenessProbe; probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != "/healthz" || probe.HTTPGet.Port.IntVal != *s.port {
			t.Errorf("%s: liveness probe %v, port %d", c.Name, probe, *s.port)
		}
		for _, port := range c.Ports {
			// The API server refuses what decoding lets pass: at most 15 characters.
			if faults := validation.IsValidPortName(port.Name); len(faults) > 0 || port.ContainerPort != *s.port {
				t.Errorf("%s: port %s of %d: %v", c.Name, port.Name, port.ContainerPort, faults)
			}
		}
		// At 4 and more MCM logs bootstrap tokens: machinecontroller/userdata.go:56-60.
		if slices.ContainsFunc(c.Args, func(a string) bool { return strings.HasPrefix(a, "--v=") && a > "--v=3" }) {
			t.Errorf("%s: logs too much: %v", c.Name, c.Args)
		}
	}
}

func TestPodsMayNothing(t *testing.T) {
	pod := deployment(t).Spec.Template.Spec
	ctx := pod.SecurityContext
	if ctx == nil || !ptr.Deref(ctx.RunAsNonRoot, false) || ptr.Deref(ctx.RunAsUser, 0) == 0 || ptr.Deref(ctx.RunAsGroup, 0) == 0 {
		t.Errorf("the Pod may run as root: %v", ctx)
	}
	if ctx == nil || ctx.SeccompProfile == nil || ctx.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the Pod has no seccomp profile: %v", ctx)
	}
	if pod.HostNetwork || pod.HostPID || pod.HostIPC || len(pod.Volumes) > 0 {
		t.Errorf("the Pod uses the host or volumes: %v", pod.Volumes)
	}
	for _, c := range pod.Containers {
		s := c.SecurityContext
		if s == nil || ptr.Deref(s.AllowPrivilegeEscalation, true) || !ptr.Deref(s.ReadOnlyRootFilesystem, false) || ptr.Deref(s.Privileged, false) {
			t.Errorf("%s: security context %v", c.Name, s)
		}
		if s == nil || s.Capabilities == nil || !slices.Contains(s.Capabilities.Drop, "ALL") || len(s.Capabilities.Add) > 0 {
			t.Errorf("%s: capabilities are not dropped", c.Name)
		}
		if c.Resources.Requests.Cpu().IsZero() || c.Resources.Requests.Memory().IsZero() || c.Resources.Limits.Memory().IsZero() {
			t.Errorf("%s: requests or limits are missing: %v", c.Name, c.Resources)
		}
	}
}

func TestNamespaceEnforcesRestrictedPods(t *testing.T) {
	ns := one[*corev1.Namespace](t, load(t, "."))
	if ns.Name != namespace || ns.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Errorf("namespace %s has the labels %v", ns.Name, ns.Labels)
	}
}

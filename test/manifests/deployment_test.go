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

func deployment(t *testing.T, variant string) *appsv1.Deployment {
	t.Helper()
	return one[*appsv1.Deployment](t, load(t, variants()[variant]...))
}

// Names of the containers.
const (
	manager    = "machine-controller-manager"
	controller = "machine-controller"
	driver     = "vch-driver"
)

// container is one container of a variant's Deployment.
func container(t *testing.T, variant, name string) corev1.Container {
	t.Helper()
	for _, c := range deployment(t, variant).Spec.Template.Spec.Containers {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("%s: no container %s", variant, name)
	return corev1.Container{}
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

// servers returns the options of the controllers, by the name of their container.
func servers() map[string]settings {
	m, c := mcmoptions.NewMCMServer(), mcoptions.NewMCServer()
	all := map[string]settings{
		manager: {
			pflag.NewFlagSet(manager, pflag.ContinueOnError), m.Validate,
			&m.ControlKubeconfig, &m.TargetKubeconfig, &m.Namespace, &m.Port, &m.LeaderElection.LeaderElect,
		},
		controller: {
			pflag.NewFlagSet(controller, pflag.ContinueOnError), c.Validate,
			&c.ControlKubeconfig, &c.TargetKubeconfig, &c.Namespace, &c.Port, &c.LeaderElection.LeaderElect,
		},
	}
	m.AddFlags(all[manager].flags)
	c.AddFlags(all[controller].flags)
	all[controller].flags.String("cmi-endpoint", "", "of cmd/machine-controller")
	return all
}

func TestAllContainersRunInOnePod(t *testing.T) {
	for variant, want := range map[string][]string{inProcess: {manager, controller}, sidecar: {manager, controller, driver}} {
		t.Run(variant, func(t *testing.T) { checkPod(t, deployment(t, variant), want) })
	}
}

func checkPod(t *testing.T, d *appsv1.Deployment, want []string) {
	t.Helper()
	if d.Name != "machine-controller-manager" {
		t.Errorf("name = %q; the cluster autoscaler looks for machine-controller-manager", d.Name)
	}
	var names []string
	for _, c := range d.Spec.Template.Spec.Containers {
		names = append(names, c.Name)
	}
	if !slices.Equal(names, want) {
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
	for variant := range variants() {
		t.Run(variant, func(t *testing.T) { checkControllers(t, variant) })
	}
}

func checkControllers(t *testing.T, variant string) {
	t.Helper()
	for name, s := range servers() {
		c := container(t, variant, name)
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

// All file systems are read-only, and images become disks by way of temporary files.
func TestTheDriverHasRoomForImages(t *testing.T) {
	for variant, name := range map[string]string{inProcess: controller, sidecar: driver} {
		t.Run(variant, func(t *testing.T) {
			mounts := container(t, variant, name).VolumeMounts
			i := slices.IndexFunc(mounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/tmp" && !m.ReadOnly })
			if i < 0 {
				t.Fatalf("nothing is mounted at the default of --image-temp-dir: %v", mounts)
			}
			volumes := deployment(t, variant).Spec.Template.Spec.Volumes
			v := slices.IndexFunc(volumes, func(v corev1.Volume) bool { return v.Name == mounts[i].Name })
			if v < 0 || volumes[v].EmptyDir == nil || volumes[v].EmptyDir.SizeLimit != nil || volumes[v].EmptyDir.Medium != corev1.StorageMediumDefault {
				t.Errorf("it is no emptyDir on disk without a limit, which would evict the Pod: %v", volumes)
			}
		})
	}
}

func TestPodsMayNothing(t *testing.T) {
	for variant := range variants() {
		t.Run(variant, func(t *testing.T) { checkSecurity(t, deployment(t, variant).Spec.Template.Spec) })
	}
}

func checkSecurity(t *testing.T, pod corev1.PodSpec) {
	t.Helper()
	ctx := pod.SecurityContext
	if ctx == nil || !ptr.Deref(ctx.RunAsNonRoot, false) || ptr.Deref(ctx.RunAsUser, 0) == 0 || ptr.Deref(ctx.RunAsGroup, 0) == 0 {
		t.Errorf("the Pod may run as root: %v", ctx)
	}
	if ctx == nil || ctx.SeccompProfile == nil || ctx.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the Pod has no seccomp profile: %v", ctx)
	}
	if pod.HostNetwork || pod.HostPID || pod.HostIPC || ptr.Deref(pod.ShareProcessNamespace, false) || len(pod.InitContainers) > 0 {
		t.Error("the Pod uses namespaces of the host, or one for all processes, or has other containers")
	}
	for _, c := range pod.Containers {
		s := c.SecurityContext
		if s == nil || ptr.Deref(s.AllowPrivilegeEscalation, true) || !ptr.Deref(s.ReadOnlyRootFilesystem, false) || ptr.Deref(s.Privileged, false) ||
			s.RunAsUser != nil || s.RunAsGroup != nil || s.RunAsNonRoot != nil || s.SeccompProfile != nil {
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
	ns := one[*corev1.Namespace](t, load(t, "base"))
	if ns.Name != namespace || ns.Labels["pod-security.kubernetes.io/enforce"] != "restricted" {
		t.Errorf("namespace %s has the labels %v", ns.Name, ns.Labels)
	}
}

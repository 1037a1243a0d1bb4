// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/utils/ptr"
)

const (
	tokenDir = "/var/run/secrets/kubernetes.io/serviceaccount"
	// logoutTime is what cmd/vch-driver takes at most to log out of vCenter.
	logoutTime = 10 * time.Second
	// startupTime is the default of the controller's --cmi-startup-timeout.
	startupTime = 30 * time.Second
)

// driverFlags are the flags of cmd/vch-driver that the Deployment may give.
type driverFlags struct {
	*pflag.FlagSet

	endpoint    string
	credentials string
	metrics     string
	shutdown    time.Duration
	verbosity   int
}

// parseDriver parses the arguments of the container vch-driver.
func parseDriver(t *testing.T) driverFlags {
	t.Helper()
	f := driverFlags{FlagSet: pflag.NewFlagSet(driver, pflag.ContinueOnError)}
	f.StringVar(&f.endpoint, "endpoint", "", "")
	f.StringVar(&f.credentials, "credentials-dir", "", "")
	f.StringVar(&f.metrics, "metrics-address", "", "")
	f.DurationVar(&f.shutdown, "shutdown-timeout", 0, "")
	f.IntVar(&f.verbosity, "v", 0, "")
	if err := f.Parse(container(t, sidecar, driver).Args); err != nil {
		t.Fatal(err)
	}
	return f
}

func sidecarPod(t *testing.T) corev1.PodSpec {
	t.Helper()
	return deployment(t, sidecar).Spec.Template.Spec
}

// socketOf is the path of a unix endpoint.
func socketOf(t *testing.T, endpoint string) string {
	t.Helper()
	socket, ok := strings.CutPrefix(endpoint, "unix://")
	if !ok || !path.IsAbs(socket) {
		t.Fatalf("endpoint %q is no unix socket with an absolute path", endpoint)
	}
	return socket
}

// Applying one variant over the other must replace the Deployment: its selector
// cannot be changed, and with another name there would be two.
func TestVariantsDifferInTheDriverOnly(t *testing.T) {
	t.Parallel()
	plain, other := deployment(t, inProcess), deployment(t, sidecar)
	spec, otherSpec := &plain.Spec.Template.Spec, &other.Spec.Template.Spec
	otherSpec.Containers = slices.DeleteFunc(otherSpec.Containers, func(c corev1.Container) bool { return c.Name == driver })
	for i := range otherSpec.Containers {
		c := &otherSpec.Containers[i]
		c.Args = slices.DeleteFunc(c.Args, func(a string) bool { return strings.HasPrefix(a, "--cmi-endpoint=") })
	}
	if diff := cmp.Diff(plain, other,
		cmpopts.IgnoreFields(corev1.PodSpec{}, "Volumes", "AutomountServiceAccountToken", "TerminationGracePeriodSeconds"),
		cmpopts.IgnoreFields(corev1.PodSecurityContext{}, "FSGroup"),
		cmpopts.IgnoreFields(corev1.Container{}, "VolumeMounts", "StartupProbe"),
	); diff != "" {
		t.Errorf("Deployments (-in-process +sidecar):\n%s", diff)
	}
	if spec.AutomountServiceAccountToken != nil || spec.TerminationGracePeriodSeconds != nil || len(spec.Volumes) != 1 {
		t.Error("the in-process variant has what only the driver's container needs")
	}
}

func TestTheDriverIsStartedWithItsFlags(t *testing.T) {
	t.Parallel()
	c, flags := container(t, sidecar, driver), parseDriver(t)
	// The entry point of the image is the machine-controller; see the Dockerfile.
	if diff := cmp.Diff([]string{"/vch-driver"}, c.Command); diff != "" {
		t.Errorf("command (-want +got):\n%s", diff)
	}
	if len(flags.Args()) > 0 {
		t.Errorf("arguments that are no flags: %q", flags.Args())
	}
	if flags.verbosity > 3 {
		t.Errorf("logs too much: %v", c.Args)
	}
	if len(c.Ports) != 1 || flags.metrics != fmt.Sprintf(":%d", c.Ports[0].ContainerPort) {
		t.Fatalf("metrics at %q, ports %v", flags.metrics, c.Ports)
	}
	if faults := validation.IsValidPortName(c.Ports[0].Name); len(faults) > 0 {
		t.Errorf("port %s: %v", c.Ports[0].Name, faults)
	}
}

func TestNoTwoContainersShareAPortOrItsName(t *testing.T) {
	t.Parallel()
	for variant := range variants() {
		seen := map[string]string{}
		for _, c := range deployment(t, variant).Spec.Template.Spec.Containers {
			for _, port := range c.Ports {
				for _, key := range []string{port.Name, fmt.Sprint(port.ContainerPort)} {
					if other := seen[key]; other != "" {
						t.Errorf("%s: %s and %s both have the port %s", variant, other, c.Name, key)
					}
					seen[key] = c.Name
				}
			}
		}
	}
}

func TestControllerAndDriverMeetAtOneSocket(t *testing.T) {
	t.Parallel()
	var client string
	fs := pflag.NewFlagSet(controller, pflag.ContinueOnError)
	fs.ParseErrorsAllowlist.UnknownFlags = true
	fs.StringVar(&client, "cmi-endpoint", "", "")
	if err := fs.Parse(container(t, sidecar, controller).Args); err != nil {
		t.Fatal(err)
	}
	server := parseDriver(t).endpoint
	if client != server {
		t.Errorf("the controller calls %q, the driver listens at %q", client, server)
	}
	dir := path.Dir(socketOf(t, server))
	for _, name := range []string{controller, driver} {
		if !slices.ContainsFunc(container(t, sidecar, name).VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == dir && m.Name == "cmi" }) {
			t.Errorf("%s does not mount the socket's directory %s", name, dir)
		}
	}
	for _, v := range sidecarPod(t).Volumes {
		if v.Name != "cmi" {
			continue
		}
		if v.EmptyDir == nil || v.EmptyDir.Medium != corev1.StorageMediumMemory || v.EmptyDir.SizeLimit == nil || v.EmptyDir.SizeLimit.Value() > 4<<20 {
			t.Errorf("the socket's volume is %+v", v.VolumeSource)
		}
	}
}

// What a container mounts is what it can see of the others and of the Secrets.
func TestContainersMountWhatTheyNeedAndNoMore(t *testing.T) {
	t.Parallel()
	for variant, want := range map[string]map[string][]string{
		inProcess: {manager: nil, controller: {"image-temp at /tmp, read-only: false"}},
		sidecar: {
			manager:    {"api-access at " + tokenDir + ", read-only: true"},
			controller: {"api-access at " + tokenDir + ", read-only: true", "cmi at /run/vch-driver, read-only: true"},
			driver: {
				"cmi at /run/vch-driver, read-only: false", "credentials at /etc/vch-driver/credentials, read-only: true",
				"image-temp at /tmp, read-only: false",
			},
		},
	} {
		got := map[string][]string{}
		for _, c := range deployment(t, variant).Spec.Template.Spec.Containers {
			got[c.Name] = nil
			for _, m := range c.VolumeMounts {
				got[c.Name] = append(got[c.Name], fmt.Sprintf("%s at %s, read-only: %t", m.Name, m.MountPath, m.ReadOnly))
				// Mounts of a part of a volume are never brought up to date.
				if m.SubPath != "" || m.SubPathExpr != "" || m.MountPropagation != nil {
					t.Errorf("%s: %s mounts %+v", variant, c.Name, m)
				}
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: mounts (-want +got):\n%s", variant, diff)
		}
	}
}

func TestOnlyTheDriverSeesCredentials(t *testing.T) {
	t.Parallel()
	pod := sidecarPod(t)
	var secrets []string
	for _, v := range pod.Volumes {
		if v.Secret != nil {
			secrets = append(secrets, v.Name)
			// By its group, as the kubelet makes root the owner of the files.
			if mode := ptr.Deref(v.Secret.DefaultMode, 0o644); mode != 0o440 || ptr.Deref(pod.SecurityContext.FSGroup, 0) != *pod.SecurityContext.RunAsGroup {
				t.Errorf("the credentials have the mode %o and the group %v", mode, pod.SecurityContext.FSGroup)
			}
			if own := one[*corev1.Secret](t, load(t, driverSamples)); v.Secret.SecretName != own.Name || !ptr.Deref(v.Secret.Optional, false) {
				t.Errorf("mounted is %s, optional %v; the sample is %s", v.Secret.SecretName, v.Secret.Optional, own.Name)
			}
		}
	}
	if diff := cmp.Diff([]string{"credentials"}, secrets); diff != "" {
		t.Errorf("volumes that are Secrets (-want +got):\n%s", diff)
	}
	if got := parseDriver(t).credentials; got != "/etc/vch-driver/credentials" {
		t.Errorf("the driver reads %q", got)
	}
	for _, c := range pod.Containers {
		for _, e := range c.Env {
			if e.ValueFrom != nil && e.ValueFrom.SecretKeyRef != nil {
				t.Errorf("%s: the environment has %s from a Secret", c.Name, e.Name)
			}
		}
		if len(c.EnvFrom) > 0 {
			t.Errorf("%s: the environment comes from %v", c.Name, c.EnvFrom)
		}
	}
}

func TestTheControllersHaveTheTokenThatTheDriverHasNot(t *testing.T) {
	t.Parallel()
	pod := sidecarPod(t)
	if ptr.Deref(pod.AutomountServiceAccountToken, true) {
		t.Error("every container gets the token")
	}
	i := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Projected != nil })
	if i < 0 {
		t.Fatal("nobody gets the token")
	}
	// The files that client-go's in-cluster configuration reads, as the API server mounts them.
	want := &corev1.ProjectedVolumeSource{
		DefaultMode: ptr.To[int32](0o440),
		Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: ptr.To[int64](3607)}},
			{ConfigMap: &corev1.ConfigMapProjection{
				LocalObjectReference: corev1.LocalObjectReference{Name: "kube-root-ca.crt"},
				Items:                []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
			}},
			{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
				{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"}},
			}}},
		},
	}
	if diff := cmp.Diff(want, pod.Volumes[i].Projected, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(corev1.ObjectFieldSelector{}, "APIVersion")); diff != "" {
		t.Errorf("access to the API (-want +got):\n%s", diff)
	}
}

func TestTheDriverIsAskedForItsHealthOverTheSocket(t *testing.T) {
	t.Parallel()
	c := container(t, sidecar, driver)
	want := []string{c.Command[0], "probe", "--endpoint=" + parseDriver(t).endpoint}
	for name, probe := range map[string]*corev1.Probe{"startup": c.StartupProbe, "liveness": c.LivenessProbe, "readiness": c.ReadinessProbe} {
		if probe == nil || probe.Exec == nil {
			t.Errorf("the %s probe is %v", name, probe)
			continue
		}
		if diff := cmp.Diff(want, probe.Exec.Command); diff != "" {
			t.Errorf("the %s probe runs (-want +got):\n%s", name, diff)
		}
		if probe.TimeoutSeconds < 5 || name != "startup" && probe.PeriodSeconds < 5 {
			t.Errorf("the %s probe starts a process every %d s and ends it after %d s", name, probe.PeriodSeconds, probe.TimeoutSeconds)
		}
	}
	if p := c.LivenessProbe; p != nil && p.FailureThreshold < 3 {
		t.Errorf("the driver is killed after %d probes, and running calls with it", p.FailureThreshold)
	}
}

// The controller has no /healthz before it has found the driver; being killed
// meanwhile would be worse than waiting.
func TestTheControllerMayWaitForTheDriver(t *testing.T) {
	t.Parallel()
	c := container(t, sidecar, controller)
	if diff := cmp.Diff(c.LivenessProbe.HTTPGet, c.StartupProbe.HTTPGet); diff != "" {
		t.Errorf("probes (-liveness +startup):\n%s", diff)
	}
	if patience := time.Duration(c.StartupProbe.PeriodSeconds*c.StartupProbe.FailureThreshold) * time.Second; patience <= startupTime {
		t.Errorf("the controller is killed after %s, and waits for %s", patience, startupTime)
	}
}

func TestTheDriverIsNotKilledBeforeItHasEnded(t *testing.T) {
	t.Parallel()
	shutdown := parseDriver(t).shutdown
	grace := time.Duration(ptr.Deref(sidecarPod(t).TerminationGracePeriodSeconds, 30)) * time.Second
	if shutdown <= 0 || grace < shutdown+logoutTime {
		t.Errorf("calls may take %s more, the logout %s, and after %s the Pod is killed", shutdown, logoutTime, grace)
	}
}

func TestNetworkPolicyLetsThroughWhatThePodNeeds(t *testing.T) {
	t.Parallel()
	objects := load(t, "sidecar")
	policy, d := one[*networkingv1.NetworkPolicy](t, objects), one[*appsv1.Deployment](t, objects)
	selector, err := metav1.LabelSelectorAsSelector(&policy.Spec.PodSelector)
	if err != nil || selector.Empty() || !selector.Matches(labels.Set(d.Spec.Template.Labels)) {
		t.Errorf("the policy is for %v: %v", selector, err)
	}
	if want := []networkingv1.PolicyType{networkingv1.PolicyTypeIngress, networkingv1.PolicyTypeEgress}; !slices.Equal(policy.Spec.PolicyTypes, want) {
		t.Errorf("policy types = %v", policy.Spec.PolicyTypes)
	}
	want := map[string]bool{}
	for _, c := range d.Spec.Template.Spec.Containers {
		for _, port := range c.Ports {
			want[fmt.Sprintf("TCP %d", port.ContainerPort)] = true
		}
	}
	var in, out []string
	for _, rule := range policy.Spec.Ingress {
		in = append(in, ports(t, rule.Ports)...)
	}
	for _, rule := range policy.Spec.Egress {
		out = append(out, ports(t, rule.Ports)...)
	}
	slices.Sort(in)
	slices.Sort(out)
	if diff := cmp.Diff(slices.Sorted(maps.Keys(want)), in); diff != "" {
		t.Errorf("ingress (-containers +policy):\n%s", diff)
	}
	// DNS, the API server and vCenter.
	if diff := cmp.Diff([]string{"TCP 443", "TCP 53", "TCP 6443", "UDP 53"}, out); diff != "" {
		t.Errorf("egress (-want +got):\n%s", diff)
	}
}

// ports lists the ports of a rule of a NetworkPolicy; ranges and names are not used.
func ports(t *testing.T, all []networkingv1.NetworkPolicyPort) []string {
	t.Helper()
	if len(all) == 0 {
		t.Error("a rule without ports is for all of them")
	}
	var list []string
	for _, p := range all {
		if p.Port == nil || p.Port.Type != intstr.Int || p.Protocol == nil || p.EndPort != nil {
			t.Errorf("port %+v is no single one", p)
			continue
		}
		list = append(list, fmt.Sprintf("%s %d", *p.Protocol, p.Port.IntValue()))
	}
	return list
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

// data is the Secret's data as the API server would store it.
func data(secret *corev1.Secret) map[string][]byte {
	all := map[string][]byte{}
	for key, value := range secret.Data {
		all[key] = value
	}
	for key, value := range secret.StringData {
		all[key] = []byte(value)
	}
	return all
}

func TestClassAndSecretAreValid(t *testing.T) {
	samples := load(t, "samples")
	class, secret := one[*mcmv1alpha1.MachineClass](t, samples), one[*corev1.Secret](t, samples)
	if class.Provider != v1alpha1.Provider {
		t.Errorf("provider = %q", class.Provider)
	}
	spec, err := v1alpha1.Load(class.ProviderSpec.Raw)
	if err != nil {
		t.Fatalf("providerSpec: %v", err)
	}
	if err := v1alpha1.CheckSecret(data(secret), spec); err != nil {
		t.Errorf("secret: %v", err)
	}
	if ref := class.SecretRef; ref == nil || ref.Name != secret.Name || ref.Namespace != secret.Namespace {
		t.Errorf("secretRef = %v, want %s/%s", ref, secret.Namespace, secret.Name)
	}
	if !ptr.Deref(spec.UserData.Exec, false) {
		t.Error("the class does not run the userData of the Secret")
	}
	for _, placeholder := range []string{"<<BOOTSTRAP_TOKEN>>", v1alpha1.PlaceholderMachineName, v1alpha1.PlaceholderProviderID} {
		if !strings.Contains(string(data(secret)[v1alpha1.SecretUserData]), placeholder) {
			t.Errorf("userData lacks %s", placeholder)
		}
	}
}

func TestTheImageOfTheClassCanBePulledWithTheSecret(t *testing.T) {
	samples := load(t, "samples")
	class, secret := one[*mcmv1alpha1.MachineClass](t, samples), one[*corev1.Secret](t, samples)
	spec, err := v1alpha1.Load(class.ProviderSpec.Raw)
	if err != nil {
		t.Fatal(err)
	}
	image, err := registry.ParseReference(spec.Image)
	if err != nil {
		t.Fatal(err)
	}
	var docker struct{ Auths map[string]map[string]string }
	if err := json.Unmarshal(data(secret)[v1alpha1.SecretDockerConfig], &docker); err != nil {
		t.Fatal(err)
	}
	if entry := docker.Auths[image.Registry]; entry["username"] == "" || entry["password"] == "" {
		t.Errorf("the Secret has no credentials for %s", image.Registry)
	}
}

// driverSamples is the directory with what only the sidecar variant has.
const driverSamples = "sidecar/samples"

func TestCredentialsOfTheDriverTakeThePlaceOfThoseOfTheClass(t *testing.T) {
	samples := load(t, "samples")
	class, ofClass := one[*mcmv1alpha1.MachineClass](t, samples), data(one[*corev1.Secret](t, samples))
	own := load(t, driverSamples)
	ofDriver := data(one[*corev1.Secret](t, own))
	if len(own) != 1 {
		t.Errorf("%d objects are samples for the driver, want its Secret only", len(own))
	}
	connection := func(key string, _ []byte) bool { return strings.HasPrefix(key, "vsphere") }
	if got := maps.Clone(ofDriver); len(got) > 0 {
		if maps.DeleteFunc(got, connection); len(got) > 0 {
			t.Errorf("the driver's Secret has more than the way to vCenter: %d keys", len(got))
		}
	}
	// What the driver works with: its own credentials and the class's other keys.
	maps.DeleteFunc(ofClass, connection)
	if _, ok := ofClass[v1alpha1.SecretUserData]; !ok {
		t.Error("without credentials the class's Secret has no userData, and MCM never calls the driver")
	}
	maps.Copy(ofClass, ofDriver)
	spec, err := v1alpha1.Load(class.ProviderSpec.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if err := v1alpha1.CheckSecret(ofClass, spec); err != nil {
		t.Errorf("both Secrets together: %v", err)
	}
}

func TestClassTellsTheAutoscalerWhatANodeWillBe(t *testing.T) {
	class := one[*mcmv1alpha1.MachineClass](t, load(t, "samples"))
	template := class.NodeTemplate
	if template == nil {
		t.Fatal("no nodeTemplate")
	}
	// MCM refuses classes without any of these: machinecontroller/machine_util.go, ValidateMachineClass.
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, "gpu", corev1.ResourceMemory} {
		if _, ok := template.Capacity[name]; !ok {
			t.Errorf("capacity lacks %s", name)
		}
	}
	if template.InstanceType == "" || template.Region == "" || template.Zone == "" {
		t.Errorf("instance type, region and zone = %q, %q, %q", template.InstanceType, template.Region, template.Zone)
	}
	spec, err := v1alpha1.Load(class.ProviderSpec.Raw)
	if err != nil {
		t.Fatal(err)
	}
	if got := template.Capacity.Cpu().Value(); got != int64(*spec.CPUs) {
		t.Errorf("capacity has %d CPUs, the machines have %d", got, *spec.CPUs)
	}
	if got := template.Capacity.Memory().Value(); got != spec.MemoryMB()<<20 {
		t.Errorf("capacity has %d bytes of memory, the machines have %d", got, spec.MemoryMB()<<20)
	}
}

func TestSamplesReferToEachOther(t *testing.T) {
	samples := load(t, "samples")
	class := one[*mcmv1alpha1.MachineClass](t, samples)
	machine := one[*mcmv1alpha1.Machine](t, samples)
	set := one[*mcmv1alpha1.MachineSet](t, samples)
	deployment := one[*mcmv1alpha1.MachineDeployment](t, samples)
	for name, ref := range map[string]mcmv1alpha1.ClassSpec{
		"Machine": machine.Spec.Class, "MachineSet": set.Spec.Template.Spec.Class, "MachineDeployment": deployment.Spec.Template.Spec.Class,
	} {
		if ref.Kind != "MachineClass" || ref.Name != class.Name {
			t.Errorf("%s has the class %+v", name, ref)
		}
	}
	if err := v1alpha1.ValidateMachineName(machine.Name, nil); err != nil || len(machine.Name) < 5 {
		t.Errorf("machine name %q: %v; MCM needs 5 characters", machine.Name, err)
	}
	// Each of them selects its own machines and nobody else's.
	templates := map[string]map[string]string{
		"Machine": machine.Labels, "MachineSet": set.Spec.Template.Labels, "MachineDeployment": deployment.Spec.Template.Labels,
	}
	for owner, selector := range map[string]*metav1.LabelSelector{"MachineSet": set.Spec.Selector, "MachineDeployment": deployment.Spec.Selector} {
		s, err := metav1.LabelSelectorAsSelector(selector)
		if err != nil {
			t.Fatal(err)
		}
		for other, template := range templates {
			if got := s.Matches(labels.Set(template)); got != (other == owner) {
				t.Errorf("the selector of the %s matches the %s: %t", owner, other, got)
			}
		}
	}
}

func TestAllObjectsAreInOneNamespace(t *testing.T) {
	for _, object := range load(t, "base", ".", "sidecar", "samples", driverSamples) {
		m, err := meta.Accessor(object)
		if err != nil {
			t.Fatal(err)
		}
		kind := object.GetObjectKind().GroupVersionKind().Kind
		switch ns := m.GetNamespace(); {
		case slices.Contains([]string{"Namespace", "ClusterRole", "ClusterRoleBinding"}, kind):
		case ns == namespace, ns == kubeSystem && strings.HasSuffix(m.GetName(), "-bootstrap-tokens"):
		default:
			t.Errorf("%s %s is in the namespace %q", kind, m.GetName(), ns)
		}
	}
}

// MCM's integration framework guesses the kind of a file from words in its text
// (pkg/test/integration/common/helpers/handling_files.go:37).
func TestClassHasNoWordThatMisleadsMCMsFramework(t *testing.T) {
	content, err := os.ReadFile(filepath.Join(root, "samples", "machine-class.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	misleading := regexp.MustCompile(`Role|ServiceAccount|CustomResourceDefinition|kind: Deployment`)
	if word := misleading.Find(content); word != nil {
		t.Errorf("machine-class.yaml contains %q", word)
	}
}

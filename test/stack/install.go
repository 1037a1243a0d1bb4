// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/json"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/cluster"
)

// Directories of kubernetes/: what all variants of the Deployment share, the variant
// whose driver is part of the machine-controller, that whose driver is a process of
// its own, and what users change and apply.
const (
	baseDir          = "base"
	inProcessVariant = "."
	sidecarVariant   = "sidecar"
	samplesDir       = "samples"
)

// targetRights is the manifest that only an installation with a target cluster needs.
const targetRights = "rbac-target.yaml"

// install makes the namespace, applies the manifests of kubernetes/ to it, and
// makes a kubeconfig of the Deployment's service account.
func (s *Stack) install(ctx context.Context) error {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.options.Namespace}}
	if _, err := s.Kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create the namespace %s: %w", s.options.Namespace, err)
	}
	variant := inProcessVariant
	if s.options.Sidecar {
		variant = sidecarVariant
	}
	objects, err := s.manifests(variant)
	if err != nil {
		return err
	}
	for _, object := range objects {
		s.adapt(object)
		if object.GetKind() == "Deployment" {
			if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &s.deployment); err != nil {
				return fmt.Errorf("decode the Deployment: %w", err)
			}
		}
	}
	account := s.deployment.Spec.Template.Spec.ServiceAccountName
	if account == "" {
		return errors.New("no Deployment with a service account in the manifests")
	}
	if err := s.options.Cluster.Apply(ctx, objects...); err != nil {
		return err
	}
	s.kubeconfig, err = s.options.Cluster.ServiceAccountKubeconfig(ctx, s.options.Namespace, account)
	return err
}

// flags are those of a container of the Deployment.
func (s *Stack) flags(container string) ([]string, error) {
	for i := range s.deployment.Spec.Template.Spec.Containers {
		if found := &s.deployment.Spec.Template.Spec.Containers[i]; found.Name == container {
			return slices.Clone(found.Args), nil
		}
	}
	return nil, fmt.Errorf("the Deployment has no container %s", container)
}

// manifests reads what one variant of kubernetes/ consists of, without the rights
// in a target cluster if there is none.
func (s *Stack) manifests(variant string) ([]*unstructured.Unstructured, error) {
	var files []string
	for _, dir := range []string{baseDir, variant} {
		found, err := filepath.Glob(filepath.Join(s.options.Programs.Root, "kubernetes", dir, "*.yaml"))
		if err != nil {
			return nil, fmt.Errorf("list the manifests in %s: %w", dir, err)
		}
		files = append(files, found...)
	}
	if !s.options.Join {
		files = slices.DeleteFunc(files, func(file string) bool { return filepath.Base(file) == targetRights })
	}
	return cluster.ReadManifests(files...)
}

// adapt moves an object to the namespace of the installation. What stays outside
// of it gets a name of its own, so that installations do not share it.
func (s *Stack) adapt(object *unstructured.Unstructured) {
	own := s.options.Namespace + ":" + object.GetName()
	switch {
	case object.GetKind() == "Namespace":
		object.SetName(s.options.Namespace)
	case object.GetKind() == "ClusterRole": // the same for all
	case object.GetKind() == "ClusterRoleBinding", object.GetKind() == "RoleBinding" && object.GetNamespace() == metav1.NamespaceSystem:
		object.SetName(own)
	case object.GetNamespace() != metav1.NamespaceSystem:
		object.SetNamespace(s.options.Namespace)
	}
	subjects, _ := object.Object["subjects"].([]any)
	for _, entry := range subjects {
		if subject, isMap := entry.(map[string]any); isMap && subject["kind"] == "ServiceAccount" {
			subject["namespace"] = s.options.Namespace
		}
	}
}

// Samples reads the samples of kubernetes/, by kind, and fills in this
// installation's namespace, vCenter and VCH. Nothing else is changed in them.
func (s *Stack) Samples() (map[string]*unstructured.Unstructured, error) {
	objects, err := cluster.ReadManifests(filepath.Join(s.options.Programs.Root, "kubernetes", samplesDir))
	if err != nil {
		return nil, err
	}
	samples := map[string]*unstructured.Unstructured{}
	for _, object := range objects {
		if samples[object.GetKind()] != nil {
			return nil, fmt.Errorf("several samples are a %s", object.GetKind())
		}
		samples[object.GetKind()] = object
		object.SetNamespace(s.options.Namespace)
		switch object.GetKind() {
		case "Secret":
			err = s.completeSecret(object)
		case "MachineClass":
			err = s.completeClass(object)
		}
		if err != nil {
			return nil, fmt.Errorf("complete the sample %s: %w", object.GetName(), err)
		}
	}
	for _, kind := range []string{"Secret", "MachineClass", "Machine", "MachineSet", "MachineDeployment"} {
		if samples[kind] == nil {
			return nil, fmt.Errorf("no sample is a %s", kind)
		}
	}
	return samples, nil
}

// completeSecret replaces how to reach the vCenter, or takes that out if the driver
// knows it by itself; the sample's userData stays.
func (s *Stack) completeSecret(object *unstructured.Unstructured) error {
	data := map[string]string{}
	if !s.options.OwnCredentials {
		maps.Copy(data, s.vcenter.Secret)
	}
	userData, found, err := unstructured.NestedString(object.Object, "stringData", v1alpha1.SecretUserData)
	if err != nil || !found {
		return errors.Join(errors.New("stringData has no userData"), err)
	}
	data[v1alpha1.SecretUserData] = userData
	return unstructured.SetNestedStringMap(object.Object, data, "stringData")
}

// completeClass puts in the names of the simulated VCH, and what it has as a root
// disk: with Options.Image its node image, else a disk that was prepared by hand.
func (s *Stack) completeClass(object *unstructured.Unstructured) error {
	// A copy: the object is the caller's to change.
	encoded, err := json.Marshal(s.vcenter.ProviderSpec)
	if err != nil {
		return fmt.Errorf("encode the provider spec: %w", err)
	}
	var spec map[string]any
	if err := json.Unmarshal(encoded, &spec); err != nil {
		return fmt.Errorf("decode the provider spec: %w", err)
	}
	if s.options.Image {
		delete(spec, "rootDisk") // the sample's, which has a size
	} else {
		unstructured.RemoveNestedField(object.Object, "providerSpec", "image")
	}
	for _, field := range []string{"vch", "tags", "image", "registries", "rootDisk", "networks"} {
		if spec[field] == nil {
			continue
		}
		if err := unstructured.SetNestedField(object.Object, spec[field], "providerSpec", field); err != nil {
			return err
		}
	}
	return unstructured.SetNestedField(object.Object, s.options.Namespace, "secretRef", "namespace")
}

// Apply creates or changes objects with all rights.
func (s *Stack) Apply(ctx context.Context, objects ...*unstructured.Unstructured) error {
	return s.options.Cluster.Apply(ctx, objects...)
}

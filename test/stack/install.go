// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/cluster"
)

// samplesDir is the directory of kubernetes/ with what users change and apply.
const samplesDir = "samples"

// install makes the namespace, applies all manifests of kubernetes/ but the
// samples to it, and returns a kubeconfig of the Deployment's service account.
func (s *Stack) install(ctx context.Context) (kubeconfig string, err error) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.options.Namespace}}
	if _, err := s.Kube.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{}); err != nil {
		return "", fmt.Errorf("create the namespace %s: %w", s.options.Namespace, err)
	}
	objects, err := s.manifests()
	if err != nil {
		return "", err
	}
	account := ""
	for _, object := range objects {
		s.adapt(object)
		if object.GetKind() == "Deployment" {
			if account, _, err = unstructured.NestedString(object.Object, "spec", "template", "spec", "serviceAccountName"); err != nil {
				return "", fmt.Errorf("read the service account of the Deployment: %w", err)
			}
		}
	}
	if account == "" {
		return "", errors.New("no Deployment with a service account in the manifests")
	}
	if err := s.options.Cluster.Apply(ctx, objects...); err != nil {
		return "", err
	}
	return s.options.Cluster.ServiceAccountKubeconfig(ctx, s.options.Namespace, account)
}

// manifests reads kubernetes/ without the samples.
func (s *Stack) manifests() ([]*unstructured.Unstructured, error) {
	var files []string
	root := filepath.Join(s.options.Programs.Root, "kubernetes")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && entry.Name() == samplesDir:
			return fs.SkipDir
		case !entry.IsDir() && filepath.Ext(path) == ".yaml":
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the manifests: %w", err)
	}
	return cluster.ReadManifests(files...)
}

// adapt moves an object to the namespace of the installation. Bindings of the
// whole cluster get a name of their own, so that installations do not share them.
func (s *Stack) adapt(object *unstructured.Unstructured) {
	switch object.GetKind() {
	case "Namespace":
		object.SetName(s.options.Namespace)
	case "ClusterRole", "CustomResourceDefinition":
	case "ClusterRoleBinding":
		object.SetName(s.options.Namespace + ":" + object.GetName())
	default:
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
			data := map[string]any{}
			for key, value := range s.vcenter.Secret {
				data[key] = base64.StdEncoding.EncodeToString([]byte(value))
			}
			delete(object.Object, "stringData")
			object.Object["data"] = data
		case "MachineClass":
			// A copy: the objects are the caller's to change.
			spec, err := json.Marshal(s.vcenter.ProviderSpec)
			if err != nil {
				return nil, fmt.Errorf("encode the provider spec: %w", err)
			}
			var own map[string]any
			if err := json.Unmarshal(spec, &own); err != nil {
				return nil, fmt.Errorf("decode the provider spec: %w", err)
			}
			object.Object["providerSpec"] = own
			if reference, isMap := object.Object["secretRef"].(map[string]any); isMap {
				reference = maps.Clone(reference)
				reference["namespace"] = s.options.Namespace
				object.Object["secretRef"] = reference
			}
		}
	}
	for _, kind := range []string{"Secret", "MachineClass", "Machine", "MachineSet", "MachineDeployment"} {
		if samples[kind] == nil {
			return nil, fmt.Errorf("no sample is a %s", kind)
		}
	}
	return samples, nil
}

// Apply creates or changes objects with all rights.
func (s *Stack) Apply(ctx context.Context, objects ...*unstructured.Unstructured) error {
	return s.options.Cluster.Apply(ctx, objects...)
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
)

// fieldManager owns what Apply writes.
const fieldManager = "loopback-cluster"

// ReadManifests reads all objects of YAML files and of the *.yaml files directly
// in directories, in the order of the paths and of the file names.
func ReadManifests(paths ...string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	for _, path := range paths {
		files := []string{path}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			if files, err = filepath.Glob(filepath.Join(path, "*.yaml")); err != nil {
				return nil, fmt.Errorf("list the manifests in %s: %w", path, err)
			}
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				return nil, fmt.Errorf("read a manifest: %w", err)
			}
			found, err := ParseManifests(content)
			if err != nil {
				return nil, fmt.Errorf("read the manifest %s: %w", file, err)
			}
			objects = append(objects, found...)
		}
	}
	if len(objects) == 0 {
		return nil, fmt.Errorf("read manifests: no object in %q", paths)
	}
	return objects, nil
}

// ParseManifests reads all objects of a YAML stream; empty documents are left out.
func ParseManifests(content []byte) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096)
	for {
		var document runtime.RawExtension
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("decode YAML: %w", err)
		}
		if len(document.Raw) == 0 || string(document.Raw) == "null" {
			continue
		}
		object := &unstructured.Unstructured{}
		if err := object.UnmarshalJSON(document.Raw); err != nil {
			return nil, fmt.Errorf("decode an object: %w", err)
		}
		objects = append(objects, object)
	}
}

// Apply creates or changes objects by server-side apply, in order. Namespaced
// objects without a namespace go to default. It waits until custom resource
// definitions among them are served.
func (c *Cluster) Apply(ctx context.Context, objects ...*unstructured.Unstructured) error {
	client, mapper, err := c.dynamic()
	if err != nil {
		return err
	}
	for _, object := range objects {
		resource, err := resourceOf(client, mapper, object)
		if err != nil {
			return err
		}
		applied, err := resource.Apply(ctx, object.GetName(), object, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
		if err != nil {
			return fmt.Errorf("apply %s: %w", describe(object), err)
		}
		if object.GetKind() != "CustomResourceDefinition" {
			continue
		}
		if err := waitEstablished(ctx, resource, applied.GetName()); err != nil {
			return err
		}
		mapper.Reset()
	}
	return nil
}

// Delete deletes objects, in order; those that are gone already are no error. It
// does not wait until they are gone.
func (c *Cluster) Delete(ctx context.Context, objects ...*unstructured.Unstructured) error {
	client, mapper, err := c.dynamic()
	if err != nil {
		return err
	}
	for _, object := range objects {
		resource, err := resourceOf(client, mapper, object)
		if err != nil {
			return err
		}
		if err := resource.Delete(ctx, object.GetName(), metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("delete %s: %w", describe(object), err)
		}
	}
	return nil
}

func (c *Cluster) dynamic() (dynamic.Interface, *restmapper.DeferredDiscoveryRESTMapper, error) {
	client, err := dynamic.NewForConfig(c.admin)
	if err != nil {
		return nil, nil, fmt.Errorf("make a client: %w", err)
	}
	finder, err := discovery.NewDiscoveryClientForConfig(c.admin)
	if err != nil {
		return nil, nil, fmt.Errorf("make a discovery client: %w", err)
	}
	return client, restmapper.NewDeferredDiscoveryRESTMapper(memory.NewMemCacheClient(finder)), nil
}

func resourceOf(client dynamic.Interface, mapper meta.RESTMapper, object *unstructured.Unstructured) (dynamic.ResourceInterface, error) {
	kind := object.GroupVersionKind()
	mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if err != nil {
		return nil, fmt.Errorf("find the resource of %s: %w", describe(object), err)
	}
	if mapping.Scope.Name() != meta.RESTScopeNameNamespace {
		return client.Resource(mapping.Resource), nil
	}
	namespace := object.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	return client.Resource(mapping.Resource).Namespace(namespace), nil
}

func waitEstablished(ctx context.Context, resource dynamic.ResourceInterface, name string) error {
	err := wait.PollUntilContextTimeout(ctx, 50*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		crd, err := resource.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		status, _ := crd.Object["status"].(map[string]any) // not there at first
		conditions, _ := status["conditions"].([]any)
		for _, entry := range conditions {
			condition, isMap := entry.(map[string]any)
			if isMap && condition["type"] == "Established" && condition["status"] == "True" {
				return true, nil
			}
		}
		return false, nil
	})
	if err != nil {
		return fmt.Errorf("wait until the custom resource definition %s is served: %w", name, err)
	}
	return nil
}

func describe(object *unstructured.Unstructured) string {
	return fmt.Sprintf("%s %s/%s", object.GetKind(), object.GetNamespace(), object.GetName())
}

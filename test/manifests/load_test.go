// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
)

const (
	root       = "../../kubernetes"
	namespace  = "machine-controller-manager"
	account    = "machine-controller-manager"
	kubeSystem = "kube-system"
)

// decoder reads objects of Kubernetes and of MCM; unknown and duplicate fields are errors.
func decoder(t *testing.T) runtime.Decoder {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, mcmv1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}

// The variants of the Deployment, each with the driver in another process.
const (
	inProcess = "in-process"
	sidecar   = "sidecar"
)

// variants are the directories below kubernetes/ that each variant consists of;
// the last one is what users apply.
func variants() map[string][]string {
	return map[string][]string{inProcess: {"base", "."}, sidecar: {"base", "sidecar"}}
}

// eachVariant runs a test on what users apply, one variant after the other.
func eachVariant(t *testing.T, test func(t *testing.T, variant string, objects []runtime.Object)) {
	t.Helper()
	for variant, dirs := range variants() {
		t.Run(variant, func(t *testing.T) { test(t, variant, load(t, dirs...)) })
	}
}

// load returns all objects of the files of directories below kubernetes/.
func load(t *testing.T, dirs ...string) []runtime.Object {
	t.Helper()
	var objects []runtime.Object
	for _, file := range files(t, dirs...) {
		objects = append(objects, read(t, file)...)
	}
	return objects
}

// files lists the manifests of directories below kubernetes/, as paths below it.
func files(t *testing.T, dirs ...string) []string {
	t.Helper()
	var all []string
	for _, dir := range dirs {
		found, err := filepath.Glob(filepath.Join(root, dir, "*.yaml"))
		if err != nil || len(found) == 0 {
			t.Fatalf("no manifests in %s: %v", dir, err)
		}
		for _, file := range found {
			name, err := filepath.Rel(root, file)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, name)
		}
	}
	return all
}

// read returns all objects of a file below kubernetes/.
func read(t *testing.T, file string) []runtime.Object {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	var objects []runtime.Object
	d := decoder(t)
	reader := yaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		object, _, err := d.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		objects = append(objects, object)
	}
}

// only returns the objects of one type.
func only[T runtime.Object](objects []runtime.Object) []T {
	var found []T
	for _, object := range objects {
		if o, ok := object.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// one returns the object of its type, of which there must be exactly one.
func one[T runtime.Object](t *testing.T, objects []runtime.Object) T {
	t.Helper()
	found := only[T](objects)
	if len(found) != 1 {
		t.Fatalf("%d objects of type %T, want 1", len(found), *new(T))
	}
	return found[0]
}

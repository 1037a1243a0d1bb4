// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/cluster"
)

func TestFreePortsAreDifferentAndFree(t *testing.T) {
	t.Parallel()
	ports, err := cluster.FreePorts(t.Context(), 20)
	if err != nil {
		t.Fatal(err)
	}
	for _, port := range ports { // two of the same could not both be listened on
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
	}
}

func TestManifestsThatAreNone(t *testing.T) {
	t.Parallel()
	broken := filepath.Join(t.TempDir(), "broken.yaml")
	nothing := filepath.Join(t.TempDir(), "nothing.yaml")
	if err := errors.Join(os.WriteFile(broken, []byte("kind: [\n"), 0o600), os.WriteFile(nothing, []byte("a: b\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, path := range map[string]string{
		"a missing file": "/does/not/exist.yaml", "an empty directory": t.TempDir(), "no YAML": broken, "no object": nothing,
	} {
		t.Run(name+" is an error that names it", func(t *testing.T) {
			t.Parallel()
			if _, err := cluster.ReadManifests(path); err == nil || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v does not name %s", err, path)
			}
		})
	}
}

func TestAllObjectsOfAStreamAreRead(t *testing.T) {
	t.Parallel()
	objects, err := cluster.ParseManifests([]byte("# Nothing.\n---\nkind: A\napiVersion: v1\nspec: {replicas: 3}\n---\n---\nkind: B\napiVersion: v1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(objects) != 2 || objects[0].GetKind() != "A" || objects[1].GetKind() != "B" {
		t.Fatalf("objects %v, want an A and a B", objects)
	}
	// Whole numbers stay what they are, or nobody could read them as such.
	if replicas, _, err := unstructured.NestedInt64(objects[0].Object, "spec", "replicas"); err != nil || replicas != 3 {
		t.Errorf("replicas %d, error %v, want 3", replicas, err)
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/cluster"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
)

func programs(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("E2E_CONTROLPLANE_DIR"); dir != "" {
		return dir
	}
	build := exec.CommandContext(t.Context(), filepath.Join("..", "..", "hack", "controlplane.sh"))
	build.Stderr = os.Stderr
	out, err := build.Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func start(t *testing.T) *cluster.Cluster {
	t.Helper()
	c, err := cluster.Start(t.Context(), cluster.Options{Programs: programs(t), Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Stop)
	return c
}

const account = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
---
# Not an object.
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: reader, namespace: default}]
---
apiVersion: v1
kind: Secret
metadata: {name: bootstrap-token-a1b2c3, namespace: kube-system}
type: bootstrap.kubernetes.io/token
stringData: {token-id: a1b2c3, token-secret: "0123456789abcdef", usage-bootstrap-authentication: "true"}
`

func TestALoopbackCluster(t *testing.T) {
	t.Parallel()
	c := start(t)
	client := kubernetes.NewForConfigOrDie(c.Admin())
	objects, err := cluster.ParseManifests([]byte(account))
	if err != nil || len(objects) != 4 {
		t.Fatalf("%d objects, error %v, want 4 objects", len(objects), err)
	}
	for range 2 { // applying again is no error
		if err := c.Apply(t.Context(), objects...); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("a service account has its rights and no others", func(t *testing.T) {
		t.Parallel()
		path, err := c.ServiceAccountKubeconfig(t.Context(), "default", "reader")
		if err != nil {
			t.Fatal(err)
		}
		config, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil {
			t.Fatal(err)
		}
		reader := kubernetes.NewForConfigOrDie(config).CoreV1()
		if _, err := reader.ConfigMaps("default").List(t.Context(), metav1.ListOptions{}); err != nil {
			t.Errorf("list config maps: %v", err)
		}
		if _, err := reader.Secrets("default").List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
			t.Errorf("list secrets: %v, want that it is forbidden", err)
		}
		audit, err := os.ReadFile(c.AuditLog())
		if err != nil || !strings.Contains(string(audit), `"code":403`) {
			t.Errorf("the audit log does not show the refusal: %v", err)
		}
	})

	t.Run("a node joins with a bootstrap token", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		bootstrap := filepath.Join(dir, "bootstrap.kubeconfig")
		config := clientcmdapi.NewConfig()
		config.Clusters["c"] = &clientcmdapi.Cluster{Server: c.Server(), CertificateAuthorityData: c.Admin().CAData}
		config.AuthInfos["c"] = &clientcmdapi.AuthInfo{Token: "a1b2c3.0123456789abcdef"}
		config.Contexts["c"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "c"}
		config.CurrentContext = "c"
		if err := clientcmd.WriteToFile(*config, bootstrap); err != nil {
			t.Fatal(err)
		}
		ports, err := cluster.FreePorts(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		kubelet, err := process.Start(t.Context(), process.Command{
			Name: "kubemark", Path: filepath.Join(programs(t), "kubemark"), LogDir: dir, Env: []string{"TMPDIR=" + dir},
			Args: []string{
				"--morph=kubelet", "--use-host-image-service=false", "--name=node-1", "--kubeconfig=" + filepath.Join(dir, "kubeconfig"),
				"--bootstrap-kubeconfig=" + bootstrap, "--cert-dir=" + dir,
				fmt.Sprintf("--kubelet-port=%d", ports[0]), fmt.Sprintf("--kubelet-read-only-port=%d", ports[1]),
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer kubelet.Stop(0)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		if err := kubelet.WaitReady(ctx, func(ctx context.Context) error { return nodeReady(ctx, client, "node-1") }); err != nil {
			t.Fatal(err)
		}
	})
}

func nodeReady(ctx context.Context, client kubernetes.Interface, name string) error {
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
	}
	return fmt.Errorf("node %s is not ready", name)
}

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

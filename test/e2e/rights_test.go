// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/cluster"
)

// auditEvent is what these tests read of an event in the API server's audit log.
type auditEvent struct {
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

const reader = `
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader}
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
`

// TestRefusalsAreSeen proves that a missing right would not go unnoticed in the
// tests that look for refusals.
func TestRefusalsAreSeen(t *testing.T) {
	t.Parallel()
	objects, err := cluster.ParseManifests([]byte(reader))
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.cluster.Apply(t.Context(), objects...); err != nil {
		t.Fatal(err)
	}
	path, err := shared.cluster.ServiceAccountKubeconfig(t.Context(), metav1.NamespaceDefault, "reader")
	if err != nil {
		t.Fatal(err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	core := kubernetes.NewForConfigOrDie(config).CoreV1()
	if _, err := core.ConfigMaps(metav1.NamespaceDefault).List(t.Context(), metav1.ListOptions{}); err != nil {
		t.Errorf("list config maps: %v", err)
	}
	if _, err := core.Secrets(metav1.NamespaceDefault).List(t.Context(), metav1.ListOptions{}); !apierrors.IsForbidden(err) {
		t.Errorf("list secrets: %v, want that it is forbidden", err)
	}
	const user = "system:serviceaccount:default:reader"
	want := []string{"list /api/v1/namespaces/default/secrets by " + user}
	if diff := cmp.Diff(want, refused(t, shared.cluster, user)); diff != "" {
		t.Errorf("refusals (-want +got):\n%s", diff)
	}
}

// refused lists the requests that a cluster has forbidden to users whose names begin with
// the given prefix. It is a failure if they made no request at all.
func refused(t *testing.T, c *cluster.Cluster, prefix string) []string {
	t.Helper()
	log, err := os.ReadFile(c.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	seen := false
	for line := range bytes.Lines(log) {
		var event auditEvent
		if err := json.Unmarshal(line, &event); err != nil {
			continue // the line that is being written
		}
		if !strings.HasPrefix(event.User.Username, prefix) {
			continue
		}
		seen = true
		if event.ResponseStatus.Code == http.StatusForbidden {
			found = append(found, fmt.Sprintf("%s %s by %s", event.Verb, event.RequestURI, event.User.Username))
		}
	}
	if !seen {
		t.Errorf("no request by %s... in the audit log", prefix)
	}
	return found
}

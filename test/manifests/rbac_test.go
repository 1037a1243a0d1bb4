// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// need is what MCM v0.62.1 does with a resource; mcm stands for
// machine-controller-manager, mc for the library that our machine-controller is.
type need struct {
	resource string // group/resource[/subresource][=name]; the core group is empty
	verbs    string
	// where says who needs it, for the reader who doubts.
	where string
}

const machineGroup = "machine.sapcloud.io"

// controlNeeds are the needs in the namespace of the control cluster.
func controlNeeds() []need {
	return []need{
		{machineGroup + "/machines", "get list watch create update patch delete", "mcm: controller_utils.go (machine control); mc: node.go deletes, machine_util.go updates"},
		{machineGroup + "/machinesets", "get list watch create update patch delete", "mcm: deployment_sync.go, controller_utils.go, deployment.go"},
		{machineGroup + "/machinedeployments", "get list watch update", "mcm: deployment.go, deployment_sync.go, machine_safety.go"},
		{machineGroup + "/machineclasses", "get list watch update", "mc: machineclass.go (finalizers)"},
		{machineGroup + "/machines/status", "update", "mc: machine_util.go; mcm: machineset.go"},
		{machineGroup + "/machinesets/status", "update", "mcm: deployment_machineset_util.go, machine_safety.go"},
		{machineGroup + "/machinedeployments/status", "update", "mcm: deployment_sync.go, deployment_progress.go"},
		{machineGroup + "/machinesets/finalizers", "update", "mcm: machineset.go:408 sets blockOwnerDeletion"},
		{machineGroup + "/machinedeployments/finalizers", "update", "mcm: the same for the sets of a deployment"},
		{"/secrets", "get list watch update", "mc: secret.go (finalizers), the informer"},
		{"/events", "create patch", "both: the recorder"},
		{"coordination.k8s.io/leases", "create", "both: leader election"},
		{"coordination.k8s.io/leases=machine-controller-manager", "get update", "mcm: cmd/machine-controller-manager/app"},
		{"coordination.k8s.io/leases=machine-controller", "get update", "mc: pkg/util/provider/app/app.go:178"},
	}
}

// targetNeeds are the needs in the whole target cluster.
func targetNeeds() []need {
	return []need{
		{"/nodes", "get list watch update patch delete", "mc: node.go patches, machine_util.go updates and deletes; mcm: controller_utils.go taints"},
		{"/nodes/status", "update", "mc: machine_util.go (conditions)"},
		{"/pods", "get list watch delete", "mc: drain/drain.go"},
		{"/pods/eviction", "create", "mc: drain/drain.go"},
		{"/persistentvolumes", "list watch", "mc: controller.go, informers of the drain"},
		{"/persistentvolumeclaims", "list watch", "the same"},
		{"policy/poddisruptionbudgets", "list watch", "the same"},
		{"storage.k8s.io/volumeattachments", "list watch delete", "mc: machine_util.go, deleteVolumeAttachmentsForNode"},
	}
}

// tokenNeeds are the needs in kube-system of the target cluster.
func tokenNeeds() []need {
	return []need{{"/secrets", "get create delete", "mc: userdata.go (bootstrap tokens)"}}
}

// TestRightsAreWhatMCMNeedsAndNoMore compares single rights, so that a missing
// one and one too many both show.
func TestRightsAreWhatMCMNeedsAndNoMore(t *testing.T) {
	eachVariant(t, func(t *testing.T, _ string, objects []runtime.Object) {
		t.Helper()
		checkRights(t, objects)
	})
}

func checkRights(t *testing.T, objects []runtime.Object) {
	t.Helper()
	for scope, needs := range map[string][]need{namespace: controlNeeds(), "": targetNeeds(), kubeSystem: tokenNeeds()} {
		var want []string
		for _, n := range needs {
			for _, verb := range strings.Fields(n.verbs) {
				want = append(want, verb+" "+n.resource)
			}
		}
		got := granted(t, objects, scope)
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("rights in %q (-needed +granted):\n%s", scope, diff)
		}
	}
}

// granted lists the single rights of the service account that are given in a
// namespace, or with an empty scope in the whole cluster.
func granted(t *testing.T, objects []runtime.Object, scope string) []string {
	t.Helper()
	var rights []string
	if scope == "" {
		for _, binding := range only[*rbacv1.ClusterRoleBinding](objects) {
			checkSubjects(t, binding.Subjects)
			for _, r := range only[*rbacv1.ClusterRole](objects) {
				if binding.RoleRef.Kind == "ClusterRole" && r.Name == binding.RoleRef.Name {
					rights = append(rights, expand(r.Rules)...)
				}
			}
		}
		return rights
	}
	for _, binding := range only[*rbacv1.RoleBinding](objects) {
		checkSubjects(t, binding.Subjects)
		for _, r := range only[*rbacv1.Role](objects) {
			if binding.Namespace == scope && r.Namespace == scope && binding.RoleRef.Kind == "Role" && r.Name == binding.RoleRef.Name {
				rights = append(rights, expand(r.Rules)...)
			}
		}
	}
	return rights
}

func checkSubjects(t *testing.T, subjects []rbacv1.Subject) {
	t.Helper()
	want := []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: account, Namespace: namespace}}
	if diff := cmp.Diff(want, subjects); diff != "" {
		t.Errorf("rights are given to (-want +got):\n%s", diff)
	}
}

func expand(rules []rbacv1.PolicyRule) []string {
	var rights []string
	for _, rule := range rules {
		names := []string{""}
		if len(rule.ResourceNames) > 0 {
			names = nil
			for _, name := range rule.ResourceNames {
				names = append(names, "="+name)
			}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, name := range names {
					for _, verb := range rule.Verbs {
						rights = append(rights, fmt.Sprintf("%s %s/%s%s", verb, group, resource, name))
					}
				}
			}
		}
		for _, url := range rule.NonResourceURLs {
			rights = append(rights, "URL "+url)
		}
	}
	return rights
}

func TestEveryBindingFindsItsRole(t *testing.T) {
	objects := load(t, "base")
	for _, r := range only[*rbacv1.Role](objects) {
		if len(granted(t, []runtime.Object{r, bindingOf(objects, r)}, r.Namespace)) == 0 {
			t.Errorf("nobody is bound to the Role %s/%s", r.Namespace, r.Name)
		}
	}
	if roles, bindings := len(only[*rbacv1.Role](objects)), len(only[*rbacv1.RoleBinding](objects)); roles != bindings {
		t.Errorf("%d Roles, %d RoleBindings", roles, bindings)
	}
	if roles, bindings := len(only[*rbacv1.ClusterRole](objects)), len(only[*rbacv1.ClusterRoleBinding](objects)); roles != 1 || bindings != 1 {
		t.Errorf("%d ClusterRoles, %d ClusterRoleBindings", roles, bindings)
	}
}

func bindingOf(objects []runtime.Object, r *rbacv1.Role) runtime.Object {
	for _, binding := range only[*rbacv1.RoleBinding](objects) {
		if binding.Namespace == r.Namespace && binding.RoleRef.Name == r.Name {
			return binding
		}
	}
	return &rbacv1.RoleBinding{Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Name: account, Namespace: namespace}}}
}

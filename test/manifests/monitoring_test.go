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

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

const (
	monitoring    = "monitoring"
	dashboardFile = "dashboard.json"
	// job is what the PodMonitor calls the Pod's containers, by the Pod's label.
	job = "machine-controller-manager"
)

// podMonitor and prometheusRule are as much of the Prometheus Operator's types as
// the manifests use; decoding is strict.
type podMonitor struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		JobLabel  string               `json:"jobLabel"`
		Selector  metav1.LabelSelector `json:"selector"`
		Endpoints []struct {
			Port     string `json:"port"`
			Interval string `json:"interval"`
		} `json:"podMetricsEndpoints"`
	} `json:"spec"`
}

type prometheusRule struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []rule `json:"rules"`
		} `json:"groups"`
	} `json:"spec"`
}

// rule is an alert.
type rule struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// panel is as much of a panel of the dashboard as is judged.
type panel struct {
	ID          int               `json:"id"`
	Type        string            `json:"type"`
	Title       string            `json:"title"`
	Description string            `json:"description"`
	Datasource  map[string]string `json:"datasource"`
	Position    struct {
		H, W, X, Y int
	} `json:"gridPos"`
	Targets []struct {
		Expr string `json:"expr"`
	} `json:"targets"`
}

// decoded reads a file of kubernetes/monitoring strictly.
func decoded[T any](t *testing.T, file string) *T {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, monitoring, file))
	if err != nil {
		t.Fatal(err)
	}
	var into T
	if err := yaml.UnmarshalStrict(content, &into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return &into
}

func alerts(t *testing.T) []rule {
	t.Helper()
	object := decoded[prometheusRule](t, "prometheus-rule.yaml")
	if object.APIVersion != "monitoring.coreos.com/v1" || object.Kind != "PrometheusRule" || object.Namespace != namespace {
		t.Errorf("it is a %s of %s in %s", object.Kind, object.APIVersion, object.Namespace)
	}
	var all []rule
	for _, group := range object.Spec.Groups {
		all = append(all, group.Rules...)
	}
	return all
}

// dashboard returns the panels of the dashboard, and the queries of its variables.
func dashboard(t *testing.T) (panels []panel, variables []string) {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, monitoring, dashboardFile))
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels     []panel `json:"panels"`
		Templating struct {
			List []struct {
				Definition string `json:"definition"`
			} `json:"list"`
		} `json:"templating"`
	}
	if err := json.Unmarshal(content, &d); err != nil {
		t.Fatal(err)
	}
	for _, v := range d.Templating.List {
		if v.Definition != "" {
			variables = append(variables, v.Definition)
		}
	}
	return d.Panels, variables
}

func TestMonitoringIsAppliedByItselfAndWhole(t *testing.T) {
	t.Parallel()
	k := loadKustomization(t, monitoring)
	if diff := cmp.Diff([]string{"pod-monitor.yaml", "prometheus-rule.yaml"}, k.Resources); diff != "" {
		t.Errorf("resources (-want +got):\n%s", diff)
	}
	if len(k.ConfigMapGenerator) != 1 || len(k.ConfigMapGenerator[0].Files) != 1 || !strings.HasSuffix(k.ConfigMapGenerator[0].Files[0], "="+dashboardFile) ||
		!k.ConfigMapGenerator[0].Options.DisableNameSuffixHash || k.Namespace != namespace {
		t.Errorf("ConfigMaps %+v in %s", k.ConfigMapGenerator, k.Namespace)
	}
	for variant, dirs := range variants() {
		for _, file := range resources(t, dirs[len(dirs)-1]) {
			if strings.HasPrefix(file, monitoring) {
				t.Errorf("%s needs the Prometheus Operator", variant)
			}
		}
	}
}

func TestTheMonitorScrapesEveryContainerOfBothVariants(t *testing.T) {
	t.Parallel()
	m := decoded[podMonitor](t, "pod-monitor.yaml")
	if m.APIVersion != "monitoring.coreos.com/v1" || m.Kind != "PodMonitor" || m.Namespace != namespace {
		t.Errorf("it is a %s of %s in %s", m.Kind, m.APIVersion, m.Namespace)
	}
	want, got := map[string]bool{}, map[string]bool{}
	for variant := range variants() {
		template := deployment(t, variant).Spec.Template
		selector, err := metav1.LabelSelectorAsSelector(&m.Spec.Selector)
		if err != nil || selector.Empty() || !selector.Matches(labels.Set(template.Labels)) {
			t.Errorf("%s: the selector is %v, %v", variant, selector, err)
		}
		if got := template.Labels[m.Spec.JobLabel]; got != job {
			t.Errorf("%s: the job is %q", variant, got)
		}
		for _, c := range template.Spec.Containers {
			for _, port := range c.Ports {
				want[port.Name] = true
			}
		}
	}
	for _, e := range m.Spec.Endpoints {
		got[e.Port] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ports (-containers +scraped):\n%s", diff)
	}
}

func TestEachAlertSaysWhatToDo(t *testing.T) {
	t.Parallel()
	command := regexp.MustCompile(`(kubectl -n (\S+|\{\{[^}]*\}\}) \w+|vchctl \w+)`)
	seen := map[string]bool{}
	for _, r := range alerts(t) {
		if !strings.HasPrefix(r.Alert, "VCH") || seen[r.Alert] {
			t.Errorf("%s: a name that is ours, once", r.Alert)
		}
		seen[r.Alert] = true
		if s := r.Labels["severity"]; s != "warning" && s != "critical" || len(r.Labels) != 1 || r.For == "" {
			t.Errorf("%s: labels %v, for %q", r.Alert, r.Labels, r.For)
		}
		if !strings.HasSuffix(r.Annotations["summary"], ".") || !command.MatchString(r.Annotations["description"]) || len(r.Annotations) != 2 {
			t.Errorf("%s: annotations %v", r.Alert, r.Annotations)
		}
		// What other installations in the cluster do is not ours to tell.
		if !strings.Contains(r.Expr, `job="`+job+`"`) {
			t.Errorf("%s is not for our job: %s", r.Alert, r.Expr)
		}
	}
}

func TestTheDashboardIsWhole(t *testing.T) {
	t.Parallel()
	panels, variables := dashboard(t)
	ids, taken := map[int]bool{}, map[[2]int]string{}
	for _, p := range panels {
		if p.Title == "" || ids[p.ID] {
			t.Errorf("panel %d %q: a title, and a number of its own", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && (p.Description == "" || p.Datasource["uid"] != "${datasource}" || len(p.Targets) == 0) {
			t.Errorf("%s: description %q, data source %v, %d queries", p.Title, p.Description, p.Datasource, len(p.Targets))
		}
		for x := range p.Position.W {
			for y := range p.Position.H {
				at := [2]int{p.Position.X + x, p.Position.Y + y}
				if taken[at] != "" || at[0] >= 24 {
					t.Fatalf("%s and %q are at the same place %v, or it is outside", p.Title, taken[at], at)
				}
				taken[at] = p.Title
			}
		}
	}
	if len(panels) < 20 || len(variables) != 2 {
		t.Errorf("%d panels, variables %v", len(panels), variables)
	}
}

// The page names alerts and metrics; what is not there any more must go from it.
func TestTheDocsListTheAlertsAndNameNoOthers(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "monitoring.md"))
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]bool{}, map[string]bool{}
	for _, r := range alerts(t) {
		want[r.Alert+" "+r.Labels["severity"]] = true
	}
	for _, row := range regexp.MustCompile("(?m)^\\| `(VCH\\w+)` \\| (\\w+) \\|").FindAllStringSubmatch(string(page), -1) {
		got[row[1]+" "+row[2]] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("alerts (-rules +docs):\n%s", diff)
	}
	yielded := yielded(t)
	for _, name := range regexp.MustCompile("`((?:mcm|go|process|grpc)_[a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		if _, known := yielded[name[1]]; !known {
			t.Errorf("the page names %s, which nothing yields; there are %v", name[1], slices.Sorted(maps.Keys(yielded)))
		}
	}
}

func TestNoProfilesAreServedByTheManifests(t *testing.T) {
	t.Parallel()
	for variant := range variants() {
		for _, c := range deployment(t, variant).Spec.Template.Spec.Containers {
			for _, arg := range c.Args {
				if strings.HasPrefix(arg, "--profiling") {
					t.Errorf("%s: %s has %s", variant, c.Name, arg)
				}
			}
		}
	}
}

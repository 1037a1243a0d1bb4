// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package manifests_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

const kustomizationFile = "kustomization.yml"

// kustomization is what the kustomizations of this project consist of. Decoding is
// strict, so a field that these tests do not understand is a fault.
type kustomization struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Resources  []string `json:"resources"`
	Images     []image  `json:"images"`
	Namespace  string   `json:"namespace"`
	// ConfigMapGenerator is used by monitoring.
	ConfigMapGenerator []struct {
		Name    string   `json:"name"`
		Files   []string `json:"files"`
		Options struct {
			DisableNameSuffixHash bool              `json:"disableNameSuffixHash"`
			Labels                map[string]string `json:"labels"`
		} `json:"options"`
	} `json:"configMapGenerator"`
}

type image struct {
	Name    string `json:"name"`
	NewName string `json:"newName"`
	NewTag  string `json:"newTag"`
}

func loadKustomization(t *testing.T, dir string) kustomization {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, dir, kustomizationFile))
	if err != nil {
		t.Fatal(err)
	}
	var k kustomization
	if err := yaml.UnmarshalStrict(content, &k); err != nil {
		t.Fatalf("%s: %v", dir, err)
	}
	if k.APIVersion != "kustomize.config.k8s.io/v1beta1" || k.Kind != "Kustomization" {
		t.Errorf("%s is a %s of %s", dir, k.Kind, k.APIVersion)
	}
	return k
}

// resources lists the files that a kustomization reads, by kustomize's rules: a
// file must lie below it, a directory must not hold it.
func resources(t *testing.T, dir string) []string {
	t.Helper()
	var all []string
	for _, resource := range loadKustomization(t, dir).Resources {
		name := filepath.Join(dir, resource)
		info, err := os.Stat(filepath.Join(root, name))
		switch back, relErr := filepath.Rel(name, dir); {
		case err != nil:
			t.Errorf("%s names %s: %v", dir, resource, err)
		case !info.IsDir() && strings.HasPrefix(resource, ".."):
			t.Errorf("%s names the file %s, which lies outside of it", dir, resource)
		case !info.IsDir():
			all = append(all, name)
		case relErr != nil || !strings.HasPrefix(back, ".."):
			t.Errorf("%s names the directory %s, which holds it", dir, resource)
		default:
			all = append(all, resources(t, name)...)
		}
	}
	return all
}

func TestEachVariantConsistsOfItsManifestsAndNoOthers(t *testing.T) {
	t.Parallel()
	for variant, dirs := range variants() {
		want, got := files(t, dirs...), resources(t, dirs[len(dirs)-1])
		slices.Sort(want)
		slices.Sort(got)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: files of kustomization.yml (-want +got):\n%s", variant, diff)
		}
	}
}

// Tests and test/stack take *.yaml for manifests, and leave kustomizations and samples out.
func TestEveryFileIsAManifestOfAVariantOrASample(t *testing.T) {
	t.Parallel()
	var known []string
	for _, dirs := range variants() {
		known = append(known, files(t, dirs...)...)
	}
	known = append(known, resources(t, monitoring)...)
	known = append(known, filepath.Join(monitoring, dashboardFile))
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == kustomizationFile {
			return err
		}
		name, err := filepath.Rel(root, path)
		isSample := filepath.Base(filepath.Dir(path)) == "samples" && filepath.Ext(path) == ".yaml"
		if err == nil && isSample == slices.Contains(known, name) {
			t.Errorf("%s: sample %t, manifest %t", name, isSample, !isSample)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"samples", driverSamples} {
		if _, err := os.Stat(filepath.Join(root, dir, kustomizationFile)); err == nil {
			t.Errorf("%s has a kustomization, so it could be applied as it is", dir)
		}
	}
}

func TestTheNameOfTheImageIsToBeSetInOnePlaceForEachVariant(t *testing.T) {
	t.Parallel()
	var before []image
	for variant, dirs := range variants() {
		images := loadKustomization(t, dirs[len(dirs)-1]).Images
		if len(images) != 1 {
			t.Fatalf("%s: images %v, want one", variant, images)
		}
		if before != nil && !slices.Equal(images, before) {
			t.Errorf("the variants differ in their images: %v and %v", before, images)
		}
		before = images
		for _, c := range deployment(t, variant).Spec.Template.Spec.Containers {
			name, tag, _ := strings.Cut(c.Image, ":")
			if ours := c.Name != manager; ours != (name == images[0].Name) || ours != (tag == images[0].NewTag) {
				t.Errorf("%s: the image of %s is %s", variant, c.Name, c.Image)
			}
		}
	}
	if got := loadKustomization(t, "base").Images; len(got) > 0 {
		t.Errorf("base sets images: %v", got)
	}
}

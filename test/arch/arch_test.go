// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package arch_test keeps the structure of the repository as docs/development.md
// draws it: which package may import which, who may use the large libraries, and
// what every source file has. A new package needs a line in layers first.
package arch_test

import (
	"maps"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/mcm-vch/machine-controller-manager-provider-vch"

// layers says which packages of this module a package and those below it may
// import. The longest key counts. "a" is a alone, "a/..." is a with all below it.
// Tests may import what they like of ours.
var layers = map[string][]string{
	// Leaves: no I/O, known to everybody.
	"pkg/errdefs":   {},
	"pkg/version":   {},
	"pkg/identity":  {"pkg/errdefs"},
	"pkg/api":       {"pkg/api/...", "pkg/errdefs", "pkg/identity", "pkg/volume"},
	"pkg/guestinfo": {"pkg/errdefs"},

	// Data of older versions: maps in, maps out.
	"pkg/migration":         {"pkg/errdefs", "pkg/guestinfo", "pkg/identity"},
	"pkg/migration/plugins": {"pkg/errdefs", "pkg/guestinfo", "pkg/identity", "pkg/migration"},

	// The contract between the driver and what makes machines.
	"pkg/spi":         {"pkg/api/...", "pkg/errdefs", "pkg/identity"},
	"pkg/spi/fake":    {"pkg/api/...", "pkg/errdefs", "pkg/identity", "pkg/spi", "pkg/version", "pkg/volume"},
	"pkg/spi/mock":    {"pkg/api/...", "pkg/errdefs", "pkg/spi"},
	"pkg/spi/traced":  {"pkg/api/...", "pkg/errdefs", "pkg/spi"},
	"pkg/spi/spitest": {"pkg/api/...", "pkg/errdefs", "pkg/identity", "pkg/spi", "pkg/volume"},

	// The contract of image stores, and what keeps to it.
	"pkg/image":           {"pkg/errdefs"},
	"pkg/image/imagetest": {"pkg/errdefs", "pkg/image", "pkg/image/vmdk"},
	"pkg/image/fake":      {"pkg/errdefs", "pkg/image"},
	"pkg/image/vsphere":   {"pkg/datastore", "pkg/errdefs", "pkg/image", "pkg/image/registry", "pkg/image/vmdk", "pkg/inventory", "pkg/vcenter", "pkg/vch", "pkg/version", "pkg/virtualdisk"},
	"pkg/image/disk":      {"pkg/errdefs", "pkg/image", "pkg/image/ext4", "pkg/image/registry", "pkg/image/rootfs", "pkg/image/vmdk"},
	"pkg/image/pull":      {"pkg/api/...", "pkg/errdefs", "pkg/image", "pkg/image/disk", "pkg/image/registry"},

	// The contract of volume stores, and what keeps to it.
	"pkg/volume":            {"pkg/errdefs", "pkg/guestinfo"},
	"pkg/volume/volumetest": {"pkg/errdefs", "pkg/guestinfo", "pkg/volume"},
	"pkg/volume/fake":       {"pkg/errdefs", "pkg/guestinfo", "pkg/volume"},
	"pkg/volume/vmdk":       {"pkg/datastore", "pkg/errdefs", "pkg/guestinfo", "pkg/image/ext4", "pkg/image/vmdk", "pkg/inventory", "pkg/vcenter", "pkg/vch", "pkg/virtualdisk", "pkg/volume"},
	"pkg/volume/nfs":        {"pkg/errdefs", "pkg/guestinfo", "pkg/inventory", "pkg/vcenter", "pkg/vch", "pkg/volume"},
	"pkg/volume/locations":  {"pkg/errdefs", "pkg/vcenter", "pkg/vch", "pkg/volume/..."},

	// From an image to a disk: readers in, writers out.
	"pkg/image/registry": {"pkg/errdefs"},
	"pkg/image/rootfs":   {"pkg/errdefs"},
	"pkg/image/ext4":     {"pkg/errdefs"},
	"pkg/image/vmdk":     {"pkg/errdefs"},

	// vSphere, from the session up to the machine.
	"pkg/vcenter":        {"pkg/api/...", "pkg/errdefs", "pkg/version"},
	"pkg/datastore":      {"pkg/errdefs", "pkg/vcenter"},
	"pkg/kvstore":        {"pkg/datastore", "pkg/errdefs", "pkg/migration"},
	"pkg/inventory":      {"pkg/errdefs", "pkg/guestinfo", "pkg/vcenter"},
	"pkg/virtualdisk":    {"pkg/datastore", "pkg/errdefs", "pkg/image/vmdk", "pkg/vcenter", "pkg/vch"},
	"pkg/vch":            {"pkg/api/...", "pkg/errdefs", "pkg/guestinfo", "pkg/identity", "pkg/migration/...", "pkg/vcenter"},
	"pkg/containercache": {"pkg/errdefs", "pkg/guestinfo", "pkg/identity", "pkg/vcenter", "pkg/vch"},
	"pkg/containervm":    {"pkg/api/...", "pkg/containercache", "pkg/errdefs", "pkg/guestinfo", "pkg/identity", "pkg/image", "pkg/migration", "pkg/vcenter", "pkg/vch", "pkg/version", "pkg/volume"},
	"pkg/spi/vsphere":    {"pkg/api/...", "pkg/containercache", "pkg/containervm", "pkg/errdefs", "pkg/guestinfo", "pkg/identity", "pkg/image/...", "pkg/migration/...", "pkg/spi", "pkg/vcenter", "pkg/vch", "pkg/version", "pkg/volume/..."},

	// What people and programs call.
	"pkg/metrics":               {"pkg/containercache", "pkg/image/pull", "pkg/vcenter"},
	"pkg/provider":              {"pkg/api/...", "pkg/errdefs", "pkg/identity", "pkg/spi", "pkg/version"},
	"pkg/provider/cmi":          {"pkg/api/...", "pkg/errdefs", "pkg/identity", "pkg/provider", "pkg/version"},
	"pkg/provider/providertest": {"pkg/api/...", "pkg/errdefs", "pkg/identity", "pkg/provider", "pkg/spi/..."},
	"pkg/cli":                   {"pkg/api/...", "pkg/containervm", "pkg/datastore", "pkg/errdefs", "pkg/guestinfo", "pkg/identity", "pkg/image/...", "pkg/kvstore/...", "pkg/migration/...", "pkg/spi/...", "pkg/vcenter", "pkg/vch", "pkg/version", "pkg/volume/..."},

	// Programs put it together; only the simulator is a program made of test packages.
	"cmd":        {"pkg/...", "cmd/internal/..."},
	"cmd/vchsim": {"pkg/...", "test/images", "test/vchsim"},
	"hack":       {},
	"test":       {"pkg/...", "test/..."},
}

// fences says which packages may import a library, in tests too.
var fences = map[string][]string{
	"github.com/vmware/govmomi":                      {"pkg/vcenter", "pkg/datastore", "pkg/inventory", "pkg/virtualdisk", "pkg/vch", "pkg/containercache", "pkg/containervm", "pkg/image/vsphere", "pkg/volume/vmdk", "pkg/volume/nfs", "pkg/spi/vsphere", "pkg/cli", "cmd/vchsim", "test"},
	"github.com/gardener/machine-controller-manager": {"pkg/provider", "cmd", "test"},
	"google.golang.org/grpc":                         {"pkg/api/cmi", "pkg/provider/cmi", "cmd", "test"},
	"github.com/grpc-ecosystem":                      {"pkg/provider/cmi", "cmd"},
	"github.com/google/go-containerregistry":         {"pkg/image/registry", "test"},
	"github.com/willscott/go-nfs-client":             {"test"},
	"github.com/willscott/go-nfs":                    {"test"},
	"github.com/go-git/go-billy":                     {"test"},
	"github.com/spf13/cobra":                         {"pkg/cli", "cmd"},
	"github.com/vbauerster/mpb":                      {"pkg/cli"},
	"go.opentelemetry.io/otel":                       {"pkg/vcenter", "pkg/spi/traced", "cmd", "test"},
	"go.opentelemetry.io/otel/exporters":             {"cmd"},
	"github.com/wcharczuk/go-chart":                  {"test"},
	"github.com/onsi/ginkgo":                         {"pkg/provider", "test"},
	"github.com/onsi/gomega":                         {"pkg/provider", "test"},
	"github.com/pkg/errors":                          {},
	"github.com/golang/mock":                         {},
	"k8s.io/kubernetes":                              {},
}

func TestImportsPointDown(t *testing.T) {
	checked := 0
	for _, file := range goFiles(t) {
		for _, imported := range file.imports(t) {
			checked++
			if why := forbidden(path.Dir(file.name), imported, file.isTest()); why != "" {
				t.Errorf("%s imports %s: %s", file.name, imported, why)
			}
		}
	}
	if checked < 100 {
		t.Errorf("only %d imports were looked at: this test looks in the wrong place", checked)
	}
}

// forbidden says why a package may not import another one, or nothing.
func forbidden(dir, imported string, isTest bool) string {
	for library, inside := range fences {
		if within(imported, library) && !slices.ContainsFunc(inside, func(p string) bool { return within(dir, p) }) {
			return "that is only for [" + strings.Join(inside, ", ") + "]"
		}
	}
	ours, ok := strings.CutPrefix(imported, module+"/")
	if !ok || isTest {
		return ""
	}
	layer := layerOf(dir)
	if layer == "" {
		return dir + " has no line in the table of layers"
	}
	for _, may := range layers[layer] {
		tree, all := strings.CutSuffix(may, "/...")
		if ours == may || all && within(ours, tree) {
			return ""
		}
	}
	return layer + " may import " + strings.Join(append([]string{"of ours only"}, layers[layer]...), " ")
}

// layerOf is the key of layers that counts for a directory.
func layerOf(dir string) string {
	keys := slices.Collect(maps.Keys(layers))
	keys = slices.DeleteFunc(keys, func(k string) bool { return !within(dir, k) })
	return slices.MaxFunc(append(keys, ""), func(a, b string) int { return len(a) - len(b) })
}

// within reports whether p is tree or lies below it.
func within(p, tree string) bool { return p == tree || strings.HasPrefix(p, tree+"/") }

func TestTheTablesSayWhatTheyShould(t *testing.T) {
	for what, tc := range map[string]struct {
		dir, imports string
		isTest       bool
		may          bool
	}{
		"the driver uses the contract":            {dir: "pkg/provider", imports: module + "/pkg/spi", may: true},
		"the driver sees no backend":              {dir: "pkg/provider", imports: module + "/pkg/spi/vsphere"},
		"its tests may use the fake":              {dir: "pkg/provider", imports: module + "/pkg/spi/fake", isTest: true, may: true},
		"the driver sees no vSphere":              {dir: "pkg/provider", imports: "github.com/vmware/govmomi/object"},
		"its tests neither":                       {dir: "pkg/provider", imports: "github.com/vmware/govmomi/object", isTest: true},
		"the contract knows no implementation":    {dir: "pkg/spi", imports: module + "/pkg/spi/vsphere"},
		"the contract knows no MCM":               {dir: "pkg/spi", imports: "github.com/gardener/machine-controller-manager/pkg/util/provider/driver"},
		"sessions know no VCH":                    {dir: "pkg/vcenter", imports: module + "/pkg/vch"},
		"machines are built on the VCH":           {dir: "pkg/containervm", imports: module + "/pkg/vch", may: true},
		"the backend uses govmomi":                {dir: "pkg/spi/vsphere", imports: "github.com/vmware/govmomi/vim25/types", may: true},
		"encoding is pure":                        {dir: "pkg/guestinfo", imports: module + "/pkg/vcenter"},
		"migrations are pure":                     {dir: "pkg/migration", imports: "github.com/vmware/govmomi/vim25/types"},
		"and know nothing of VMs":                 {dir: "pkg/migration/plugins", imports: module + "/pkg/vcenter"},
		"API types import nothing above them":     {dir: "pkg/api/v1alpha1", imports: module + "/pkg/spi"},
		"nothing that ships is made of tests":     {dir: "pkg/cli", imports: module + "/test/vchsim"},
		"but the simulator is":                    {dir: "cmd/vchsim", imports: module + "/test/vchsim", may: true},
		"and no other program":                    {dir: "cmd/vchctl", imports: module + "/test/vchsim"},
		"gRPC is for the CMI":                     {dir: "pkg/provider", imports: "google.golang.org/grpc/status"},
		"and there it may be":                     {dir: "pkg/provider/cmi", imports: "google.golang.org/grpc/status", may: true},
		"the CMI is no part of the driver":        {dir: "pkg/provider", imports: module + "/pkg/provider/cmi"},
		"the CMI sees no backend":                 {dir: "pkg/provider/cmi", imports: module + "/pkg/spi/vsphere"},
		"a new package needs a layer":             {dir: "pkg/brandnew", imports: module + "/pkg/errdefs"},
		"a prefix ends at a slash":                {dir: "pkg/spi", imports: module + "/pkg/apis"},
		"cobra is for commands":                   {dir: "pkg/spi/vsphere", imports: "github.com/spf13/cobra"},
		"retired libraries are for nobody":        {dir: "test/e2e", imports: "github.com/pkg/errors", isTest: true},
		"the standard library is for all of them": {dir: "pkg/errdefs", imports: "context", may: true},
	} {
		if why := forbidden(tc.dir, tc.imports, tc.isTest); (why == "") != tc.may {
			t.Errorf("%s: %s importing %s is answered %q", what, tc.dir, tc.imports, why)
		}
	}
}

// A line for a package that is gone would go unnoticed and mislead.
func TestEveryLayerExists(t *testing.T) {
	dirs := map[string]bool{}
	for _, file := range goFiles(t) {
		for dir := path.Dir(file.name); dir != "."; dir = path.Dir(dir) {
			dirs[dir] = true
		}
	}
	for layer := range layers {
		if !dirs[layer] {
			t.Errorf("there is no package in %s", layer)
		}
	}
}

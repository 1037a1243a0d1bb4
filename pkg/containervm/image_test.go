// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm_test

import (
	"flag"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/types"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vch"
)

var update = flag.Bool("update", false, "rewrite golden files")

const diskPath = "[datastore1] vch-1/mcm-images/disks/0123-8192/up/disk.vmdk"

// imageRequest is request with an image that says everything, and a spec that says nothing of it.
func imageRequest(t testing.TB) containervm.Request {
	t.Helper()
	r := request(t)
	s := r.Spec
	s.RootDisk, s.Command, s.Env, s.WorkingDir, s.StopSignal = nil, nil, nil, "", ""
	s.Image = "registry.example.com/k3s:v1.34"
	v1alpha1.SetDefaults(s)
	r.Image = &image.Disk{
		Key:  image.Key{Digest: "sha256:" + strings.Repeat("0123", 16), Size: s.RootDiskBytes()},
		Path: diskPath,
		Description: image.Description{
			ConfigDigest: "sha256:" + strings.Repeat("4567", 16),
			Config: image.Config{
				Entrypoint: []string{"/bin/k3s", "--debug"}, Cmd: []string{"agent", "<<MACHINE_NAME>>"},
				Env:        []string{"PATH=/bin:/bin/aux", "CRI_CONFIG_FILE=/var/lib/crictl.yaml", "WHO=<<MACHINE_NAME>>"},
				WorkingDir: "var/lib/../lib/rancher", User: "k3s:daemon", StopSignal: "SIGQUIT", Volumes: []string{"/var/lib/kubelet"},
			},
		},
	}
	return r
}

func planned(t *testing.T, r containervm.Request) (*types.VirtualMachineConfigSpec, *guestinfo.ExecutorConfig) {
	t.Helper()
	spec, err := containervm.Plan(r)
	if err != nil {
		t.Fatal(err)
	}
	cfg, err := guestinfo.DecodeExecutor(guestinfo.FromOptionValues(vch.Keys(spec.ExtraConfig)))
	if err != nil {
		t.Fatal(err)
	}
	return spec, cfg
}

// rootOf returns the root disk and the file that it is a child of.
func rootOf(t *testing.T, spec *types.VirtualMachineConfigSpec) (disk *types.VirtualDisk, parent string) {
	t.Helper()
	for _, c := range spec.DeviceChange {
		if d, ok := c.GetVirtualDeviceConfigSpec().Device.(*types.VirtualDisk); ok {
			b, _ := d.Backing.(*types.VirtualDiskFlatVer2BackingInfo)
			return d, b.Parent.FileName
		}
	}
	t.Fatal("the plan has no disk")
	return nil, ""
}

func TestThePlanWithAnImage(t *testing.T) {
	t.Parallel()
	spec, _ := planned(t, imageRequest(t))
	disk, parent := rootOf(t, spec)
	if disk.CapacityInKB != 0 || disk.CapacityInBytes != 0 {
		t.Errorf("capacity %d KB, %d bytes: a child inherits it", disk.CapacityInKB, disk.CapacityInBytes)
	}
	var text strings.Builder
	text.WriteString("parent = " + parent + "\n")
	keys := vch.Keys(spec.ExtraConfig)
	for _, k := range slices.Sorted(maps.Keys(keys)) {
		if !strings.HasPrefix(k, "guestinfo.userdata") && !strings.HasPrefix(k, "guestinfo.metadata") { // compressed
			text.WriteString(k + " = " + keys[k] + "\n")
		}
	}
	const golden = "testdata/plan-image.txt"
	if *update {
		if err := os.WriteFile(golden, []byte(text.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), text.String()); diff != "" {
		t.Errorf("plan (-%s +got):\n%s", golden, diff)
	}
}

func TestAVCHThatAdoptsTheVMSeesTheImage(t *testing.T) {
	t.Parallel()
	_, cfg := planned(t, imageRequest(t))
	if cfg.LayerID != strings.Repeat("0123", 16) || cfg.ImageID != strings.Repeat("4567", 16) || cfg.RepoName != "registry.example.com/k3s:v1.34" {
		t.Errorf("layerid %q, imageid %q, repo %q", cfg.LayerID, cfg.ImageID, cfg.RepoName)
	}
	for given, want := range map[string]string{
		"k3s@sha256:abc":                    "k3s@sha256:abc",
		"user:PLANTED@registry/k3s":         "registry/k3s",
		"https://user:PLANTED@registry/k3s": "registry/k3s",
	} {
		r := imageRequest(t)
		r.Spec.Image = given
		if _, cfg := planned(t, r); cfg.RepoName != want {
			t.Errorf("repo of %s is %q, want %q", given, cfg.RepoName, want)
		}
	}
	if _, cfg := planned(t, request(t)); cfg.LayerID+cfg.ImageID+cfg.RepoName != "" {
		t.Errorf("without an image: layerid %q, imageid %q, repo %q", cfg.LayerID, cfg.ImageID, cfg.RepoName)
	}
}

// session is what the cases below look at.
type session struct {
	Args, Env                []string
	Dir, User, Group, Signal string
}

func TestTheImageSaysWhatTheSpecLeavesOpen(t *testing.T) {
	t.Parallel()
	type change = func(*v1alpha1.ProviderSpec, *image.Config)
	for name, tc := range map[string]struct {
		change change
		want   func(*session)
	}{
		"everything": {func(*v1alpha1.ProviderSpec, *image.Config) {}, func(*session) {}},
		"a command takes the image's arguments away": {
			func(s *v1alpha1.ProviderSpec, _ *image.Config) { s.Command = []string{"/x", "<<MACHINE_NAME>>"} },
			func(w *session) { w.Args = []string{"/x", "shoot-worker-0"} },
		},
		"args replace the image's": {
			func(s *v1alpha1.ProviderSpec, _ *image.Config) { s.Args = []string{"<<MACHINE_NAME>>"} },
			func(w *session) { w.Args = []string{"/bin/k3s", "--debug", "shoot-worker-0"} },
		},
		"command and args": {
			func(s *v1alpha1.ProviderSpec, _ *image.Config) { s.Command, s.Args = []string{"/x"}, []string{"y"} },
			func(w *session) { w.Args = []string{"/x", "y"} },
		},
		"an image without entry point": {
			func(_ *v1alpha1.ProviderSpec, c *image.Config) { c.Entrypoint = nil },
			func(w *session) { w.Args = []string{"agent", "<<MACHINE_NAME>>"} },
		},
		"an image without arguments": {
			func(_ *v1alpha1.ProviderSpec, c *image.Config) { c.Cmd = nil },
			func(w *session) { w.Args = []string{"/bin/k3s", "--debug"} },
		},
		"a command saves an image whose own cannot be carried": {
			func(s *v1alpha1.ProviderSpec, c *image.Config) { s.Command, c.Cmd = []string{"/x"}, []string{"a|b"} },
			func(w *session) { w.Args = []string{"/x"} },
		},
		"env replaces by name": {
			func(s *v1alpha1.ProviderSpec, c *image.Config) {
				s.Env = []v1alpha1.EnvVar{{Name: "WHO", Value: ptr.To("<<MACHINE_NAME>>")}, {Name: "NEW", Value: ptr.To("1")}, {Name: "BAD", Value: ptr.To("")}}
				c.Env = append(c.Env, "BAD=a|b", "PATH=/last")
			},
			func(w *session) {
				w.Env = []string{"PATH=/last", "CRI_CONFIG_FILE=/var/lib/crictl.yaml", "WHO=shoot-worker-0", "NEW=1", "BAD="}
			},
		},
		"nobody says PATH": {
			func(_ *v1alpha1.ProviderSpec, c *image.Config) { c.Env = []string{"A=b=c"} },
			func(w *session) {
				w.Env = []string{"A=b=c", "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
			},
		},
		"a working directory": {
			func(s *v1alpha1.ProviderSpec, _ *image.Config) { s.WorkingDir = "/x" },
			func(w *session) { w.Dir = "/x" },
		},
		"an image without directory": {
			func(_ *v1alpha1.ProviderSpec, c *image.Config) { c.WorkingDir = "" },
			func(w *session) { w.Dir = "/" },
		},
		"a directory above the root": {
			func(_ *v1alpha1.ProviderSpec, c *image.Config) { c.WorkingDir = "../../x" },
			func(w *session) { w.Dir = "/x" },
		},
		"a user takes the image's group away": {
			func(s *v1alpha1.ProviderSpec, _ *image.Config) { s.User = "root" },
			func(w *session) { w.User, w.Group = "root", "" },
		},
		"a group": {
			func(s *v1alpha1.ProviderSpec, _ *image.Config) { s.Group = "wheel" },
			func(w *session) { w.Group = "wheel" },
		},
		"an image with a uid": {
			func(_ *v1alpha1.ProviderSpec, c *image.Config) { c.User = "1000" },
			func(w *session) { w.User, w.Group = "1000", "" },
		},
		"an image with numbers": {
			func(_ *v1alpha1.ProviderSpec, c *image.Config) { c.User = "1000:2000" },
			func(w *session) { w.User, w.Group = "1000", "2000" },
		},
		"an image without user": {
			func(_ *v1alpha1.ProviderSpec, c *image.Config) { c.User = "" },
			func(w *session) { w.User, w.Group = "", "" },
		},
		"a signal": {
			func(s *v1alpha1.ProviderSpec, c *image.Config) { s.StopSignal, c.StopSignal = "sigint", "SIGRTMIN+3" },
			func(w *session) { w.Signal = "SIGINT" },
		},
		"an image's signal without SIG": {
			func(_ *v1alpha1.ProviderSpec, c *image.Config) { c.StopSignal = "usr1" },
			func(w *session) { w.Signal = "SIGUSR1" },
		},
		"an image's signal by number": {
			func(_ *v1alpha1.ProviderSpec, c *image.Config) { c.StopSignal = "12" },
			func(w *session) { w.Signal = "SIGUSR2" },
		},
		"an image without signal": {
			func(_ *v1alpha1.ProviderSpec, c *image.Config) { c.StopSignal = "" },
			func(w *session) { w.Signal = "SIGTERM" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := imageRequest(t)
			tc.change(r.Spec, &r.Image.Config)
			want := session{
				Args: []string{"/bin/k3s", "--debug", "agent", "<<MACHINE_NAME>>"}, // an image's placeholders are text
				Env:  []string{"PATH=/bin:/bin/aux", "CRI_CONFIG_FILE=/var/lib/crictl.yaml", "WHO=<<MACHINE_NAME>>"},
				Dir:  "/var/lib/rancher", User: "k3s", Group: "daemon", Signal: "SIGQUIT",
			}
			tc.want(&want)
			_, cfg := planned(t, r)
			s := cfg.Sessions[vectorID]
			if diff := cmp.Diff(want, session{s.Cmd.Args, s.Cmd.Env, s.Cmd.Dir, s.User, s.Group, s.StopSignal}); diff != "" {
				t.Errorf("session (-want +got):\n%s", diff)
			}
			if s.Cmd.Path != want.Args[0] {
				t.Errorf("path %q", s.Cmd.Path)
			}
		})
	}
}

func TestExecGoesBeforeTheImagesCommand(t *testing.T) {
	t.Parallel()
	r := imageRequest(t)
	r.Spec.UserData = &v1alpha1.UserData{Exec: ptr.To(true)}
	r.Image.Config.Cmd = []string{"a|b"} // is not used, so it is not judged
	_, cfg := planned(t, r)
	cmd := cfg.Sessions[vectorID].Cmd
	if cmd.Path != "/bin/sh" || len(cmd.Env) != 4 || !strings.HasPrefix(cmd.Env[3], "MCM_VCH_USERDATA=") || cmd.Env[0] != "PATH=/bin:/bin/aux" {
		t.Errorf("command %q in %q", cmd.Args, cmd.Env)
	}
}

func TestFaultsOfImagesNameImageAndField(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		change func(*containervm.Request)
		want   string
		kind   errdefs.Kind
	}{
		"nothing to run":               {func(r *containervm.Request) { r.Image.Config.Entrypoint, r.Image.Config.Cmd = nil, nil }, "command: image registry.example.com/k3s:v1.34", errdefs.InvalidArgument},
		"an empty word to run":         {func(r *containervm.Request) { r.Image.Config.Entrypoint = []string{""} }, "command: image", errdefs.InvalidArgument},
		"a pipe in the entry point":    {func(r *containervm.Request) { r.Image.Config.Entrypoint[1] = "PLANTED|" }, "command: image", errdefs.InvalidArgument},
		"a pipe under the spec's args": {func(r *containervm.Request) { r.Spec.Args, r.Image.Config.Entrypoint[1] = []string{"x"}, "PLANTED|" }, "command: image", errdefs.InvalidArgument},
		"a NUL in an argument":         {func(r *containervm.Request) { r.Image.Config.Cmd[0] = "PLANTED\x00" }, "command: image", errdefs.InvalidArgument},
		"a variable without value":     {func(r *containervm.Request) { r.Image.Config.Env[1] = "TOKEN" }, `k3s:v1.34: its variable "TOKEN" has no '='`, errdefs.InvalidArgument},
		"a value with a pipe":          {func(r *containervm.Request) { r.Image.Config.Env[1] = "TOKEN=PLANTED|" }, `k3s:v1.34: its variable "TOKEN" has a value that must not contain '|'`, errdefs.InvalidArgument},
		"a value not UTF-8":            {func(r *containervm.Request) { r.Image.Config.Env[1] = "TOKEN=PLANTED\xff" }, `"TOKEN" has a value that must be UTF-8`, errdefs.InvalidArgument},
		"a name with a pipe":           {func(r *containervm.Request) { r.Image.Config.Env[1] = "A|B=PLANTED" }, `"A|B" has a name`, errdefs.InvalidArgument},
		"no name":                      {func(r *containervm.Request) { r.Image.Config.Env[1] = "=PLANTED" }, `variable "" has a name`, errdefs.InvalidArgument},
		"our variable":                 {func(r *containervm.Request) { r.Image.Config.Env[1] = "MCM_VCH_USERDATA=PLANTED" }, "userData.exec", errdefs.InvalidArgument},
		"much environment":             {func(r *containervm.Request) { r.Image.Config.Env[1] = "A=" + strings.Repeat("PLANTED", 10000) }, "env: the variables of image", errdefs.InvalidArgument},
		"a directory of two lines":     {func(r *containervm.Request) { r.Image.Config.WorkingDir = "/a|b" }, "workingDir: that of image", errdefs.InvalidArgument},
		"a user of three":              {func(r *containervm.Request) { r.Image.Config.User = "a:b:c" }, "user: that of image", errdefs.InvalidArgument},
		"a signal that VIC lacks":      {func(r *containervm.Request) { r.Image.Config.StopSignal = "SIGRTMIN+3" }, `asks for "SIGRTMIN+3", which VIC's guest cannot send; set stopSignal in the provider spec`, errdefs.InvalidArgument},
		"a number that VIC lacks":      {func(r *containervm.Request) { r.Image.Config.StopSignal = "37" }, `stopSignal: image registry.example.com/k3s:v1.34 asks for "37"`, errdefs.InvalidArgument},
		"no disk yet":                  {func(r *containervm.Request) { r.Image = nil }, "has no disk yet", errdefs.Internal},
		"no root disk at all":          {func(r *containervm.Request) { r.Image, r.Spec.Image = nil, "" }, "rootDisk: image or rootDisk.vmdk", errdefs.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := imageRequest(t)
			tc.change(&r)
			_, err := containervm.Plan(r)
			if errdefs.KindOf(err) != tc.kind || err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error = %v (%s), want %s with %s", err, errdefs.KindOf(err), tc.kind, tc.want)
			}
			if strings.Contains(err.Error(), "PLANTED") {
				t.Errorf("the value is in the error: %v", err)
			}
		})
	}
}

func TestTheDigestOfTheSpecIsOfWhatShapesTheVM(t *testing.T) {
	t.Parallel()
	digest := func(change func(*v1alpha1.ProviderSpec)) string {
		s := imageRequest(t).Spec
		change(s)
		d, err := containervm.SpecDigest(s)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	before := digest(func(*v1alpha1.ProviderSpec) {})
	for name, change := range map[string]func(*v1alpha1.ProviderSpec){
		"the pull policy": func(s *v1alpha1.ProviderSpec) { s.ImagePullPolicy = v1alpha1.PullAlways },
		"registries":      func(s *v1alpha1.ProviderSpec) { s.Registries = &v1alpha1.Registries{Insecure: []string{"a"}} },
	} {
		if digest(change) != before {
			t.Errorf("%s changes the digest: a machine that is being made would have to be made anew", name)
		}
	}
	for name, change := range map[string]func(*v1alpha1.ProviderSpec){
		"the image": func(s *v1alpha1.ProviderSpec) { s.Image = "other" },
		"the size":  func(s *v1alpha1.ProviderSpec) { s.RootDisk.Size.Add(*s.RootDisk.Size) },
	} {
		if digest(change) == before {
			t.Errorf("%s does not change the digest", name)
		}
	}
	if plain, err := containervm.SpecDigest(request(t).Spec); err != nil || plain != "0ce573d033eb749b" {
		t.Errorf("digest of a spec with rootDisk.vmdk = %s, %v: machines of the release before would count as made from another", plain, err)
	}
}

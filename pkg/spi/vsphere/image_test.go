// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/pull"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/vsphere"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/images"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

// withImage is a world whose machines are of the registry's node image.
func withImage(o vchsim.Options) vchsim.Options {
	o.NoForeign, o.Registry = true, &images.Options{}
	return o
}

func TestAnImageCostsOneLookupAndThenNothing(t *testing.T) {
	t.Parallel()
	w := newSite(t, withImage(vchsim.Options{}))
	prepared := w.Sim.ProviderSpec()
	v1alpha1.SetDefaults(prepared)
	s := w.Backend(vcenter.Options{})
	cost := func(machine string, spec *v1alpha1.ProviderSpec) (total, files int) {
		w.Sim.ResetCounters()
		if _, err := s.CreateMachine(t.Context(), machine, spec, w.Secret()); err != nil {
			t.Fatal(err)
		}
		calls := w.Sim.Calls()
		return w.Sim.Requests() - calls["WaitForUpdatesEx"], calls["GET /folder"] // a task takes one poll or two
	}
	cost("machine-0", prepared) // logs in
	before := len(w.Sim.Registry().Log())
	plain, _ := cost("machine-1", prepared)
	first, lookups := cost("machine-2", w.Spec())
	second, none := cost("machine-3", w.Spec())
	if first != plain+1 || lookups != 1 {
		t.Errorf("the first machine of an image took %d requests, %d of them for files; one of a prepared disk takes %d", first, lookups, plain)
	}
	if second != plain || none != 0 {
		t.Errorf("the second machine of an image took %d requests, %d of them for files; one of a prepared disk takes %d", second, none, plain)
	}
	if asked := w.Sim.Registry().Log()[before:]; len(asked) > 0 {
		t.Errorf("the registry was asked although the image is there: %v", asked)
	}
}

func TestAMachineOfAnImageNeedsNoRegistryOnceItExists(t *testing.T) {
	t.Parallel()
	w := newSite(t, withImage(vchsim.Options{}))
	w.start("machine-1")
	w.Sim.Registry().Close()
	s := w.Backend(vcenter.Options{}) // that knows nothing yet
	spec := w.Spec()
	spec.ImagePullPolicy = v1alpha1.PullAlways // not even then
	if _, err := s.CreateMachine(t.Context(), "machine-1", spec, w.Secret()); err != nil {
		t.Errorf("create once more: %v", err)
	}
	if _, _, err := s.GetMachineStatus(t.Context(), "machine-1", "", spec, w.Secret()); err != nil {
		t.Errorf("status: %v", err)
	}
	if _, err := s.DeleteMachine(t.Context(), "machine-1", "", spec, w.Secret()); err != nil {
		t.Errorf("delete: %v", err)
	}
	if _, err := s.CreateMachine(t.Context(), "machine-2", spec, w.Secret()); !errdefs.Is(err, errdefs.Unavailable) {
		t.Errorf("create a new one with %s, without the registry: %v", spec.ImagePullPolicy, err)
	}
	if _, err := s.CreateMachine(t.Context(), "machine-2", w.Spec(), w.Secret()); err != nil {
		t.Errorf("create a new one of the image that is there, without the registry: %v", err)
	}
}

func TestAnImageThatIsUnderWaySaysHowFarItIs(t *testing.T) {
	t.Parallel()
	w := newSite(t, withImage(vchsim.Options{}))
	release := w.Sim.Registry().Inject(images.Fault{Match: images.Blob(""), Effect: images.Stall, At: 1})
	defer release()
	puller := pull.New(pull.Options{Dir: t.TempDir(), Wait: time.Millisecond})
	pool := w.Pool()
	s := vsphere.New(vsphere.Options{Pool: pool, HostKey: world.HostKey, Images: puller})
	spec := w.Spec()
	size := resource.MustParse("128Mi")
	spec.RootDisk.Size = &size // which nobody has asked for before
	_, err := s.CreateMachine(t.Context(), "machine-1", spec, w.Secret())
	if !errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), "image "+spec.Image+": ") {
		t.Errorf("create = %v", err)
	}
	release()
	for err != nil {
		if _, err = s.CreateMachine(t.Context(), "machine-1", spec, w.Secret()); err != nil && !errdefs.Is(err, errdefs.Unavailable) {
			t.Fatal(err)
		}
	}
	if err := puller.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// imageFiles are the disks below the image store, as files of this machine.
func (w site) imageFiles() []string {
	w.Helper()
	files, err := filepath.Glob(filepath.Join(w.Sim.Dir(), "datastores", vchsim.Datastore, w.Sim.VCHName, "mcm-images", "disks", "*", "disk*.vmdk"))
	if err != nil || len(files) != 2 {
		w.Fatalf("files of the image's disk: %v, %v", files, err)
	}
	return files
}

func TestAnImageDiskThatSomebodyDeletedIsMadeAgain(t *testing.T) {
	t.Parallel()
	w := newSite(t, withImage(vchsim.Options{}))
	s := w.Backend(vcenter.Options{})
	if _, err := s.CreateMachine(t.Context(), "machine-1", w.Spec(), w.Secret()); err != nil { // and knows the disk now
		t.Fatal(err)
	}
	for _, file := range w.imageFiles() {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	_, err := s.CreateMachine(t.Context(), "machine-2", w.Spec(), w.Secret())
	if !errdefs.Is(err, errdefs.Unavailable) || !strings.Contains(err.Error(), "will be made again") {
		t.Errorf("create without the disk = %v", err)
	}
	if _, err := s.CreateMachine(t.Context(), "machine-2", w.Spec(), w.Secret()); err != nil {
		t.Errorf("create after that = %v", err)
	}
}

func TestAMissingISOIsNotBlamedOnTheImage(t *testing.T) {
	t.Parallel()
	w := newSite(t, withImage(vchsim.Options{}))
	if err := w.Sim.SetFault(vchsim.FaultRule{Method: "CreateVM_Task", Kind: "task:FileNotFound", Count: 1}); err != nil {
		t.Fatal(err)
	}
	_, err := w.SPI().CreateMachine(t.Context(), "machine-1", w.Spec(), w.Secret())
	if !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), w.Host.BootstrapISO) {
		t.Errorf("create = %v", err)
	}
	w.imageFiles()
}

func TestTheListsOfTheVCHCountForImagesThatAreThereToo(t *testing.T) {
	t.Parallel()
	w := newSite(t, withImage(vchsim.Options{}))
	w.start("machine-1")
	strict := newSite(t, vchsim.Options{NoForeign: true, Registries: vchsim.RegistryOptions{Whitelist: []string{"registry.example.org"}}})
	spec := strict.Spec()
	spec.RootDisk, spec.Command, spec.Image = nil, nil, "other.example.org/node:v1"
	v1alpha1.SetDefaults(spec)
	for _, policy := range []v1alpha1.PullPolicy{v1alpha1.PullIfNotPresent, v1alpha1.PullNever, v1alpha1.PullAlways} {
		spec.ImagePullPolicy = policy
		if _, err := strict.SPI().CreateMachine(t.Context(), "machine-1", spec, strict.Secret()); !errdefs.Is(err, errdefs.PermissionDenied) {
			t.Errorf("create with %s of an image that the VCH does not allow = %v", policy, err)
		}
	}
}

func TestABackendWithoutImagesSaysSo(t *testing.T) {
	t.Parallel()
	w := newSite(t, withImage(vchsim.Options{}))
	s := vsphere.New(vsphere.Options{Pool: w.Pool(), HostKey: world.HostKey})
	if _, err := s.CreateMachine(t.Context(), "machine-1", w.Spec(), w.Secret()); !errdefs.Is(err, errdefs.Unimplemented) || !strings.Contains(err.Error(), "rootDisk.vmdk") {
		t.Errorf("create = %v", err)
	}
}

func TestAnAbsentImageThatMayNotBePulledSaysWhatToDo(t *testing.T) {
	t.Parallel()
	w := newSite(t, withImage(vchsim.Options{}))
	spec := w.Spec()
	size := resource.MustParse("1Gi")
	spec.RootDisk.Size, spec.ImagePullPolicy = &size, v1alpha1.PullNever
	_, err := w.SPI().CreateMachine(t.Context(), "machine-1", spec, w.Secret())
	if !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), "vchctl image pull") {
		t.Errorf("create = %v", err)
	}
}

func TestTheSecretOpensTheRegistryAndTheSpecTrustsIt(t *testing.T) {
	t.Parallel()
	// The world's own machine needs both.
	w := newSite(t, vchsim.Options{NoForeign: true, Registry: &images.Options{TLS: true, Username: "puller", Password: "planted-password", Token: true}})
	other := func(size string) *v1alpha1.ProviderSpec {
		spec := w.Spec()
		q := resource.MustParse(size) // of which there is no disk yet
		spec.RootDisk.Size = &q
		return spec
	}
	closed := w.Secret()
	delete(closed.Data, v1alpha1.SecretDockerConfig)
	if _, err := w.SPI().CreateMachine(t.Context(), "machine-1", other("1Gi"), closed); !errdefs.Is(err, errdefs.Unauthenticated) {
		t.Errorf("create without the Secret's credentials = %v", err)
	}
	distrusted := other("2Gi")
	distrusted.Registries = nil
	_, err := w.SPI().CreateMachine(t.Context(), "machine-2", distrusted, w.Secret())
	if !errdefs.Is(err, errdefs.FailedPrecondition) || !strings.Contains(err.Error(), "certificate") || strings.Contains(err.Error(), "planted") {
		t.Errorf("create without the registry's authority = %v", err)
	}
}

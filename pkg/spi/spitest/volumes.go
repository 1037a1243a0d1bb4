// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package spitest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// few is how many machines with volumes come at the same time: each costs a store
// dozens of steps.
const few = 6

// content is what a test writes to a volume that must not be lost.
const content = "what the guest wrote"

// volumes are the tests of machines that have volumes.
func volumes() map[string]func(*fixture) {
	return map[string]func(*fixture){
		"a named volume outlives its machine with what is on it":           namedVolume,
		"an anonymous volume goes with its machine":                        anonymousVolume,
		"the retain policy says which volumes stay":                        retainedVolumes,
		"each machine has its own volume of a name with {machine}":         machinesVolumes,
		"a volume that another machine has is FailedPrecondition":          heldVolume,
		"of many machines that want one volume one has it":                 wantedVolume,
		"many machines come and go with their volumes":                     manyVolumes,
		"creating a machine again changes no volume":                       volumesAgain,
		"deleting without a VM takes what a cut-off create made":           cutOffVolumes,
		"a machine whose deletion was cut off is made afresh":              cutOffDeletion,
		"a volume that is not the machine's is never deleted with it":      foreignVolumes,
		"an anonymous volume that is not the machine's is not joined":      strangeVolume,
		"a store that the VCH has not is FailedPrecondition":               absentStore,
		"a machine with volumes that was shut down keeps them and goes on": stoppedVolumes,
	}
}

func named(name, path string) v1alpha1.Volume { return v1alpha1.Volume{Name: name, MountPath: path} }

// anonymous is a volume that is cheap to make.
func anonymous(path string) v1alpha1.Volume {
	size := resource.MustParse("16Mi")
	return v1alpha1.Volume{MountPath: path, Capacity: &size}
}

func policy(v v1alpha1.Volume, p v1alpha1.RetainPolicy) v1alpha1.Volume {
	v.RetainPolicy = p
	return v
}

// anonymousName is the name that the anonymous volume of a machine has.
func (f *fixture) anonymousName(machine, path string) string {
	f.Helper()
	id, err := identity.ParseProviderID(f.providerID(machine))
	if err != nil {
		f.Fatal(err)
	}
	return volume.AnonymousName(id.BIOSUUID, path)
}

// labels are those of a volume that is made for a machine. An anonymous one that stays
// does not say that it is anonymous: whoever prunes would take it for rubbish.
func (f *fixture) labels(machine string, isAnonymous bool) map[string]string {
	f.Helper()
	cluster, _, err := identity.Tags(f.spec().Tags)
	if err != nil {
		f.Fatal(err)
	}
	labels := map[string]string{volume.LabelCluster: cluster, volume.LabelMachine: machine}
	if isAnonymous {
		labels[volume.LabelAnonymous] = "true"
	}
	return labels
}

// wantVolumes fails the test unless these and no others are there.
func (f *fixture) wantVolumes(when string, want map[string]Volume) {
	f.Helper()
	if diff := cmp.Diff(want, f.h.Volumes()); diff != "" {
		f.Fatalf("volumes %s (-want +got):\n%s", when, diff)
	}
}

func namedVolume(f *fixture) {
	f.volumes = []v1alpha1.Volume{named("data", "/data")}
	labels := f.labels("first", false)
	f.start("first")
	f.wantVolumes("of the first machine", map[string]Volume{"data": {Labels: labels, Holders: []string{"first"}}})
	f.h.WriteVolume("data", content)
	f.delete("first")
	f.wantAbsent("first")
	f.wantVolumes("without a machine", map[string]Volume{"data": {Labels: labels, Content: content}})
	f.start("second")
	f.wantVolumes("of the second machine", map[string]Volume{"data": {Labels: labels, Content: content, Holders: []string{"second"}}})
	f.delete("second")
	f.wantAbsent("second")
	f.wantVolumes("in the end", map[string]Volume{"data": {Labels: labels, Content: content}})
}

func anonymousVolume(f *fixture) {
	f.volumes = []v1alpha1.Volume{anonymous("/cache")}
	name := f.anonymousName("machine", "/cache")
	mine := map[string]Volume{name: {Labels: f.labels("machine", true), Holders: []string{"machine"}}}
	for range 2 { // the second life's is another, empty one of the same name
		f.start("machine")
		f.wantVolumes("of the machine", mine)
		f.h.WriteVolume(name, content)
		f.delete("machine")
		f.wantAbsent("machine")
		f.wantVolumes("without the machine", map[string]Volume{})
	}
}

func retainedVolumes(f *fixture) {
	f.volumes = []v1alpha1.Volume{
		policy(anonymous("/keep"), v1alpha1.RetainVolume),
		policy(named("gone-{machine}", "/gone"), v1alpha1.DeleteVolume),
		policy(named("kept-{machine}", "/kept"), v1alpha1.RetainVolume),
		named("default-{machine}", "/default"),
	}
	anonymousKept := f.anonymousName("m", "/keep")
	kept := map[string]Volume{
		anonymousKept: {Labels: f.labels("m", false), Content: content},
		"kept-m":      {Labels: f.labels("m", false)},
		"default-m":   {Labels: f.labels("m", false)},
	}
	f.start("m")
	f.h.WriteVolume(anonymousKept, content)
	f.delete("m")
	f.wantAbsent("m")
	f.wantVolumes("that are retained", kept)
	f.start("m") // meets them again
	f.delete("m")
	f.wantAbsent("m")
	f.wantVolumes("that are retained once more", kept)
}

func machinesVolumes(f *fixture) {
	f.volumes = []v1alpha1.Volume{named("logs-{machine}", "/logs")}
	f.start("a")
	f.start("b")
	f.h.WriteVolume("logs-a", content)
	want := map[string]Volume{
		"logs-a": {Labels: f.labels("a", false), Content: content, Holders: []string{"a"}},
		"logs-b": {Labels: f.labels("b", false), Holders: []string{"b"}},
	}
	f.wantVolumes("of two machines", want)
	f.delete("b")
	want["logs-b"] = Volume{Labels: f.labels("b", false)}
	f.wantVolumes("of the machine that is left", want)
	f.wantRunning("a")
}

func heldVolume(f *fixture) {
	f.volumes = []v1alpha1.Volume{anonymous("/cache"), named("data", "/data")}
	f.create("holder") // it need not run
	before := f.h.Volumes()
	for range 2 {
		err := f.operation("create").run(f.Context(), f, "waiting")
		f.wantError("create with a volume that another machine has", err, errdefs.FailedPrecondition)
		if err != nil && (!strings.Contains(err.Error(), "volumes[1]") || !strings.Contains(err.Error(), "holder") || !strings.Contains(err.Error(), "data")) {
			f.Errorf("error %q names not field, volume and holder", err)
		}
	}
	f.delete("waiting")
	f.wantAbsent("waiting")
	f.wantVolumes("of the holder", before)
	f.initialize("holder")
	f.delete("holder")
	f.start("waiting") // now it can have it
	if got := f.h.Volumes()["data"].Holders; !slices.Equal(got, []string{"waiting"}) {
		f.Errorf("the volume is had by %q, want the machine that waited", got)
	}
}

func wantedVolume(f *fixture) {
	f.volumes = []v1alpha1.Volume{named("data", "/data")}
	names := make([]string, few)
	f.some(few, func(i int, s spi.PluginSPI) {
		name := fmt.Sprintf("rival-%d", i)
		names[i] = name
		if _, err := s.CreateMachine(f.Context(), name, f.spec(), f.secret()); err != nil {
			f.wantError("create "+name, err, errdefs.FailedPrecondition, errdefs.Aborted)
			return
		}
		if _, _, err := s.InitializeMachine(f.Context(), name, "", f.spec(), f.secret()); err != nil {
			f.wantError("initialize "+name, err, errdefs.FailedPrecondition, errdefs.Aborted)
		}
	})
	running := 0
	for _, m := range f.h.Machines() {
		if m.Running {
			running++
		}
	}
	if running > 1 {
		f.Errorf("%d machines run with one volume", running)
	}
	for _, name := range names {
		f.delete(name)
		f.wantAbsent(name)
	}
	if got := f.h.Volumes(); len(got) != 1 || len(got["data"].Holders) > 0 {
		f.Errorf("volumes = %v, want the one, without a holder", got)
	}
}

func manyVolumes(f *fixture) {
	f.volumes = []v1alpha1.Volume{anonymous("/cache"), named("logs-{machine}", "/logs")}
	f.some(few, func(i int, s spi.PluginSPI) {
		name := fmt.Sprintf("many-%d", i)
		id, err := s.CreateMachine(f.Context(), name, f.spec(), f.secret())
		if err != nil {
			f.Errorf("create %s: %v", name, err)
			return
		}
		if _, err := s.DeleteMachine(f.Context(), name, id, f.spec(), f.secret()); err != nil {
			f.Errorf("delete %s: %v", name, err)
		}
	})
	want := map[string]Volume{}
	for i := range few {
		name := fmt.Sprintf("many-%d", i)
		want["logs-"+name] = Volume{Labels: f.labels(name, false)}
		f.wantAbsent(name)
	}
	f.wantVolumes("that stay", want)
}

func volumesAgain(f *fixture) {
	f.volumes = []v1alpha1.Volume{anonymous("/cache"), named("data", "/data")}
	f.create("m")
	f.h.WriteVolume("data", content)
	f.h.WriteVolume(f.anonymousName("m", "/cache"), content)
	before := f.h.Volumes()
	if len(before) != 2 {
		f.Fatalf("volumes = %v, want two", before)
	}
	for range 2 {
		f.create("m")
	}
	f.initialize("m")
	f.create("m")
	f.wantVolumes("after more creates", before)
	other := f.spec()
	other.Volumes = append(other.Volumes, named("more", "/more"))
	_, err := f.spi().CreateMachine(f.Context(), "m", other, f.secret())
	f.wantError("create from a spec with another volume", err, errdefs.AlreadyExists)
	f.wantVolumes("after a create from another spec", before)
}

// cutOffVolumes kills create at one step after the other until there are volumes and no VM.
func cutOffVolumes(f *fixture) {
	f.volumes = []v1alpha1.Volume{anonymous("/cache"), policy(named("gone-{machine}", "/gone"), v1alpha1.DeleteVolume), named("data", "/data")}
	for step := 1; step <= maxSteps; step++ {
		name := fmt.Sprintf("cut-%d", step)
		heal := f.h.Inject(Fault{Step: step, After: true, Kill: true, Kind: errdefs.Unavailable})
		err := f.operation("create").run(f.Context(), f, name)
		heal()
		if err == nil {
			f.Fatal("no cut-off create left volumes and no VM")
		}
		if len(f.machines(name)) == 0 && len(f.h.Volumes()) == 3 {
			f.delete(name)
			f.wantAbsent(name)
			want := map[string]Volume{"data": f.h.Volumes()["data"]}
			f.wantVolumes("that stay", want)
			return
		}
		f.delete(name)
	}
}

// cutOffDeletion kills delete at some of its steps, and creates the machine again.
func cutOffDeletion(f *fixture) {
	f.volumes = []v1alpha1.Volume{named("kept", "/data"), anonymous("/cache")}
	f.h.PlantVolume("kept", Volume{Content: content})
	const name = "m"
	cache := f.anonymousName(name, "/cache")
	for step := 1; step <= maxSteps; step += 3 {
		f.start(name)
		heal := f.h.Inject(Fault{Step: step, After: true, Kill: true, Kind: errdefs.Unavailable})
		err := f.operation("delete").run(f.Context(), f, name)
		struck := heal()
		if err != nil && !struck {
			f.Fatal(err)
		}
		if err := f.patiently(func() error { return f.operation("create").run(f.Context(), f, name) }); err != nil {
			f.Fatalf("create after delete was struck at step %d: %v", step, err)
		}
		f.initialize(name)
		f.wantRunning(name)
		f.wantVolumes(fmt.Sprintf("after delete was struck at step %d", step), map[string]Volume{
			"kept": {Content: content, Holders: []string{name}},
			cache:  {Labels: f.labels(name, true), Holders: []string{name}},
		})
		f.delete(name)
		f.wantAbsent(name)
		if !struck {
			return
		}
	}
	f.Fatal("delete did not make it through")
}

func foreignVolumes(f *fixture) {
	f.volumes = []v1alpha1.Volume{policy(named("own-{machine}", "/own"), v1alpha1.DeleteVolume), anonymous("/cache")}
	otherCluster := f.labels("b", false)
	otherCluster[volume.LabelCluster] = "another"
	planted := map[string]Volume{
		"own-a": {Content: content}, // as docker makes them
		"own-b": {Content: content, Labels: otherCluster},
		"own-c": {Content: content, Labels: f.labels("another", false)},
	}
	for name, v := range planted {
		f.h.PlantVolume(name, v)
	}
	for _, name := range []string{"a", "b", "c"} {
		f.delete(name) // without a VM
		f.wantVolumes("after deleting nothing", planted)
		f.start(name) // takes what is there
		f.delete(name)
		f.wantAbsent(name)
		f.wantVolumes("after deleting "+name, planted)
	}
}

func strangeVolume(f *fixture) {
	f.volumes = []v1alpha1.Volume{anonymous("/cache")}
	planted := map[string]Volume{f.anonymousName("m", "/cache"): {Content: content}}
	for name, v := range planted {
		f.h.PlantVolume(name, v)
	}
	err := f.operation("create").run(f.Context(), f, "m")
	f.wantError("create with an anonymous volume of somebody", err, errdefs.FailedPrecondition)
	if err != nil && !strings.Contains(err.Error(), "volumes[0]") {
		f.Errorf("error %q does not name the field", err)
	}
	f.delete("m")
	f.wantAbsent("m")
	f.wantVolumes("after all", planted)
}

func absentStore(f *fixture) {
	nowhere := named("data", "/data")
	nowhere.Store = "nowhere"
	f.volumes = []v1alpha1.Volume{anonymous("/cache"), nowhere}
	err := f.operation("create").run(f.Context(), f, "m")
	f.wantError("create with a store that is not there", err, errdefs.FailedPrecondition)
	if err != nil && (!strings.Contains(err.Error(), "volumes[1]") || !strings.Contains(err.Error(), "nowhere")) {
		f.Errorf("error %q does not name field and store", err)
	}
	f.wantVolumes("after a create that cannot be", map[string]Volume{})
	f.delete("m")
	f.wantAbsent("m")
}

func stoppedVolumes(f *fixture) {
	f.volumes = []v1alpha1.Volume{named("data", "/data"), anonymous("/cache")}
	f.start("m")
	f.h.WriteVolume("data", content)
	before := f.h.Volumes()
	f.stopAndGoOn("m", f.providerID("m"))
	f.wantVolumes("after a stop", before)
	f.delete("m")
	f.wantAbsent("m")
}

// volumeWalks are walks with machines that have a volume that stays and one that goes.
// A process that dies before a step has died after the one before it, so that is
// walked once.
func volumeWalks() map[string]func(*fixture) {
	killed := func(context.CancelFunc) Fault { return Fault{After: true, Kill: true, Kind: errdefs.Unavailable} }
	lost := func(context.CancelFunc) Fault { return Fault{After: true, Kind: errdefs.Unavailable} }
	tests := map[string]func(*fixture){}
	for _, op := range []string{"create", "delete"} {
		tests[op+" with volumes killed after each step"] = func(f *fixture) { f.volumeWalk(op, killed) }
		tests[op+" with volumes without the answer of each step"] = func(f *fixture) { f.volumeWalk(op, lost) }
	}
	return tests
}

// volumeWalk is alternate with one volume that all machines have, one after the other,
// and that must be there with what is on it after each.
func (f *fixture) volumeWalk(opName string, fault func(context.CancelFunc) Fault) {
	f.volumes = []v1alpha1.Volume{named("kept", "/data"), anonymous("/cache")}
	planted := map[string]Volume{"kept": {Content: content}}
	f.h.PlantVolume("kept", planted["kept"])
	f.afterStep = func(step int) {
		f.Helper()
		f.wantVolumes(fmt.Sprintf("after %s was struck at step %d", opName, step), planted)
	}
	alternate(f, opName, fault, errdefs.Unavailable)
}

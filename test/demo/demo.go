// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/cluster"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/stack"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// namespace is where MCM, the driver and the samples live.
const namespace = "machines"

// slow is how long the registry takes for each blob: so that the driver, which waits
// a while for an image, has something to tell before the first machine comes.
const slow = "6s"

// volumePrefix is what the names of the machines' volumes begin with.
const volumePrefix = "state-"

// order is that in which the samples are applied, and deleted from behind.
func order() []string {
	return []string{"Secret", "MachineClass", "Machine", "MachineSet", "MachineDeployment"}
}

// demo is one run.
type demo struct {
	narrator
	dir  string
	kept bool
	// sidecar: the driver is a process of its own.
	sidecar bool

	programs *stack.Programs
	cluster  *cluster.Cluster
	stack    *stack.Stack
	samples  map[string]*unstructured.Unstructured
	before   *stack.Inventory
	told     map[string]string // the machines' states that were told last
}

func (d *demo) play(ctx context.Context) error {
	type step struct {
		title string
		do    func(context.Context) error
	}
	steps := []step{
		{"Build what is needed (the control plane only the first time: 4 to 10 minutes)", d.build},
		{"Start a Kubernetes control plane on loopback", d.startCluster},
		{"Start a simulated vCenter with a Virtual Container Host", d.startVCenter},
		{"Start MCM and this provider with the rights of the manifests in kubernetes/", d.startControllers},
		{"Apply the samples: a Machine, a MachineSet and a MachineDeployment, all of one OCI image", d.apply},
		{"Look at what they have become", d.look},
		{"Scale the MachineDeployment up", d.scaleUp},
	}
	if !d.kept {
		steps = append(steps,
			step{"Scale the MachineDeployment down (MCM takes 20 to 35 seconds for a machine)", d.scaleDown},
			step{"Delete everything that was applied", d.remove})
	}
	for i, s := range steps {
		d.title(i+1, len(steps)+1, s.title)
		if err := s.do(ctx); err != nil {
			return err
		}
	}
	if d.kept {
		d.title(len(steps)+1, len(steps)+1, "Everything stays as it is")
	} else {
		d.title(len(steps)+1, len(steps)+1, "Stop everything")
	}
	return nil
}

func (d *demo) build(ctx context.Context) error {
	bin := filepath.Join(d.dir, "bin")
	var err error
	d.programs, err = stack.Build(ctx, d, bin, os.Getenv("E2E_CONTROLPLANE_DIR"))
	return err
}

func (d *demo) startCluster(ctx context.Context) error {
	dir, err := d.subdir("cluster")
	if err != nil {
		return err
	}
	if d.cluster, err = cluster.Start(ctx, cluster.Options{Programs: d.programs.ControlPlane, Dir: dir}); err != nil {
		return err
	}
	d.running(d.cluster.Processes())
	crds, err := cluster.ReadManifests(d.programs.CRDs)
	if err != nil {
		return err
	}
	if err := d.cluster.Apply(ctx, crds...); err != nil {
		return err
	}
	d.say("the API server is %s; MCM's resource definitions are installed", d.cluster.Server())
	return nil
}

func (d *demo) startVCenter(ctx context.Context) error {
	dir, err := d.subdir("stack")
	if err != nil {
		return err
	}
	d.stack, err = stack.Start(ctx, stack.Options{
		Programs: d.programs, Cluster: d.cluster, Dir: dir, Namespace: namespace, Join: true, NoControllers: true, Sidecar: d.sidecar,
		Image: true, VCHSimArgs: []string{"--vms=20", "--registry-delay=" + slow, "--guest-diary", "--dir=" + dir},
	})
	if err != nil {
		return err
	}
	d.running(d.stack.Processes())
	vcenter := d.stack.VCenter()
	if d.before, err = vcenter.Inventory(ctx); err != nil {
		return err
	}
	d.say("vCenter is %s; its datacenter %s holds the VCH %s and %d VMs, none of them ours", vcenter.URL, vcenter.Datacenter, vcenter.VCH, len(d.before.VMs))
	d.say("the image registry beside it has %s, which the machines will run; it is slow on purpose", vcenter.Image)
	return d.writeSamples()
}

// writeSamples writes the samples, completed for this VCH, as files for kubectl and vchctl.
func (d *demo) writeSamples() error {
	var err error
	if d.samples, err = d.stack.Samples(); err != nil {
		return err
	}
	spec, _, err := unstructured.NestedMap(d.samples["MachineClass"].Object, "providerSpec")
	if err != nil || spec["image"] != d.stack.VCenter().Image {
		return errors.Join(fmt.Errorf("the sample of a class has the image %v", spec["image"]), err)
	}
	spec["volumes"] = []any{map[string]any{"name": volumePrefix + "{machine}", "mountPath": "/var/lib/state", "capacity": "4Gi"}}
	if err := unstructured.SetNestedMap(d.samples["MachineClass"].Object, spec, "providerSpec"); err != nil {
		return fmt.Errorf("add a volume to the sample of a class: %w", err)
	}
	for kind, sample := range d.samples {
		content, err := yaml.Marshal(sample.Object)
		if err != nil {
			return fmt.Errorf("encode the sample %s: %w", kind, err)
		}
		if err := os.WriteFile(filepath.Join(d.dir, sampleFile(kind)), content, 0o600); err != nil {
			return fmt.Errorf("write the sample %s: %w", kind, err)
		}
	}
	return nil
}

func sampleFile(kind string) string { return strings.ToLower(kind) + ".yaml" }

func (d *demo) startControllers(ctx context.Context) error {
	if err := d.stack.StartControllers(ctx); err != nil {
		return err
	}
	d.running(d.stack.Processes()[1:])
	if d.sidecar {
		d.say("the driver serves at %s", d.stack.Endpoint())
	}
	return nil
}

func (d *demo) apply(ctx context.Context) error {
	for _, kind := range order() {
		if err := d.kubectl(ctx, "apply", "-f", sampleFile(kind)); err != nil {
			return err
		}
	}
	d.say("the image becomes the root disk now; MCM says CrashLoopBackOff while it asks again and again")
	return d.watch(ctx, 1+d.replicas("MachineSet")+d.replicas("MachineDeployment"))
}

func (d *demo) look(ctx context.Context) error {
	if err := d.kubectl(ctx, "get", "machinedeployments,machinesets,machines"); err != nil {
		return err
	}
	if err := d.kubectl(ctx, "get", "nodes"); err != nil {
		return err
	}
	if err := d.listMachines(ctx); err != nil {
		return err
	}
	d.say("")
	d.say("The root disks are children of one image disk, which was made when the first machine came:")
	if err := d.listImages(ctx); err != nil {
		return err
	}
	d.say("")
	d.say("Each has a volume of its own, in the VCH's volume store:")
	if err := d.listVolumes(ctx); err != nil {
		return err
	}
	name := d.samples["Machine"].GetName()
	machine, err := d.stack.Machines.Machines(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get the machine %s: %w", name, err)
	}
	vcenter := d.stack.VCenter()
	inventory, err := vcenter.Inventory(ctx)
	if err != nil {
		return err
	}
	vm, found := inventory.VM(machine.Spec.ProviderID)
	if !found {
		return fmt.Errorf("no VM for the machine %s with the provider id %s", name, machine.Spec.ProviderID)
	}
	d.say("")
	d.say("What VIC's init reads in the VM of %s, decoded:", name)
	return d.vchctl(ctx, 120, "guestinfo", "decode", "--vm="+vm.Name)
}

func (d *demo) scaleUp(ctx context.Context) error {
	return d.scale(ctx, d.replicas("MachineDeployment")+1)
}

func (d *demo) scaleDown(ctx context.Context) error {
	if err := d.scale(ctx, 1); err != nil {
		return err
	}
	return d.listMachines(ctx)
}

func (d *demo) scale(ctx context.Context, replicas int64) error {
	name := "machinedeployment/" + d.samples["MachineDeployment"].GetName()
	if err := d.kubectl(ctx, "scale", name, fmt.Sprintf("--replicas=%d", replicas)); err != nil {
		return err
	}
	return d.watch(ctx, 1+d.replicas("MachineSet")+replicas)
}

// replicas is the number of machines in a sample.
func (d *demo) replicas(kind string) int64 {
	replicas, _, _ := unstructured.NestedInt64(d.samples[kind].Object, "spec", "replicas")
	return replicas
}

func (d *demo) remove(ctx context.Context) error {
	for _, kind := range slices.Backward(order()) {
		if kind == "MachineClass" { // the last machine needs its class to go
			if err := d.watch(ctx, 0); err != nil {
				return err
			}
		}
		if err := d.kubectl(ctx, "delete", "--wait=false", "-f", sampleFile(kind)); err != nil {
			return err
		}
	}
	if err := d.kubectl(ctx, "get", "nodes"); err != nil {
		return err
	}
	if err := d.listMachines(ctx); err != nil {
		return err
	}
	if err := d.removeVolumes(ctx); err != nil {
		return err
	}
	vcenter := d.stack.VCenter()
	inventory, err := vcenter.Inventory(ctx)
	if err != nil {
		return err
	}
	after := inventory.WithoutImageDisks()
	// What was at work there leaves two directories that are empty.
	maps.DeleteFunc(after.Files, func(file string, _ int64) bool {
		return strings.HasSuffix(file, "/") && strings.Contains(file, "/mcm-volumes/")
	})
	if err := d.before.Equal(after); err != nil {
		return fmt.Errorf("the vCenter is not as it was before: %w", err)
	}
	d.say("what is listed still belongs to others; the vCenter holds the same %d VMs and %d files and directories as before", len(after.VMs), len(after.Files))
	d.say("and, for the next machines, the image disk; `vchctl image rm` and `vchctl image prune` remove it when no VM has it any more:")
	return d.listImages(ctx)
}

// removeVolumes shows that what was on volumes has outlived the machines, and removes them.
func (d *demo) removeVolumes(ctx context.Context) error {
	d.say("")
	d.say("The volumes have stayed, as volumes with names do if nothing else is said:")
	if err := d.listVolumes(ctx); err != nil {
		return err
	}
	names, err := d.volumes()
	if err != nil {
		return err
	}
	first := volumePrefix + d.samples["Machine"].GetName()
	d.say("What the guest of %s wrote on its volume is still there, on the disk that the simulated vCenter keeps:", d.samples["Machine"].GetName())
	if err := d.show(ctx, filepath.Dir(names[first]), nil, 0, debugfs(), "-R", "cat /.vic.vol.data/"+vchsim.Diary, filepath.Base(names[first])); err != nil {
		return err
	}
	return d.vchctl(ctx, 0, append([]string{"volume", "rm", "--provider-spec=" + sampleFile("MachineClass")}, slices.Sorted(maps.Keys(names))...)...)
}

// volumes returns the machines' volumes by name, with the files that the simulated
// vCenter keeps of their disks.
func (d *demo) volumes() (map[string]string, error) {
	names := map[string]string{}
	err := filepath.WalkDir(filepath.Join(d.dir, "stack"), func(file string, _ fs.DirEntry, _ error) error {
		if name, ok := strings.CutSuffix(filepath.Base(file), "-flat.vmdk"); ok && strings.HasPrefix(name, volumePrefix) {
			names[name] = file
		}
		return nil // what vanishes meanwhile is no volume
	})
	if err == nil && names[volumePrefix+d.samples["Machine"].GetName()] == "" {
		err = fmt.Errorf("%s has no volume", d.samples["Machine"].GetName())
	}
	if err != nil {
		return nil, fmt.Errorf("look for volumes: %w", err)
	}
	return names, nil
}

// debugfs is not where users other than root look.
func debugfs() string {
	if program, err := exec.LookPath("debugfs"); err == nil {
		return program
	}
	return "/usr/sbin/debugfs"
}

func (d *demo) listVolumes(ctx context.Context) error {
	return d.vchctl(ctx, 0, "volume", "ls", "--provider-spec="+sampleFile("MachineClass"), "--filter=name="+volumePrefix)
}

func (d *demo) kubectl(ctx context.Context, args ...string) error {
	env := []string{"KUBECONFIG=" + d.cluster.AdminKubeconfig()}
	return d.show(ctx, d.dir, env, 0, d.programs.Tool(stack.Kubectl), append([]string{"-n", namespace}, args...)...)
}

func (d *demo) listMachines(ctx context.Context) error {
	return d.vchctl(ctx, 0, "machines", "ls", "--provider-spec="+sampleFile("MachineClass"))
}

func (d *demo) listImages(ctx context.Context) error {
	return d.vchctl(ctx, 0, "image", "ls", "--provider-spec="+sampleFile("MachineClass"))
}

func (d *demo) vchctl(ctx context.Context, lines int, args ...string) error {
	return d.show(ctx, d.dir, nil, lines, d.programs.Path(stack.VCHCtl), append(args, "--secret-file="+sampleFile("Secret"))...)
}

func (d *demo) subdir(name string) (string, error) {
	dir := filepath.Join(d.dir, name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", fmt.Errorf("make a directory: %w", err)
	}
	return dir, nil
}

func (d *demo) running(processes []*process.Process) {
	for _, p := range processes {
		d.say("%-27s runs with pid %d", p.Name(), p.PID())
	}
}

// end stops everything, proves that it has ended, and removes all files.
func (d *demo) end() error {
	if d.stack != nil {
		d.stack.Stop()
	}
	if d.cluster != nil {
		d.cluster.Stop()
	}
	left, err := processesOf(d.dir)
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("still running: %s", strings.Join(left, "; "))
	}
	err = errors.Join(err, os.RemoveAll(d.dir))
	if err == nil {
		d.say("nothing is left running, and all temporary files are removed")
	}
	return err
}

// processesOf lists the processes, other than this one, whose command lines
// mention the directory: all that a demo starts has files in it.
func processesOf(dir string) ([]string, error) {
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	var found []string
	for _, file := range files {
		pid := filepath.Base(filepath.Dir(file))
		content, err := os.ReadFile(file)
		if err != nil || pid == fmt.Sprint(os.Getpid()) || !bytes.Contains(content, []byte(dir)) {
			continue // a process that has just ended is no error
		}
		found = append(found, pid+" "+strings.ReplaceAll(strings.TrimRight(string(content), "\x00"), "\x00", " "))
	}
	return found, nil
}

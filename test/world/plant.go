// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package world

import (
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/vmware/govmomi/object"
	"github.com/vmware/govmomi/property"
	"github.com/vmware/govmomi/vim25/mo"
	"github.com/vmware/govmomi/vim25/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/containervm"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/spitest"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// Plant makes foreigners as a person would: by hand, with an ordinary client. A copy of a machine is known to the backend when
// it returns: who copies a VM by hand takes longer than the news of it.
func (w *World) Plant(kind spitest.Foreign, machine string) string {
	w.Helper()
	if kind == spitest.Duplicate {
		defer w.awaitNews()()
	}
	spec, cluster, name := w.Sim.ProviderSpec(), vchsim.Cluster, machine // of a prepared disk: a plan of an image needs the disk
	v1alpha1.SetDefaults(spec)
	mark := func(*types.VirtualMachineConfigSpec) {}
	switch kind {
	case spitest.OtherCluster:
		cluster = "shoot--foreign"
		spec.Tags = map[string]string{"kubernetes.io/cluster/shoot--foreign": "1", "kubernetes.io/role/node": "1"}
	case spitest.OtherRole:
		spec.Tags = map[string]string{"kubernetes.io/cluster/" + vchsim.Cluster: "1", "kubernetes.io/role/other": "1"}
	case spitest.HalfMarked:
		mark = setMark(`{"cluster":"` + vchsim.Cluster + `","role":"node"}`)
	case spitest.Unmarked:
		mark = setMark("")
	case spitest.Docker:
		name, mark = "docker-"+machine, setMark("")
	default: // as a machine of ours
	}
	id, err := identity.New(w.VCH(), cluster, name)
	if err != nil {
		w.Fatal(err)
	}
	key, err := hostKey()
	if err != nil {
		w.Fatal(err)
	}
	plan, err := containervm.Plan(containervm.Request{Machine: machine, Identity: id, Spec: spec, Secret: w.Sim.Secret(), VCH: w.Host, HostKey: key, Now: time.Now(), ProviderVersion: "foreign"})
	if err != nil {
		w.Fatal(err)
	}
	mark(plan)
	if kind == spitest.Clone {
		plan.Uuid = uuid.NewString()
	}
	folder := w.Host.Folder
	place := "foreign-" + strings.ToLower(strings.NewReplacer(" ", "-", "'", "").Replace(string(kind))) + "-" + machine
	if kind == spitest.Namesake {
		// Its name is the machine's; it stands outside the VCH, with an identity of its own.
		plan.Uuid, plan.ExtraConfig = "", nil
		folder = w.RootFolder()
	} else {
		plan.Name = place
	}
	moveTo(plan, place)
	ref := w.createVM(folder, plan)
	if kind != spitest.Duplicate {
		w.foreign[ref] = true
	}
	if kind == spitest.Namesake {
		return ""
	}
	return id.ProviderID()
}

func setMark(value string) func(*types.VirtualMachineConfigSpec) {
	return func(spec *types.VirtualMachineConfigSpec) {
		spec.ExtraConfig = slices.DeleteFunc(spec.ExtraConfig, func(o types.BaseOptionValue) bool {
			return value == "" && strings.HasPrefix(o.GetOptionValue().Key, "annotations")
		})
		for _, o := range spec.ExtraConfig {
			if o.GetOptionValue().Key == guestinfo.AnnotationKey(identity.MarkAnnotation) {
				o.GetOptionValue().Value = value
			}
		}
	}
}

// moveTo gives the VM a directory of its own.
func moveTo(spec *types.VirtualMachineConfigSpec, dir string) {
	dir = "[" + vchsim.Datastore + "] " + dir
	spec.Files.VmPathName = dir + "/foreign.vmx"
	for _, c := range spec.DeviceChange {
		switch b := c.GetVirtualDeviceConfigSpec().Device.GetVirtualDevice().Backing.(type) {
		case *types.VirtualDiskFlatVer2BackingInfo:
			b.FileName = dir + "/foreign.vmdk"
		case *types.VirtualSerialPortFileBackingInfo:
			b.FileName = dir + "/" + filepath.Base(b.FileName)
		}
	}
}

// awaitNews returns what waits until the backend knows of one machine more than now.
func (w *World) awaitNews() func() {
	before, _ := w.known()
	return func() {
		w.Helper()
		for limit := time.After(time.Minute); ; {
			now, watching := w.known()
			if now > before || !watching {
				return
			}
			select {
			case <-limit:
				w.Fatal("the backend does not hear of a new VM")
			case <-time.After(time.Millisecond):
			}
		}
	}
}

// known returns how many machines the backend knows without asking, and whether it does.
func (w *World) known() (machines int, watching bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.backend == nil {
		return 0, false
	}
	for _, s := range w.backend.CacheStats() {
		machines, watching = machines+s.Machines, watching || s.Synced
	}
	return machines, watching
}

// PlantVM makes a foreigner of any specification in the VCH's folder.
func (w *World) PlantVM(spec *types.VirtualMachineConfigSpec) {
	w.Helper()
	w.foreign[w.createVM(w.Host.Folder, spec)] = true
}

func (w *World) createVM(folder types.ManagedObjectReference, spec *types.VirtualMachineConfigSpec) types.ManagedObjectReference {
	w.Helper()
	task, err := object.NewFolder(w.Admin, folder).CreateVM(w.Context(), *spec, object.NewResourcePool(w.Admin, w.Host.Pool), nil)
	if err != nil {
		w.Fatal(err)
	}
	info, err := task.WaitForResult(w.Context())
	if err != nil {
		w.Fatalf("make foreign VM %s: %v", spec.Name, err)
	}
	ref, ok := info.Result.(types.ManagedObjectReference)
	if !ok {
		w.Fatalf("result = %v", info.Result)
	}
	return ref
}

// RootFolder returns the datacenter's folder of VMs.
func (w *World) RootFolder() types.ManagedObjectReference {
	w.Helper()
	var dc mo.Datacenter
	if err := property.DefaultCollector(w.Admin).RetrieveOne(w.Context(), w.Host.Datacenter, []string{"vmFolder"}, &dc); err != nil {
		w.Fatal(err)
	}
	return dc.VmFolder
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"cmp"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

// The defaults that are not zero values.
const (
	DefaultCPUs                         = 2
	DefaultMemoryMB                     = 2048
	DefaultRootDiskBytes          int64 = 8 << 30
	DefaultWorkingDir                   = "/"
	DefaultStopSignal                   = "TERM"
	DefaultStopGracePeriodSeconds int64 = 10
	DefaultStartTimeoutSeconds    int64 = 180
	DefaultShares                       = "normal"
)

// SetDefaults fills in what spec leaves open. It is the one place of defaults,
// and doing it twice changes nothing. What depends on the VCH (gateway,
// nameservers, trust level, datastore, store and capacity of volumes) stays open: only the backend knows it. With
// an image workingDir and stopSignal stay open as well: the image may set them.
func SetDefaults(spec *ProviderSpec) {
	setDefault(&spec.CPUs, DefaultCPUs)
	if spec.Memory == nil {
		spec.Memory = resource.NewQuantity(DefaultMemoryMB<<20, resource.BinarySI)
	}
	if r := spec.Resources; r != nil {
		if r.CPU != nil && r.CPU.Shares == "" {
			r.CPU.Shares = DefaultShares
		}
		if r.Memory != nil && r.Memory.Shares == "" {
			r.Memory.Shares = DefaultShares
		}
	}
	if spec.Image != "" {
		defaultImage(spec)
	} else {
		spec.WorkingDir = cmp.Or(spec.WorkingDir, DefaultWorkingDir)
		spec.StopSignal = cmp.Or(spec.StopSignal, DefaultStopSignal)
	}
	setDefault(&spec.StopGracePeriodSeconds, DefaultStopGracePeriodSeconds)
	setDefault(&spec.StartTimeoutSeconds, DefaultStartTimeoutSeconds)
	if spec.UserData == nil {
		spec.UserData = &UserData{}
	}
	setDefault(&spec.UserData.Publish, true)
	setDefault(&spec.UserData.Exec, false)
	defaultNetworks(spec.Networks)
	for i := range spec.Volumes {
		v := &spec.Volumes[i]
		v.Mode = cmp.Or(v.Mode, VolumeReadWrite)
		v.RetainPolicy = v.Policy()
		setDefault(&v.NoCopy, false)
	}
}

func defaultImage(spec *ProviderSpec) {
	spec.ImagePullPolicy = cmp.Or(spec.ImagePullPolicy, PullIfNotPresent)
	if spec.RootDisk == nil {
		spec.RootDisk = &RootDisk{}
	}
	if spec.RootDisk.Size == nil {
		spec.RootDisk.Size = resource.NewQuantity(DefaultRootDiskBytes, resource.BinarySI)
	}
}

// defaultNetworks makes the first network that does not refuse it carry the default route, unless one asks for it.
func defaultNetworks(networks []Network) {
	taken := false
	for _, n := range networks {
		taken = taken || ptr.Deref(n.Default, false)
	}
	for i := range networks {
		if networks[i].Default == nil {
			networks[i].Default = ptr.To(!taken)
			taken = true
		}
	}
}

func setDefault[T any](field **T, value T) {
	if *field == nil {
		*field = &value
	}
}

// MemoryMB is the size of the VM's memory in MiB: memory, or the default,
// rounded up to a multiple of 128, as VIC does it.
func (s *ProviderSpec) MemoryMB() int64 {
	if s.Memory == nil {
		return DefaultMemoryMB
	}
	const step = MemoryStepMB << 20
	bytes := s.Memory.Value()
	blocks := bytes / step
	if bytes%step > 0 {
		blocks++
	}
	return blocks * MemoryStepMB
}

// RootDiskBytes is the size in bytes of the disk that is made from image:
// rootDisk.size, or the default. Without an image it is 0: a vmdk has its own size.
func (s *ProviderSpec) RootDiskBytes() int64 {
	switch {
	case s.Image == "":
		return 0
	case s.RootDisk == nil || s.RootDisk.Size == nil:
		return DefaultRootDiskBytes
	}
	return s.RootDisk.Size.Value()
}

// Signal is the stop signal without SIG, in upper case, as VIC's guest knows it.
// Empty with an image when the spec leaves it open: the image may set one.
func (s *ProviderSpec) Signal() string {
	if s.StopSignal == "" && s.Image == "" {
		return DefaultStopSignal
	}
	return signalName(s.StopSignal)
}

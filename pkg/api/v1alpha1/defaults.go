// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
)

// The defaults that are not zero values.
const (
	DefaultCPUs                         = 2
	DefaultMemoryMB                     = 2048
	DefaultWorkingDir                   = "/"
	DefaultStopSignal                   = "TERM"
	DefaultStopGracePeriodSeconds int64 = 10
	DefaultStartTimeoutSeconds    int64 = 180
	DefaultShares                       = "normal"
)

// SetDefaults fills in what spec leaves open. It is the one place of defaults,
// and doing it twice changes nothing. What depends on the VCH (gateway,
// nameservers, trust level, datastore) stays open: only the backend knows it.
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
	if spec.Image != "" && spec.ImagePullPolicy == "" {
		spec.ImagePullPolicy = PullIfNotPresent
	}
	if spec.WorkingDir == "" {
		spec.WorkingDir = DefaultWorkingDir
	}
	if spec.StopSignal == "" {
		spec.StopSignal = DefaultStopSignal
	}
	setDefault(&spec.StopGracePeriodSeconds, DefaultStopGracePeriodSeconds)
	setDefault(&spec.StartTimeoutSeconds, DefaultStartTimeoutSeconds)
	if spec.UserData == nil {
		spec.UserData = &UserData{}
	}
	setDefault(&spec.UserData.Publish, true)
	setDefault(&spec.UserData.Exec, false)
	defaultNetworks(spec.Networks)
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

// Signal is the stop signal without SIG, in upper case, as VIC's guest knows it.
func (s *ProviderSpec) Signal() string {
	if s.StopSignal == "" {
		return DefaultStopSignal
	}
	return signalName(s.StopSignal)
}

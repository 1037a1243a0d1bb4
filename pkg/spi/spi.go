// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package spi is the contract between the driver and what makes machines.
//
// PluginSPI is the one swappable interface of this project. pkg/provider calls
// it and knows nothing of vSphere; spi/vsphere implements it on a VCH, spi/fake
// in memory, spi/mock is generated for tests of call order. spi/spitest is the
// conformance suite that every implementation runs.
//
// # Words
//
// A machine is one container VM with our mark. It is absent, created (the VM
// exists, complete and marked, but was not started to the end) or initialized
// (its workload reported that it runs). Its identity is computed from the VCH,
// the cluster tag and the machine's name (pkg/identity), never remembered.
//
// # What holds for all calls
//
//   - Errors are errdefs errors; callers use errdefs.KindOf. Texts name what was
//     tried and never contain secret data.
//   - Every call ends: it has time limits of its own and answers DeadlineExceeded
//     when they pass; a cancelled context ends it with Canceled or
//     DeadlineExceeded. What was begun is met again by the next call.
//   - Every call may be repeated, and may be cut off at any point (crash of the
//     process included), without harm.
//   - All methods may be called at the same time from many goroutines, for the
//     same machine too. Two overlapping calls for one machine end as if they had
//     run one after the other, or one of them answers Aborted.
//   - providerSpec and secret are read, never changed and not kept. providerSpec
//     is validated and defaulted (pkg/api/v1alpha1).
//   - providerID may be empty. If it is given it must be of the machine that is
//     named, else the answer is InvalidArgument (malformed) or
//     FailedPrecondition (another machine's): a provider id is never a reason to
//     touch a VM that the name does not lead to.
//   - A VM that has the machine's identity but not its full mark is not ours:
//     FailedPrecondition, and nothing is changed.
//   - Missing or wrong credentials are Unauthenticated.
//
// # Volumes
//
// A spec may have volumes (pkg/volume). Most live on by themselves; some go with
// the machine: those whose retainPolicy is Delete, which is the default of the
// anonymous ones and is possible for names with {machine} in them.
//
//   - What is on a volume that does not go with the machine is never lost by any call.
//   - A volume goes with its machine only if its labels say that it was made for
//     this machine of this cluster. Anything else that bears its name, of docker, of
//     another cluster, by hand, stays as it is, and the log says so.
//   - A volume that somebody else has stays. A VMDK volume can be had by one VM at a time.
//   - ShutDownMachine, GetMachineStatus and ListMachines ask no volume store.
package spi

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
)

// PluginSPI makes, finds and removes machines. See the package comment for what
// holds for all methods.
type PluginSPI interface {
	// CreateMachine makes the machine's VM, complete and marked, powered off, and
	// returns its provider id. If the machine exists already and was made from
	// the same spec, it answers as if it had just made it; from another spec:
	// AlreadyExists. userData takes no part in that comparison.
	// On any error nothing stays behind that the next call or DeleteMachine does
	// not meet again.
	//
	// The volumes of the spec are made unless they are there, before the VM; a
	// machine that exists already makes none and asks no store. A VMDK volume that another
	// container VM of the VCH has, one that is damaged, is in another store than the spec says, or bears the name of an
	// anonymous one without being this machine's, and a store that the VCH has not, are
	// FailedPrecondition, and the text names the field. A store that does not answer
	// is Unavailable, one without room ResourceExhausted. A volume that vanished while
	// the machine was made is Aborted. After an error the volumes that go with the
	// machine are met by the next call and by DeleteMachine; a retained one that was made
	// stays, empty: that it stays is its sense.
	CreateMachine(ctx context.Context, machineName string, providerSpec *v1alpha1.ProviderSpec, secret *corev1.Secret) (providerID string, err error)

	// InitializeMachine starts a created machine and waits until its workload
	// reports that it runs. An initialized machine is answered at once. Absent:
	// NotFound. A start that failed is tried again by the next call; the error
	// (Internal) carries the guest's own words. A volume that another running VM
	// holds is FailedPrecondition and the text names that VM.
	InitializeMachine(ctx context.Context, machineName, providerID string, providerSpec *v1alpha1.ProviderSpec, secret *corev1.Secret) (foundProviderID string, addresses []corev1.NodeAddress, err error)

	// GetMachineStatus finds the machine. Absent: NotFound, verified at the
	// source. Created but not initialized: Uninitialized, together with the
	// provider id. Several VMs with the full mark: OutOfRange.
	// addresses are those that are ready to use, sorted, without duplicates.
	GetMachineStatus(ctx context.Context, machineName, providerID string, providerSpec *v1alpha1.ProviderSpec, secret *corev1.Secret) (foundProviderID string, addresses []corev1.NodeAddress, err error)

	// DeleteMachine stops the machine within the grace period of the spec and
	// removes its VM, its files and the volumes that go with it; shared disks and all
	// other volumes stay. Absent: no error and an empty provider id; leftover files of an
	// earlier, cut-off delete are removed then too, and so are volumes that a cut-off
	// create of this spec made to go with the machine.
	//
	// Which volumes go with the machine was settled when its VM was made. They are
	// removed before the VM, which is off and has no disks by then. A store that does
	// not answer is Unavailable and the VM stays, or nobody would know of them any more;
	// the text says how to give them up.
	DeleteMachine(ctx context.Context, machineName, providerID string, providerSpec *v1alpha1.ProviderSpec, secret *corev1.Secret) (foundProviderID string, err error)

	// ShutDownMachine stops the machine within the grace period and keeps it. A
	// stopped machine is not initialized any more. Absent: NotFound.
	ShutDownMachine(ctx context.Context, machineName, providerID string, providerSpec *v1alpha1.ProviderSpec, secret *corev1.Secret) (foundProviderID string, err error)

	// ListMachines returns all machines of the VCH that bear the spec's cluster
	// and role tags, created or initialized, as machine name by provider id.
	// Nothing without the full mark and the right identity is ever in it. None:
	// an empty map. An empty identity is InvalidArgument.
	ListMachines(ctx context.Context, providerSpec *v1alpha1.ProviderSpec, secret *corev1.Secret) (machineNameByProviderID map[string]string, err error)
}

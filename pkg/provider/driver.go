// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"context"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/driver"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	corev1 "k8s.io/api/core/v1"
)

// Driver is MCM's driver and the one call that CMI has and MCM has not.
// MachinePlugin is the driver itself; cmi.Driver is one in another process, and
// nobody who calls it needs to know the difference.
type Driver interface {
	driver.Driver
	// ShutDownMachine stops the machine and keeps it. A stopped machine is
	// answered with Uninitialized by GetMachineStatus; InitializeMachine starts
	// it again. Absent: NotFound.
	ShutDownMachine(ctx context.Context, req *ShutDownMachineRequest) (*ShutDownMachineResponse, error)
}

// ShutDownMachineRequest is what MCM would hand over if it had the call.
type ShutDownMachineRequest struct {
	// Machine is the Machine to stop; its provider id may be empty.
	Machine *mcmv1alpha1.Machine
	// MachineClass is the Machine's class.
	MachineClass *mcmv1alpha1.MachineClass
	// Secret is the class's Secret.
	Secret *corev1.Secret
}

// ShutDownMachineResponse is the answer to a ShutDownMachineRequest.
type ShutDownMachineResponse struct {
	// LastKnownState tells people what was done.
	LastKnownState string
}

// StatusOf returns an error of MCM with a code that a driver elsewhere has
// chosen, its text cleaned as that of every error of this package; see the
// package comment. What the request holds may be nil. A text that MachinePlugin
// has given for the same request stays as it is.
func StatusOf(code codes.Code, text string, machine *mcmv1alpha1.Machine, class *mcmv1alpha1.MachineClass, secret *corev1.Secret) *status.Status {
	in := input{machine: machine, class: class, secret: secret}
	return status.New(code, clean(text, code == codes.OutOfRange, in.secrets()))
}

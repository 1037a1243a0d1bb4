// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"context"
	"encoding/json"
	"strings"

	mcmv1alpha1 "github.com/gardener/machine-controller-manager/pkg/apis/machine/v1alpha1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Keys of the metadata beside CMI's messages. Those that end in -bin hold any
// bytes: gRPC encodes them by itself.
const (
	// keyMethod is the method of MCM's driver that a CreateMachine stands for.
	keyMethod = "mcm-driver-method"
	// keyNamespace is the Machine's namespace.
	keyNamespace = "mcm-machine-namespace-bin"
	// keyProviderID is the Machine's provider id for InitializeMachine: CMI's
	// CreateMachine, which stands for it, has no field for it.
	keyProviderID = "mcm-machine-provider-id-bin"
	// keyClassName and keyClassProvider are the MachineClass's.
	keyClassName     = "mcm-class-name-bin"
	keyClassProvider = "mcm-class-provider-bin"
	// keyAddresses is the machine's addresses in a response's trailer: a JSON array
	// of corev1.NodeAddress.
	keyAddresses = "mcm-node-addresses-bin"
)

// Values of keyMethod.
const (
	methodCreate     = "CreateMachine"
	methodInitialize = "InitializeMachine"
)

// anonymousClass stands for a class in errors when the client does not name it.
const anonymousClass = "of the request"

// steps are the steps of MCM that a CMI CreateMachine stands for.
type steps struct{ create, initialize bool }

// stepsOf reads them from a request.
func stepsOf(ctx context.Context) (steps, error) {
	switch method := first(ctx, keyMethod, ""); method {
	case "":
		return steps{create: true, initialize: true}, nil
	case methodCreate:
		return steps{create: true}, nil
	case methodInitialize:
		return steps{initialize: true}, nil
	default:
		return steps{}, errdefs.New(errdefs.InvalidArgument, "metadata %s must be %s, %s or absent, got %q", keyMethod, methodCreate, methodInitialize, shown(method))
	}
}

// shown is a name as errors and logs show it: a client may send megabytes, and
// Kubernetes has no name longer than this.
func shown(name string) string {
	const most = 253
	if len(name) <= most {
		return name
	}
	return strings.ToValidUTF8(name[:most], "") + "…"
}

// first is the first value of a key of the incoming metadata.
func first(ctx context.Context, key, otherwise string) string {
	if values := metadata.ValueFromIncomingContext(ctx, key); len(values) > 0 {
		return values[0]
	}
	return otherwise
}

// classOf is the class that a request is about.
func classOf(ctx context.Context, providerSpec []byte) *mcmv1alpha1.MachineClass {
	class := &mcmv1alpha1.MachineClass{Provider: first(ctx, keyClassProvider, v1alpha1.Provider)}
	class.Name = first(ctx, keyClassName, anonymousClass)
	class.Namespace = first(ctx, keyNamespace, "")
	class.ProviderSpec.Raw = providerSpec
	return class
}

// withRequest adds what a client says beside the message.
func withRequest(ctx context.Context, machine *mcmv1alpha1.Machine, class *mcmv1alpha1.MachineClass, method string) context.Context {
	pairs := []string{keyClassName, class.Name, keyClassProvider, class.Provider}
	switch {
	case machine != nil:
		pairs = append(pairs, keyNamespace, machine.Namespace)
	default:
		pairs = append(pairs, keyNamespace, class.Namespace)
	}
	if method == methodInitialize && machine != nil && machine.Spec.ProviderID != "" {
		pairs = append(pairs, keyProviderID, machine.Spec.ProviderID)
	}
	if method != "" {
		pairs = append(pairs, keyMethod, method)
	}
	return metadata.AppendToOutgoingContext(ctx, pairs...)
}

// sendAddresses puts addresses into the trailer of the call's response, which
// an error has, too.
func sendAddresses(ctx context.Context, addresses []corev1.NodeAddress) error {
	if len(addresses) == 0 {
		return nil
	}
	encoded, err := json.Marshal(addresses)
	if err != nil {
		return errdefs.Wrap(errdefs.Internal, err, "encode addresses")
	}
	if err := grpc.SetTrailer(ctx, metadata.Pairs(keyAddresses, string(encoded))); err != nil {
		return errdefs.Wrap(errdefs.Internal, err, "send addresses")
	}
	return nil
}

// addressesOf reads them from a trailer. A server that sends none has none to say.
func addressesOf(trailer metadata.MD) ([]corev1.NodeAddress, error) {
	values := trailer.Get(keyAddresses)
	if len(values) == 0 {
		return nil, nil
	}
	var addresses []corev1.NodeAddress
	if err := json.Unmarshal([]byte(values[0]), &addresses); err != nil {
		return nil, errdefs.Wrap(errdefs.Internal, err, "decode the addresses in metadata %s", keyAddresses)
	}
	return addresses, nil
}

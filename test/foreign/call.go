// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/gardener/machine-spec/lib/go/cmi"
	"github.com/golang/protobuf/proto"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
)

// callTimeout is the end of a call to a server that does not answer.
const callTimeout = time.Minute

// client calls a server by the library's generated clients.
type client struct {
	conn    *grpc.ClientConn
	methods map[string]method
}

// method is one of the generated clients', in and out as JSON.
type method func(ctx context.Context, request []byte) (proto.Message, error)

// dial prepares a connection; the first call makes it.
func dial(endpoint string) (*client, error) {
	conn, err := grpc.Dial(strings.TrimPrefix(endpoint, "tcp://"), grpc.WithInsecure())
	if err != nil {
		return nil, fmt.Errorf("prepare a connection to %s: %w", endpoint, err)
	}
	identity, machine := cmi.NewIdentityClient(conn), cmi.NewMachineClient(conn)
	return &client{conn: conn, methods: map[string]method{
		"/cmi.v1.Identity/GetPluginInfo":         of(new(cmi.GetPluginInfoRequest), identity.GetPluginInfo),
		"/cmi.v1.Identity/GetPluginCapabilities": of(new(cmi.GetPluginCapabilitiesRequest), identity.GetPluginCapabilities),
		"/cmi.v1.Identity/Probe":                 of(new(cmi.ProbeRequest), identity.Probe),
		"/cmi.v1.Machine/CreateMachine":          of(new(cmi.CreateMachineRequest), machine.CreateMachine),
		"/cmi.v1.Machine/DeleteMachine":          of(new(cmi.DeleteMachineRequest), machine.DeleteMachine),
		"/cmi.v1.Machine/GetMachineStatus":       of(new(cmi.GetMachineStatusRequest), machine.GetMachineStatus),
		"/cmi.v1.Machine/ListMachines":           of(new(cmi.ListMachinesRequest), machine.ListMachines),
		"/cmi.v1.Machine/ShutDownMachine":        of(new(cmi.ShutDownMachineRequest), machine.ShutDownMachine),
		"/cmi.v1.Machine/GetVolumeIDs":           of(new(cmi.GetVolumeIDsRequest), machine.GetVolumeIDs),
	}}, nil
}

// of makes a method of a generated client's function. Calls are one after the
// other, so they share the request.
func of[Q, A proto.Message](request Q, do func(context.Context, Q, ...grpc.CallOption) (A, error)) method {
	return func(ctx context.Context, text []byte) (proto.Message, error) {
		request.Reset()
		if err := fromJSON(text, request); err != nil {
			return nil, err
		}
		return do(ctx, request)
	}
}

// call answers an input; an error that a server gave is an answer.
func (c *client) call(i input) (output, error) {
	do := c.methods[i.Method]
	if do == nil {
		return output{}, fmt.Errorf("the library has no method %q", i.Method)
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	response, err := do(ctx, i.JSON)
	if err != nil {
		s, ok := status.FromError(err)
		if !ok {
			return output{}, err
		}
		o := output{Code: uint32(s.Code()), Message: s.Message()}
		for _, d := range s.Proto().GetDetails() {
			o.Details = append(o.Details, detail{TypeURL: d.GetTypeUrl(), Hex: hex.EncodeToString(d.GetValue())})
		}
		return o, nil
	}
	text, err := toJSON(response)
	return output{JSON: text}, err
}

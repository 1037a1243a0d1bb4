// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"context"
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/provider/cmi"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/spi/fake"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/world"
)

// stopLimit is how long a server may take to stop that has nothing to do.
const stopLimit = 30 * time.Second

// served is our server on a backend in memory. It ends with its test.
type served struct {
	*cmi.Server

	t        testing.TB
	world    *world.Fake
	endpoint cmi.Endpoint
}

// serve starts a server that is not ready yet.
func serve(t testing.TB, endpoint string) *served {
	t.Helper()
	at, err := cmi.ParseEndpoint(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	secured, err := cmi.ServerCredentials(at, cmi.TLSFiles{}, at.Network() == "tcp")
	if err != nil {
		t.Fatal(err)
	}
	s := &served{t: t, world: world.NewFake(t)}
	s.Server, err = cmi.NewServer(provider.NewMachinePlugin(s.world.SPI(), provider.Options{}), cmi.ServerOptions{Credentials: secured})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := cmi.Listen(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	if at.Network() == "tcp" {
		at, err = cmi.ParseEndpoint("tcp://" + listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
	}
	s.endpoint = at
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(listener) }()
	t.Cleanup(func() {
		s.stop()
		if err := <-ended; err != nil {
			t.Errorf("the server ended with %v", err)
		}
	})
	return s
}

// stop returns when the server has stopped. It may be repeated.
func (s *served) stop() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), stopLimit)
	defer cancel()
	s.Stop(ctx)
}

// client starts a foreign client that calls the server.
func (s *served) client() caller {
	s.t.Helper()
	return caller{startForeigner(s.t, "call", s.endpoint.String()), map[string]bool{}}
}

// spec is a ProviderSpec that a machine can be made from, changed by change.
func (s *served) spec(change func(*v1alpha1.ProviderSpec)) []byte {
	s.t.Helper()
	spec := s.world.Spec()
	if change != nil {
		change(spec)
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		s.t.Fatal(err)
	}
	return raw
}

// secrets are those that the backend accepts.
func (s *served) secrets() map[string][]byte { return s.world.Secret().Data }

// running returns the names of all machines in the world, and whether they run.
func (s *served) running() map[string]bool {
	machines := map[string]bool{}
	for _, m := range s.world.Machines() {
		machines[m.Name] = m.Running
	}
	return machines
}

// caller is a foreign client with one connection. It remembers what it has called.
type caller struct {
	*foreigner

	called map[string]bool
}

// outcome is how a call ended.
type outcome struct {
	code    codes.Code
	message string
	// info is the ErrorInfo that all errors of our server have.
	info *errdetails.ErrorInfo
}

// call calls a method, such as Machine/CreateMachine, and puts the response into
// response. An error must say something and show no secret.
func (c caller) call(method string, request, response proto.Message) outcome {
	c.t.Helper()
	full := "/cmi.v1." + method
	c.called[full] = true
	a := c.ask(order{Method: full, JSON: toJSON(c.t, request)})
	o := outcome{code: codes.Code(a.Code), message: a.Message}
	if o.code == codes.OK {
		proto.Reset(response)
		if err := protojson.Unmarshal(a.JSON, response); err != nil {
			c.t.Fatalf("%s: read the response %s: %v", method, a.JSON, err)
		}
		return o
	}
	if o.message == "" || strings.Contains(o.message, fake.Password) {
		c.t.Errorf("%s: the error's text is %q, want some and no secret", method, o.message)
	}
	for _, d := range a.Details {
		if d.TypeURL != "type.googleapis.com/google.rpc.ErrorInfo" || o.info != nil {
			c.t.Errorf("%s: the error has the details %v, want one ErrorInfo", method, a.Details)
			continue
		}
		o.info = &errdetails.ErrorInfo{}
		if err := proto.Unmarshal(fromHex(c.t, d.Hex), o.info); err != nil {
			c.t.Fatal(err)
		}
	}
	return o
}

// endpoints are what a server without TLS may listen on.
func endpoints(t testing.TB) map[string]string {
	t.Helper()
	return map[string]string{
		"unix": "unix://" + filepath.Join(t.TempDir(), "s"),
		"tcp":  "tcp://127.0.0.1:0",
	}
}

// methodsOfTheProtocol returns the methods as a client calls them.
func methodsOfTheProtocol(t *testing.T) []string {
	t.Helper()
	var all []string
	for _, service := range theirFile(t).GetService() {
		for _, method := range service.GetMethod() {
			if method.GetClientStreaming() || method.GetServerStreaming() {
				t.Errorf("%s streams", method.GetName())
			}
			all = append(all, "/cmi.v1."+service.GetName()+"/"+method.GetName())
		}
	}
	slices.Sort(all)
	return all
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package wire_test compares pkg/api/cmi/v1 and the server of pkg/provider/cmi with
// somebody else's code: the archived public Go library of the Cloud Machine
// Interface, which lives in the program test/foreign. Descriptors, bytes and the
// answers to calls have to be what that library knows.
//
// The program talks JSON, so nothing that is compared went through our own
// encoding on its way.
package wire_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
)

// program is the path of the foreign client.
var program string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "wire:", err)
		code = 1
	}
	os.Exit(code)
}

// run builds the foreign client and runs the tests.
func run(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "vch-wire-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(dir)
	program = filepath.Join(dir, "cmiclient")
	build := exec.CommandContext(context.Background(), "go", "build", "-C", filepath.Join("..", "foreign"), "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build test/foreign: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// order and answer are input and output of the foreign client.
type (
	order struct {
		Message string          `json:"message,omitempty"`
		Method  string          `json:"method,omitempty"`
		JSON    json.RawMessage `json:"json,omitempty"`
		Hex     string          `json:"hex,omitempty"`
	}
	answer struct {
		JSON    json.RawMessage `json:"json"`
		Hex     string          `json:"hex"`
		Unknown bool            `json:"unknown"`
		Code    uint32          `json:"code"`
		Message string          `json:"message"`
		Details []struct {
			TypeURL string `json:"typeURL"`
			Hex     string `json:"hex"`
		} `json:"details"`
	}
)

// foreigner is a foreign client that runs. It ends with its test.
type foreigner struct {
	t testing.TB

	mu  sync.Mutex
	in  *json.Encoder
	out *json.Decoder
}

func startForeigner(t testing.TB, args ...string) *foreigner {
	t.Helper()
	// It ends when its input does, also when this process dies.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		rest, _ := io.ReadAll(out)
		if err := cmd.Wait(); err != nil || len(rest) > 0 {
			t.Errorf("the foreign client ended with %v, after %q and:\n%s", err, rest, stderr.String())
		}
	})
	return &foreigner{t: t, in: json.NewEncoder(in), out: json.NewDecoder(out)}
}

// ask gives an order and waits for the answer.
func (f *foreigner) ask(o order) answer {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.in.Encode(o); err != nil {
		f.t.Fatalf("give the foreign client an order: %v", err)
	}
	var a answer
	if err := f.out.Decode(&a); err != nil {
		f.t.Fatalf("read the foreign client's answer to %s%s %s%s: %v", o.Message, o.Method, o.JSON, o.Hex, err)
	}
	return a
}

func toJSON(t testing.TB, m proto.Message) json.RawMessage {
	t.Helper()
	text, err := protojson.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func fromHex(t testing.TB, text string) []byte {
	t.Helper()
	wire, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

func capability(of cmiv1.PluginCapability_RPC_Type) *cmiv1.PluginCapability {
	return &cmiv1.PluginCapability{Type: &cmiv1.PluginCapability_Rpc{Rpc: &cmiv1.PluginCapability_RPC{Type: of}}}
}

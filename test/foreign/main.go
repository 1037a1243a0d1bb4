// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Command cmiclient speaks the Cloud Machine Interface by the archived public Go
// library github.com/gardener/machine-spec, as somebody else's program would:
// nothing in it is ours. test/wire builds it and compares what it says with what
// our own code says.
//
// It is a module of its own because the library registers the same proto package
// as pkg/api/cmi/v1, and one program cannot hold two of that name. It keeps to
// the interfaces of the library's age (golang/protobuf, no metadata).
//
//	cmiclient describe          prints the library's compressed file descriptor in hex
//	cmiclient encode            encodes messages
//	cmiclient decode            decodes messages, and encodes what it got
//	cmiclient call <endpoint>   calls methods; unix:///path or tcp://host:port, without TLS
//
// The last three read JSON objects from stdin (type input) and answer each at
// once with one line of JSON (type output), until stdin ends.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// input is one order.
type input struct {
	// Message is the full name of a message: what to encode, or what Hex holds.
	Message string `json:"message,omitempty"`
	// Method is what to call, such as /cmi.v1.Identity/Probe.
	Method string `json:"method,omitempty"`
	// JSON is a message in protobuf's JSON mapping: what to encode, or a request.
	JSON json.RawMessage `json:"json,omitempty"`
	// Hex is a message on the wire: what to decode.
	Hex string `json:"hex,omitempty"`
}

// output is the answer to an input.
type output struct {
	// JSON is what was decoded, or the response. Without values that are the default.
	JSON json.RawMessage `json:"json,omitempty"`
	// Hex is a message on the wire, encoded deterministically.
	Hex string `json:"hex,omitempty"`
	// Unknown: what was decoded has fields that the library does not know.
	Unknown bool `json:"unknown,omitempty"`
	// Code, Message and Details are the status of a call.
	Code    uint32   `json:"code,omitempty"`
	Message string   `json:"message,omitempty"`
	Details []detail `json:"details,omitempty"`
}

// detail is one of a status.
type detail struct {
	TypeURL string `json:"typeURL"`
	Hex     string `json:"hex"`
}

func main() {
	if err := run(os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "cmiclient:", err)
		os.Exit(1)
	}
}

func run(args []string, in io.Reader, out io.Writer) error {
	switch {
	case len(args) == 1 && args[0] == "describe":
		return describe(out)
	case len(args) == 1 && args[0] == "encode":
		return answerAll(in, out, encode)
	case len(args) == 1 && args[0] == "decode":
		return answerAll(in, out, decode)
	case len(args) == 2 && args[0] == "call":
		c, err := dial(args[1])
		if err != nil {
			return err
		}
		return errors.Join(answerAll(in, out, c.call), c.conn.Close())
	default:
		return errors.New("usage: cmiclient describe | encode | decode | call <endpoint>")
	}
}

// answerAll answers each input before it reads the next one.
func answerAll(in io.Reader, out io.Writer, answer func(input) (output, error)) error {
	decoder, encoder := json.NewDecoder(in), json.NewEncoder(out)
	for {
		var i input
		if err := decoder.Decode(&i); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read an input: %w", err)
		}
		o, err := answer(i)
		if err != nil {
			return err
		}
		if err := encoder.Encode(o); err != nil {
			return fmt.Errorf("write an output: %w", err)
		}
	}
}

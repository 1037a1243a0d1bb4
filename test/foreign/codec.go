// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"reflect"

	"github.com/gardener/machine-spec/lib/go/cmi"
	"github.com/golang/protobuf/jsonpb"
	"github.com/golang/protobuf/proto"
)

// describe prints what the library's generator has compiled in.
func describe(out io.Writer) error {
	compressed, _ := (*cmi.ProbeRequest)(nil).Descriptor()
	_, err := fmt.Fprintln(out, hex.EncodeToString(compressed))
	return err
}

func encode(i input) (output, error) {
	m, err := newMessage(i.Message)
	if err != nil {
		return output{}, err
	}
	if err := fromJSON(i.JSON, m); err != nil {
		return output{}, err
	}
	wire, err := marshal(m)
	return output{Hex: hex.EncodeToString(wire)}, err
}

func decode(i input) (output, error) {
	m, err := newMessage(i.Message)
	if err != nil {
		return output{}, err
	}
	wire, err := hex.DecodeString(i.Hex)
	if err != nil {
		return output{}, fmt.Errorf("read the hex of a %s: %w", i.Message, err)
	}
	if err := proto.Unmarshal(wire, m); err != nil {
		return output{}, fmt.Errorf("decode a %s: %w", i.Message, err)
	}
	again, err := marshal(m)
	if err != nil {
		return output{}, err
	}
	text, err := toJSON(m)
	if err != nil {
		return output{}, err
	}
	proto.DiscardUnknown(m)
	known, err := marshal(m)
	return output{JSON: text, Hex: hex.EncodeToString(again), Unknown: !bytes.Equal(again, known)}, err
}

// newMessage returns an empty message of the library.
func newMessage(name string) (proto.Message, error) {
	of := proto.MessageType(name)
	if of == nil {
		return nil, fmt.Errorf("the library has no message %q", name)
	}
	m, ok := reflect.New(of.Elem()).Interface().(proto.Message)
	if !ok {
		return nil, fmt.Errorf("%s is no message", name)
	}
	return m, nil
}

func marshal(m proto.Message) ([]byte, error) {
	var b proto.Buffer
	b.SetDeterministic(true)
	if err := b.Marshal(m); err != nil {
		return nil, fmt.Errorf("encode a %T: %w", m, err)
	}
	return b.Bytes(), nil
}

func fromJSON(text json.RawMessage, m proto.Message) error {
	if err := jsonpb.Unmarshal(bytes.NewReader(text), m); err != nil {
		return fmt.Errorf("read the JSON of a %T: %w", m, err)
	}
	return nil
}

func toJSON(m proto.Message) (json.RawMessage, error) {
	text, err := (&jsonpb.Marshaler{}).MarshalToString(m)
	if err != nil {
		return nil, fmt.Errorf("write a %T as JSON: %w", m, err)
	}
	return json.RawMessage(text), nil
}

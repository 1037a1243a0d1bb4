// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"compress/gzip"
	"io"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/descriptorpb"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
)

// secretOption is the number of the option that marks secrets in the archived
// protocol, and something else in CSI.
const secretOption protowire.Number = 1059

func ourFile() *descriptorpb.FileDescriptorProto {
	return protodesc.ToFileDescriptorProto(cmiv1.File_cmi_v1_cmi_proto)
}

// theirFile is what the generator of the archived library has compiled in.
func theirFile(t *testing.T) *descriptorpb.FileDescriptorProto {
	t.Helper()
	text, err := exec.CommandContext(t.Context(), program, "describe").Output()
	if err != nil {
		t.Fatal(err)
	}
	compressed, err := gzip.NewReader(bytes.NewReader(fromHex(t, strings.TrimSpace(string(text)))))
	if err != nil {
		t.Fatal(err)
	}
	wire, err := io.ReadAll(compressed)
	if err != nil {
		t.Fatal(err)
	}
	file := &descriptorpb.FileDescriptorProto{}
	if err := proto.Unmarshal(wire, file); err != nil {
		t.Fatal(err)
	}
	return file
}

// fieldsOf returns all fields of a file by their full names, without those of map entries.
func fieldsOf(file *descriptorpb.FileDescriptorProto) map[string]*descriptorpb.FieldDescriptorProto {
	all := map[string]*descriptorpb.FieldDescriptorProto{}
	var add func(scope string, messages []*descriptorpb.DescriptorProto)
	add = func(scope string, messages []*descriptorpb.DescriptorProto) {
		for _, m := range messages {
			if m.GetOptions().GetMapEntry() {
				continue
			}
			for _, field := range m.GetField() {
				all[scope+m.GetName()+"."+field.GetName()] = field
			}
			add(scope+m.GetName()+".", m.GetNestedType())
		}
	}
	add("", file.GetMessageType())
	return all
}

// extensionsOf returns the numbers of a field's options that no program of ours knows.
func extensionsOf(t *testing.T, field *descriptorpb.FieldDescriptorProto) []protowire.Number {
	t.Helper()
	var numbers []protowire.Number
	for unknown := field.GetOptions().ProtoReflect().GetUnknown(); len(unknown) > 0; {
		number, _, n := protowire.ConsumeField(unknown)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		numbers, unknown = append(numbers, number), unknown[n:]
	}
	field.GetOptions().ProtoReflect().Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if f.IsExtension() {
			numbers = append(numbers, f.Number())
		}
		return true
	})
	return numbers
}

// Everything in the descriptors is compared but what is taken out here.
func TestTheProtocolIsThatOfTheArchivedLibrary(t *testing.T) {
	t.Parallel()
	ours, theirs := ourFile(), theirFile(t)
	if n, fields := len(theirs.GetMessageType()), len(fieldsOf(theirs)); n != 19 || fields != 37 {
		t.Errorf("the archived library has %d messages and %d fields: this test looks in the wrong place", n, fields)
	}
	if diff := cmp.Diff([]string{"google/protobuf/descriptor.proto", "google/protobuf/wrappers.proto"}, theirs.GetDependency()); diff != "" {
		t.Errorf("what the archived library imports (-want +got):\n%s", diff)
	}
	if len(theirs.GetExtension()) != 1 || theirs.GetExtension()[0].GetNumber() != int32(secretOption) {
		t.Errorf("the archived library has the extensions %v, want only %d", theirs.GetExtension(), secretOption)
	}
	theirs.Dependency, theirs.Extension = theirs.GetDependency()[1:], nil // the option that marks secrets
	for _, file := range []*descriptorpb.FileDescriptorProto{ours, theirs} {
		file.Name, file.Options = nil, nil // the options name packages in Go and other languages
		for _, field := range fieldsOf(file) {
			field.Options = nil // the next test
		}
	}
	if diff := cmp.Diff(theirs, ours, protocmp.Transform(), protocmp.IgnoreEmptyMessages()); diff != "" {
		t.Errorf("the protocol differs (-archived +ours):\n%s", diff)
	}
}

func TestSecretsAreMarkedByDebugRedactAlone(t *testing.T) {
	t.Parallel()
	theirs := fieldsOf(theirFile(t))
	redacted := map[string]int{}
	for name, field := range fieldsOf(ourFile()) {
		base := name[strings.LastIndex(name, ".")+1:]
		secret := base == "Secrets" || base == "ProviderSpec"
		if field.GetOptions().GetDebugRedact() != secret {
			t.Errorf("debug_redact of %s is %t, want %t", name, !secret, secret)
		}
		if secret {
			redacted[base]++
		}
		if numbers := extensionsOf(t, field); len(numbers) > 0 {
			t.Errorf("%s has the options %v, want no extensions", name, numbers)
		}
		if rest := proto.CloneOf(field.GetOptions()); rest != nil {
			rest.DebugRedact = nil
			if !proto.Equal(rest, &descriptorpb.FieldOptions{}) {
				t.Errorf("%s has the options %v besides debug_redact", name, rest)
			}
		}
		// What the archived protocol calls a secret is one here, too.
		marked := extensionsOf(t, theirs[name])
		if want := base == "Secrets"; slices.Contains(marked, secretOption) != want || len(marked) > 1 {
			t.Errorf("%s has the options %v in the archived library, want %d: %t", name, marked, secretOption, want)
		}
	}
	if want := map[string]int{"Secrets": 5, "ProviderSpec": 5}; !maps.Equal(redacted, want) {
		t.Errorf("looked at the secret fields %v, want %v", redacted, want)
	}
}

// Two extensions of one number end a program before it begins, and CSI has this one.
func TestTheNumberThatCSIHasIsFree(t *testing.T) {
	t.Parallel()
	options := (&descriptorpb.FieldOptions{}).ProtoReflect().Descriptor().FullName()
	if found, err := protoregistry.GlobalTypes.FindExtensionByNumber(options, secretOption); err == nil {
		t.Errorf("%s has registered number %d of %s", found.TypeDescriptor().FullName(), secretOption, options)
	}
}

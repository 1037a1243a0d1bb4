// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

// redacted stands for a value that is not for logs.
const redacted = "<redacted>"

// Redact returns m as one line of JSON in which fields that bear protobuf's
// option debug_redact hold a placeholder; of a map the keys stay. Go's
// protobuf library does not do that by itself. m is not changed.
func Redact(m proto.Message) string {
	if m == nil {
		return ""
	}
	clone := proto.Clone(m)
	redact(clone.ProtoReflect())
	encoded, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(clone)
	if err != nil {
		return redacted // better nothing than something that nobody has seen
	}
	return string(encoded)
}

func redact(m protoreflect.Message) {
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		options, _ := field.Options().(*descriptorpb.FieldOptions)
		if options.GetDebugRedact() {
			hide(m, field, value)
			return true
		}
		switch {
		case field.IsMap() && field.MapValue().Message() != nil:
			value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				redact(v.Message())
				return true
			})
		case field.IsList() && field.Message() != nil:
			for i := range value.List().Len() {
				redact(value.List().Get(i).Message())
			}
		case !field.IsMap() && !field.IsList() && field.Message() != nil:
			redact(value.Message())
		}
		return true
	})
}

// hide puts the placeholder in. Where a type has no room for it, the field is
// emptied.
func hide(m protoreflect.Message, field protoreflect.FieldDescriptor, value protoreflect.Value) {
	switch {
	case field.IsMap():
		if placeholder := placeholderFor(field.MapValue()); placeholder.IsValid() {
			value.Map().Range(func(key protoreflect.MapKey, _ protoreflect.Value) bool {
				value.Map().Set(key, placeholder)
				return true
			})
			return
		}
	case !field.IsList():
		if placeholder := placeholderFor(field); placeholder.IsValid() {
			m.Set(field, placeholder)
			return
		}
	}
	m.Clear(field)
}

// placeholderFor is the placeholder as a value of the field's type; bytes become
// a text that reads as such when they are shown in base64.
func placeholderFor(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(redacted)
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes(redactedBytes())
	default:
		return protoreflect.Value{}
	}
}

// redactedBytes are the bytes whose base64 is the word "redacted".
func redactedBytes() []byte { return []byte{0xad, 0xe7, 0x5a, 0x72, 0xd7, 0x9d} }

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/wrapperspb"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
)

// samplesOfEach is how many samples of a message are tried.
const samplesOfEach = 300

// messages returns all messages of the protocol, without map entries.
func messages(t testing.TB) []protoreflect.MessageType {
	t.Helper()
	var all []protoreflect.MessageType
	var add func(protoreflect.MessageDescriptors)
	add = func(descriptors protoreflect.MessageDescriptors) {
		for i := range descriptors.Len() {
			d := descriptors.Get(i)
			if d.IsMapEntry() {
				continue
			}
			m, err := protoregistry.GlobalTypes.FindMessageByName(d.FullName())
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, m)
			add(d.Messages())
		}
	}
	add(cmiv1.File_cmi_v1_cmi_proto.Messages())
	return all
}

// sampler makes messages at random, with a liking for values at the edges. It
// remembers which fields it has set.
type sampler struct {
	rand *rand.Rand
	set  map[protoreflect.FullName]int
}

// newSampler makes the same samples in every run.
func newSampler(name protoreflect.FullName) *sampler {
	var seed [32]byte
	copy(seed[:], name)
	return &sampler{rand: rand.New(rand.NewChaCha8(seed)), set: map[protoreflect.FullName]int{}}
}

func (s *sampler) fill(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		field := fields.Get(i)
		if s.rand.IntN(5) == 0 {
			continue
		}
		s.set[field.FullName()]++
		switch {
		case field.IsMap():
			for range s.rand.IntN(6) {
				m.Mutable(field).Map().Set(s.scalar(field.MapKey()).MapKey(), s.scalar(field.MapValue()))
			}
		case field.IsList() && field.Message() != nil:
			for range s.rand.IntN(6) {
				s.fill(m.Mutable(field).List().AppendMutable().Message())
			}
		case field.IsList():
			for range s.rand.IntN(6) {
				m.Mutable(field).List().Append(s.scalar(field))
			}
		case field.Message() != nil:
			s.fill(m.Mutable(field).Message())
		default:
			m.Set(field, s.scalar(field))
		}
	}
}

// scalar returns a value of a field's kind; a new kind in the protocol must have its line.
func (s *sampler) scalar(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(s.text())
	case protoreflect.BytesKind:
		b := make([]byte, s.length())
		for i := range b {
			b[i] = byte(s.rand.Uint32())
		}
		return protoreflect.ValueOfBytes(b)
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(s.rand.IntN(2) == 0)
	case protoreflect.EnumKind:
		known := field.Enum().Values()
		odd := []protoreflect.EnumNumber{protoreflect.EnumNumber(known.Len()), 1000, -1, math.MaxInt32, math.MinInt32}
		if s.rand.IntN(3) == 0 {
			return protoreflect.ValueOfEnum(odd[s.rand.IntN(len(odd))])
		}
		return protoreflect.ValueOfEnum(known.Get(s.rand.IntN(known.Len())).Number())
	default:
		panic(fmt.Sprintf("no samples for %s, a %s", field.FullName(), field.Kind()))
	}
}

// length is mostly short; 128 and 16384 are where a length takes one byte more.
func (s *sampler) length() int {
	switch s.rand.IntN(40) {
	case 0:
		return 16382 + s.rand.IntN(4)
	case 1, 2, 3, 4:
		return 126 + s.rand.IntN(4)
	default:
		return s.rand.IntN(12)
	}
}

func (s *sampler) text() string {
	runes := []rune("aZ09-._/:\x00\n\"\\{}<&\u007f\u0080é漢\u2028\ufeff\uffff😀\U0010ffff")
	var b strings.Builder
	for n := s.length(); b.Len() < n; {
		b.WriteRune(runes[s.rand.IntN(len(runes))])
	}
	return b.String()
}

func encode(t testing.TB, m proto.Message) []byte {
	t.Helper()
	wire, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return wire
}

// codecs are foreign clients that encode and decode.
type codecs struct{ encoder, decoder *foreigner }

// check compares what both sides make of one message.
func (c codecs) check(t testing.TB, m proto.Message) {
	t.Helper()
	name := string(m.ProtoReflect().Descriptor().FullName())
	ours := encode(t, m)
	theirs := fromHex(t, c.encoder.ask(order{Message: name, JSON: toJSON(t, m)}).Hex)
	if !bytes.Equal(ours, theirs) {
		t.Errorf("%s is encoded as\n%x by us and as\n%x by the archived library: %s", name, ours, theirs, toJSON(t, m))
	}

	fromTheirs := m.ProtoReflect().New().Interface()
	if err := proto.Unmarshal(theirs, fromTheirs); err != nil {
		t.Errorf("decode a %s of the archived library: %v", name, err)
	}
	if !proto.Equal(m, fromTheirs) {
		t.Errorf("we decode a %s of the archived library wrongly (-want +got):\n%s", name, cmp.Diff(m, fromTheirs, protocmp.Transform()))
	}

	// Maps are in no order unless one asks for it.
	unordered, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	decoded := c.decoder.ask(order{Message: name, Hex: hex.EncodeToString(unordered)})
	if again := fromHex(t, decoded.Hex); !bytes.Equal(ours, again) || decoded.Unknown {
		t.Errorf("the archived library decodes and encodes a %s of ours as\n%x, unknown fields: %t, want\n%x", name, again, decoded.Unknown, ours)
	}
	asTheyRead := m.ProtoReflect().New().Interface()
	if err := protojson.Unmarshal(decoded.JSON, asTheyRead); err != nil {
		t.Errorf("the archived library reads a %s of ours as %s: %v", name, decoded.JSON, err)
	}
	if !proto.Equal(m, asTheyRead) {
		t.Errorf("the archived library decodes a %s of ours wrongly (-want +got):\n%s", name, cmp.Diff(m, asTheyRead, protocmp.Transform()))
	}
}

func TestMessagesAreTheSameBytesForTheArchivedLibrary(t *testing.T) {
	t.Parallel()
	all := messages(t)
	if len(all) != 20 {
		t.Errorf("there are %d messages: this test looks in the wrong place", len(all))
	}
	c := codecs{startForeigner(t, "encode"), startForeigner(t, "decode")}
	for _, m := range all {
		c.check(t, m.New().Interface())
		s := newSampler(m.Descriptor().FullName())
		for range samplesOfEach {
			sample := m.New()
			s.fill(sample)
			c.check(t, sample.Interface())
			if t.Failed() {
				t.FailNow() // the others would say the same
			}
		}
		for i := range m.Descriptor().Fields().Len() {
			if field := m.Descriptor().Fields().Get(i).FullName(); s.set[field] < samplesOfEach/2 {
				t.Errorf("%s was set in %d samples of %d: they show nothing", field, s.set[field], samplesOfEach)
			}
		}
	}
}

// A field is set or not, whatever its value is.
func TestThePresenceOfFieldsIsTheSameForTheArchivedLibrary(t *testing.T) {
	t.Parallel()
	c := codecs{startForeigner(t, "encode"), startForeigner(t, "decode")}
	for text, want := range map[string]struct {
		message proto.Message
		wire    string
	}{
		"no answer":                  {&cmiv1.ProbeResponse{}, ""},
		"not ready":                  {&cmiv1.ProbeResponse{Ready: wrapperspb.Bool(false)}, "0a00"},
		"ready":                      {&cmiv1.ProbeResponse{Ready: wrapperspb.Bool(true)}, "0a020801"},
		"no capability":              {&cmiv1.PluginCapability{}, ""},
		"an empty capability":        {capability(cmiv1.PluginCapability_RPC_UNKNOWN), "0a00"},
		"a capability":               {capability(cmiv1.PluginCapability_RPC_GET_VOLUME_IDS), "0a020806"},
		"a capability of tomorrow":   {capability(99), "0a020863"},
		"an empty name in a list":    {&cmiv1.GetVolumeIDsResponse{VolumeIDs: []string{""}}, "0a00"},
		"an empty value in a map":    {&cmiv1.ListMachinesRequest{Secrets: map[string][]byte{"k": nil}}, "12050a016b1200"},
		"an empty key in a map":      {&cmiv1.ListMachinesRequest{Secrets: map[string][]byte{"": {0}}}, "12050a00120100"},
		"an empty state is no state": {&cmiv1.DeleteMachineResponse{LastKnownState: []byte{}}, ""},
	} {
		t.Run(text, func(t *testing.T) {
			if got := hex.EncodeToString(encode(t, want.message)); got != want.wire {
				t.Errorf("encoded as %q, want %q", got, want.wire)
			}
			c.check(t, want.message)
		})
	}
}

// Clients of the archived library's age leave out what is empty in the entry of a
// map; those of today write it.
func TestMapEntriesMayLeaveOutWhatIsEmpty(t *testing.T) {
	t.Parallel()
	decoder := startForeigner(t, "decode")
	const short, long = "12030a016b", "12050a016b1200"
	for _, wire := range []string{short, long} {
		ours := &cmiv1.ListMachinesRequest{}
		if err := proto.Unmarshal(fromHex(t, wire), ours); err != nil {
			t.Fatal(err)
		}
		if want := (&cmiv1.ListMachinesRequest{Secrets: map[string][]byte{"k": {}}}); !proto.Equal(want, ours) {
			t.Errorf("we read %s as %v, want %v", wire, ours, want)
		}
		theirs := decoder.ask(order{Message: "cmi.v1.ListMachinesRequest", Hex: wire})
		if theirs.Hex != long || theirs.Unknown {
			t.Errorf("the archived library reads %s and writes %s, unknown fields: %t; want %s", wire, theirs.Hex, theirs.Unknown, long)
		}
	}
}

// Who does not know a field hands it on.
func TestFieldsOfALaterProtocolSurviveOnBothSides(t *testing.T) {
	t.Parallel()
	decoder := startForeigner(t, "decode")
	for _, m := range messages(t) {
		wire := protowire.AppendTag(nil, 1000, protowire.BytesType)
		wire = protowire.AppendString(wire, "later")
		ours := m.New().Interface()
		if err := proto.Unmarshal(wire, ours); err != nil {
			t.Fatal(err)
		}
		if again := encode(t, ours); !bytes.Equal(again, wire) {
			t.Errorf("%s: we keep %x of %x", m.Descriptor().FullName(), again, wire)
		}
		theirs := decoder.ask(order{Message: string(m.Descriptor().FullName()), Hex: hex.EncodeToString(wire)})
		if !theirs.Unknown || !bytes.Equal(fromHex(t, theirs.Hex), wire) {
			t.Errorf("%s: the archived library keeps %q of %x, unknown fields: %t", m.Descriptor().FullName(), theirs.Hex, wire, theirs.Unknown)
		}
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/emptypb"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
)

// logged is a log in memory.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) logger(verbosity int) logr.Logger {
	return funcr.New(func(prefix, args string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		fmt.Fprintln(&l.text, prefix, args)
	}, funcr.Options{Verbosity: verbosity})
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// spellings are the ways in which a secret could stand somewhere.
func spellings(secret string) []string {
	quoted := strconv.Quote(secret)
	var found []string
	// Base64 of a text that stands in the middle of another one has three forms.
	for skip := range 3 {
		encoded := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("x", skip) + secret))
		found = append(found, encoded[(skip*8+5)/6:len(encoded)-2])
	}
	return append(found, secret, quoted[1:len(quoted)-1], url.QueryEscape(secret), url.PathEscape(secret), fmt.Sprintf("%x", secret))
}

func TestRedactHidesWhatIsMarkedInEveryRequest(t *testing.T) {
	t.Parallel()
	const planted = `pl4nted "secret" %/+`
	messages := cmiv1.File_cmi_v1_cmi_proto.Messages()
	if messages.Len() == 0 {
		t.Fatal("there are no messages")
	}
	hidden := 0
	for i := range messages.Len() {
		m := fill(t, messages.Get(i), planted)
		text := Redact(m.Interface())
		for _, secret := range spellings(planted) {
			if strings.Contains(text, secret) {
				t.Errorf("%s shows %s: %s", messages.Get(i).Name(), secret, text)
			}
		}
		full, err := protojson.Marshal(m.Interface())
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(full, []byte(base64.StdEncoding.EncodeToString([]byte(planted)))) {
			hidden++
			if !strings.Contains(text, "redacted") {
				t.Errorf("%s says nothing instead: %s", messages.Get(i).Name(), text)
			}
		}
	}
	if hidden != 5 { // all requests of Machine but the one for volumes
		t.Errorf("%d messages had secrets that were hidden, want 5", hidden)
	}
}

// fill makes a message whose fields with secrets hold the planted one, and whose
// other fields of text hold something else.
func fill(t *testing.T, d protoreflect.MessageDescriptor, planted string) protoreflect.Message {
	t.Helper()
	var m protoreflect.Message
	for _, candidate := range []proto.Message{
		&cmiv1.CreateMachineRequest{}, &cmiv1.DeleteMachineRequest{}, &cmiv1.GetMachineStatusRequest{}, &cmiv1.ListMachinesRequest{},
		&cmiv1.ShutDownMachineRequest{}, &cmiv1.GetVolumeIDsRequest{},
	} {
		if candidate.ProtoReflect().Descriptor() == d {
			m = candidate.ProtoReflect()
		}
	}
	if m == nil {
		return (&emptypb.Empty{}).ProtoReflect()
	}
	for i := range d.Fields().Len() {
		field := d.Fields().Get(i)
		switch {
		case field.Name() == "Secrets":
			m.Mutable(field).Map().Set(protoreflect.ValueOfString("key").MapKey(), protoreflect.ValueOfBytes([]byte(planted)))
		case field.Name() == "ProviderSpec":
			m.Set(field, protoreflect.ValueOfBytes([]byte(planted)))
		case field.Kind() == protoreflect.StringKind:
			m.Set(field, protoreflect.ValueOfString("public"))
		}
	}
	return m
}

func TestRedactLeavesTheMessageAndWhatIsPublic(t *testing.T) {
	t.Parallel()
	m := &cmiv1.CreateMachineRequest{MachineName: rigMachine, ProviderSpec: []byte(rigSpec), Secrets: rigSecret()}
	before := proto.Clone(m)
	text := Redact(m)
	if !proto.Equal(before, m) {
		t.Error("the message has changed")
	}
	for _, want := range []string{rigMachine, "vsphereHost", "userData", "redacted"} {
		if !strings.Contains(text, want) {
			t.Errorf("%s lacks %q", text, want)
		}
	}
	if strings.ContainsAny(text, "\n") || Redact(nil) != "" || Redact((*cmiv1.CreateMachineRequest)(nil)) == "panic" {
		t.Errorf("got %q", text)
	}
}

func TestTheLogHasEveryCallAndNoSecret(t *testing.T) {
	t.Parallel()
	log := &logged{}
	var answer error
	r := newRig(t, &stub{hook: func(context.Context, string, string) error { return answer }}, ServerOptions{Logger: log.logger(10)})
	d := r.driver()
	for _, next := range []error{nil, errors.New("no such luck")} {
		answer = next
		for _, c := range rigCalls() {
			_, _ = c.call(rigContext(t), d, rigMachine)
		}
	}
	text := log.String()
	for _, want := range []string{
		"CreateMachine", "DeleteMachine", "GetMachineStatus", "ListMachines", "ShutDownMachine", "GetVolumeIDs",
		"vsphereHost", "finished call", "no such luck", rigMachine, `"ns/`, "request.content",
	} {
		if !strings.Contains(strings.ReplaceAll(text, `\"`, `"`), want) && !strings.Contains(text, want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	if t.Failed() {
		t.Logf("%.4000s", text)
	}
	for _, planted := range []string{string(rigSecret()["vspherePassword"]), "planted-token-of-userdata", "LocalDS_0", "/bin/sleep"} {
		for _, secret := range spellings(planted) {
			if strings.Contains(text, secret) {
				t.Errorf("the log shows %q as %q", planted, secret)
			}
		}
	}
}

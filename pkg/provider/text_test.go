// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package provider

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/codes"
	"github.com/gardener/machine-controller-manager/pkg/util/provider/machinecodes/status"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

func TestCleanMakesTextsFitForMCM(t *testing.T) {
	t.Parallel()
	secrets := secretsOf(&corev1.Secret{Data: map[string][]byte{
		"vsphereHost": []byte("vcenter.example.org"), "vsphereUsername": []byte("administrator@vsphere.local"),
		"vspherePassword": []byte("s3cr[t\"x"), "short": []byte("ab"),
		"userData": []byte("#!/bin/sh\nexport K3S_TOKEN='K10averylongtokenindeed' NAME=shoot--foo--worker-1\nexec /usr/local/bin/k3s agent --server https://vcenter.example.org\n"),
	}}, "shoot--foo--worker-1\n{}")
	for name, tc := range map[string]struct {
		kind errdefs.Kind
		in   string
		want string
	}{
		"brackets in pairs stay":               {in: "open [ds1] a[0]/[b]: no", want: "open [ds1] a[0]/[b]: no"},
		"nested brackets stay":                 {in: "[[a] b]", want: "[[a] b]"},
		"an open bracket becomes round":        {in: "a [b [c] d", want: "a (b [c] d"},
		"a closing bracket becomes round":      {in: "a] b [c] d]", want: "a) b [c] d)"},
		"brackets the wrong way become round":  {in: "]a[", want: ")a("},
		"lines become one":                     {in: "a\nb\r\n\tc\x00", want: "a b   c "},
		"broken UTF-8 is replaced":             {in: "a\xff[b", want: "a\ufffd(b"},
		"users in URLs go":                     {in: "get https://u:p@h/x and ftp://u@h", want: "get https://h/x and ftp://h"},
		"user names elsewhere stay":            {in: "login administrator@vsphere.local at https://h/a@b", want: "login administrator@vsphere.local at https://h/a@b"},
		"a secret goes before its brackets do": {in: "password s3cr[t\"x is wrong", want: "password <redacted> is wrong"},
		"a quoted secret goes":                 {in: `password "s3cr[t\"x"`, want: `password "<redacted>"`},
		"a word of userData goes":              {in: "token K10averylongtokenindeed of k3s agent", want: "token <redacted> of k3s agent"},
		"all of userData goes":                 {in: "run #!/bin/sh\nexport K3S_TOKEN='K10averylongtokenindeed' NAME=shoot--foo--worker-1\nexec /usr/local/bin/k3s agent --server https://vcenter.example.org\n: no", want: "run <redacted>: no"},
		"a name that is in userData too stays": {in: "machine shoot--foo--worker-1: no", want: "machine shoot--foo--worker-1: no"},
		"a path that is in userData too stays": {in: "exec /usr/local/bin/k3s: no", want: "exec /usr/local/bin/k3s: no"},
		"a bootstrap token of anybody goes":    {in: "use abcdef.0123456789abcdef now", want: "use abcdef.<redacted> now"},
		"places and users are no secrets":      {in: "vcenter.example.org administrator@vsphere.local ab", want: "vcenter.example.org administrator@vsphere.local ab"},
		"phrases of MCM lose their blanks":     {in: "step Initiate VM deletion failed", want: "step Initiate_VM_deletion failed"},
		"phrases that a line break hid, too":   {in: "Initiate\nnode drain", want: "Initiate_node_drain"},
		"OutOfRange is another kind's word":    {kind: errdefs.Internal, in: "fault OutOfRange", want: "fault out_of_range"},
		"OutOfRange is its own kind's word":    {kind: errdefs.OutOfRange, in: "fault OutOfRange", want: "fault OutOfRange"},
		"what is too long is cut":              {in: strings.Repeat("ä[", maxMessageBytes), want: strings.Repeat("ä(", 1364) + " …"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, clean(tc.in, tc.kind == errdefs.OutOfRange, secrets)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestShortValuesOfASecretAreNotSearched(t *testing.T) {
	t.Parallel()
	if got := secretsOf(&corev1.Secret{Data: map[string][]byte{"a": []byte("12345"), "b": nil}}, ""); len(got) != 0 {
		t.Errorf("secrets %q, want none: short values occur in innocent words", got)
	}
	if got := secretsOf(nil, ""); len(got) != 0 {
		t.Errorf("secrets of no Secret: %q", got)
	}
}

// FuzzStatus holds the promise to MCM: its own parser understands every error,
// and its state machine sees none of its own words.
func FuzzStatus(f *testing.F) {
	for _, seed := range append(phrases(), "[ds1] a.vmdk", "]", "[[", "a [b] [c]", "OutOfRange", "https://u:p@h/", "\xff[\n]", "code = [NotFound] message = [x]",
		"Initiate [node drain", "Initiate://x@ node drain", "planted-secret", "abcdef.0123456789abcdef", strings.Repeat("[é", 3000)) {
		f.Add(seed, "cause ["+seed, byte(len(seed)))
	}
	kinds := errdefs.Kinds()
	secrets := secretsOf(&corev1.Secret{Data: map[string][]byte{"password": []byte("planted-secret")}}, "")
	f.Fuzz(func(t *testing.T, message, cause string, k byte) {
		kind := kinds[int(k)%len(kinds)]
		err := toStatus(&errdefs.Error{Kind: kind, Message: message, Err: errors.New(cause)}, secrets)
		got, ok := status.FromError(err)
		if !ok || got.Code() != codeOf(kind) {
			t.Fatalf("MCM reads %v, ok %v, from %q", got, ok, err)
		}
		if got.Message() != err.Message() {
			t.Errorf("MCM reads the message %q, sent was %q", got.Message(), err.Message())
		}
		for _, phrase := range phrases() {
			if strings.Contains(err.Error(), phrase) {
				t.Errorf("%q holds MCM's own %q", err, phrase)
			}
		}
		if strings.Contains(got.Message(), codes.OutOfRange.String()) && kind != errdefs.OutOfRange {
			t.Errorf("%q says OutOfRange for the kind %s", err, kind)
		}
		if strings.Contains(got.Message(), "planted-secret") {
			t.Errorf("%q holds a secret", err)
		}
		if again := clean(got.Message(), kind == errdefs.OutOfRange, secrets); again != got.Message() {
			t.Errorf("cleaned twice %q becomes %q", got.Message(), again)
		}
		if len(got.Message()) > maxMessageBytes {
			t.Errorf("message has %d bytes", len(got.Message()))
		}
	})
}

// TestAllPhrasesThatMCMSearchesAreNeutralized reads MCM's own source, so that a new
// version with a new state is noticed.
func TestAllPhrasesThatMCMSearchesAreNeutralized(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-f", "{{.Dir}}", "github.com/gardener/machine-controller-manager/pkg/util/provider/machineutils").Output()
	if err != nil {
		t.Fatalf("find MCM's source: %v", err)
	}
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(strings.TrimSpace(string(out)), "utils.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		literal, ok := spec.Values[0].(*ast.BasicLit)
		if !ok || literal.Kind != token.STRING || !strings.Contains(literal.Value, " ") {
			return true // a key or a word, not a sentence
		}
		found++
		if phrase := strings.Trim(literal.Value, `"`); !slices.Contains(phrases(), phrase) {
			t.Errorf("%s = %q is not neutralized", spec.Names[0].Name, phrase)
		}
		return true
	})
	if found != len(phrases()) {
		t.Errorf("MCM has %d phrases, the table %d", found, len(phrases()))
	}
}

func TestEveryKindHasACodeOfMCM(t *testing.T) {
	t.Parallel()
	seen := map[codes.Code]errdefs.Kind{}
	for _, kind := range errdefs.Kinds() {
		code := codeOf(kind)
		if code == codes.OK {
			t.Errorf("%s became OK", kind)
		}
		if other, twice := seen[code]; twice && code != codes.Internal {
			t.Errorf("%s and %s are both %s", kind, other, code)
		}
		seen[code] = kind
		if kind != errdefs.Unknown && code.String() != string(kind) {
			t.Errorf("%s became %s", kind, code)
		}
	}
	if got := codeOf("no kind"); got != codes.Internal {
		t.Errorf("an unknown kind became %s, want Internal", got)
	}
}

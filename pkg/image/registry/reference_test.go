// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

const someDigest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestReferencesMeanWhatTheyMeanElsewhere(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]registry.Reference{
		"alpine":                        {Registry: "docker.io", Repository: "library/alpine", Tag: "latest"},
		"alpine:3.20":                   {Registry: "docker.io", Repository: "library/alpine", Tag: "3.20"},
		"rancher/k3s:v1.34.1-k3s1":      {Registry: "docker.io", Repository: "rancher/k3s", Tag: "v1.34.1-k3s1"},
		"docker.io/alpine":              {Registry: "docker.io", Repository: "library/alpine", Tag: "latest"},
		"index.docker.io/library/a":     {Registry: "docker.io", Repository: "library/a", Tag: "latest"},
		"registry-1.docker.io/a/b:1":    {Registry: "docker.io", Repository: "a/b", Tag: "1"},
		"localhost/a":                   {Registry: "localhost", Repository: "a", Tag: "latest"},
		"localhost:5000/a/b":            {Registry: "localhost:5000", Repository: "a/b", Tag: "latest"},
		"Registry.Example.COM/a":        {Registry: "registry.example.com", Repository: "a", Tag: "latest"},
		"registry.example.com:5000/a:b": {Registry: "registry.example.com:5000", Repository: "a", Tag: "b"},
		"[fd00::1]:5000/a":              {Registry: "[fd00::1]:5000", Repository: "a", Tag: "latest"},
		"10.1.2.3/a@" + someDigest:      {Registry: "10.1.2.3", Repository: "a", Digest: someDigest},
		"a.b/c/d-e__f.g:T_1@" + someDigest: {
			Registry: "a.b", Repository: "c/d-e__f.g", Tag: "T_1", Digest: someDigest,
		},
	} {
		got, err := registry.ParseReference(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", in, diff)
		}
	}
}

func TestWrongReferencesAreAnsweredWithThePartThatIsWrong(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                                   "image is empty",
		"Alpine":                             `repository "library/Alpine"`,
		"alpine:":                            `tag ""`,
		"alpine:-1":                          `tag "-1"`,
		"alpine:" + strings.Repeat("x", 129): `tag "xxx`,
		"a//b":                               `repository "a//b"`,
		"a.b/":                               `repository ""`,
		"a/b/../c":                           `repository "a/b/../c"`,
		"a.b/c___d":                          `repository "c___d"`,
		"a.b:0/c":                            `registry "a.b:0"`,
		"a.b:70000/c":                        `registry "a.b:70000"`,
		"a.b:/c":                             `registry "a.b:"`,
		"-a.b/c":                             `registry "-a.b"`,
		"a..b/c":                             `registry "a..b"`,
		"https://a.b/c":                      "must not begin with a scheme",
		"a@sha256:123":                       "no digest",
		"a@" + someDigest + "@" + someDigest: "no digest",
		"a b":                                `repository "library/a b"`,
		"a.b/c?x=y":                          `repository "c?x=y"`,
		"a.b/" + strings.Repeat("x", 300):    "at most 255",
	} {
		ref, err := registry.ParseReference(in)
		if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is read as %+v, %v; want an error with %s", in, ref, err, want)
		}
	}
	for _, in := range []string{"user:hunter2@a.b/c", "https://user:hunter2@a.b/c?hunter2"} {
		if _, err := registry.ParseReference(in); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a reference with a password is answered %v", err)
		}
	}
}

// FuzzParseReference: what is accepted has one full form, and means the same to
// the library that sends the requests.
func FuzzParseReference(f *testing.F) {
	for _, seed := range []string{"alpine", "a/b:c", "a.b:5/c@" + someDigest, "[::1]:5/a", "localhost/a", "A.b/c", "a@b", "docker.io/library/x:y", "x--y/z__a.b", "://"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		ref, err := registry.ParseReference(in)
		if err != nil {
			if !errdefs.Is(err, errdefs.InvalidArgument) || len(err.Error()) > 2000 {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		again, err := registry.ParseReference(ref.String())
		if err != nil || again != ref {
			t.Fatalf("%q is %+v, whose full form is read as %+v, %v", in, ref, again, err)
		}
		theirs, err := name.ParseReference(ref.String())
		if err != nil {
			t.Fatalf("%q is accepted here and nowhere else: %v", in, err)
		}
		host := theirs.Context().RegistryStr()
		if host == name.DefaultRegistry {
			host = registry.DefaultRegistry
		}
		id := ref.Digest
		if id == "" {
			id = ref.Tag
		}
		if host != ref.Registry || theirs.Context().RepositoryStr() != ref.Repository || theirs.Identifier() != id {
			t.Fatalf("%q is %+v here and %s there", in, ref, theirs.Name())
		}
	})
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

func TestHostListsMatchAsVirtualContainerHostsDo(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		entry, host, path string
		want              bool
	}{
		{"registry.example.com", "registry.example.com", "a", true},
		{"Registry.Example.com", "registry.example.com", "a", true},
		{"registry.example.com", "registry.example.com:443", "a", true},
		{"registry.example.com", "registry.example.com:5000", "a", false},
		{"registry.example.com:5000", "registry.example.com:5000", "a", true},
		{"registry.example.com:5000", "registry.example.com", "a", false},
		{"https://registry.example.com", "registry.example.com", "a", true},
		{"https://registry.example.com", "registry.example.com:80", "a", false},
		{"http://registry.example.com", "registry.example.com:80", "a", true},
		{"http://registry.example.com", "registry.example.com", "a", true},
		{"registry.example.com/team", "registry.example.com", "team/app", true},
		{"registry.example.com/team", "registry.example.com", "team", true},
		{"registry.example.com/team/", "registry.example.com", "team", true},
		{"registry.example.com/team", "registry.example.com", "teams/app", false},
		{"registry.example.com/team", "registry.example.com", "", false},
		{"*.example.com", "registry.example.com", "a", true},
		{"*.example.com", "a.b.example.com", "a", true},
		{"*.example.com", "example.com", "a", false},
		{"*.example.com", "evil-example.com", "a", false},
		{"*.example.com", "registry.example.com.evil.org", "a", false},
		{"*.example.com:5000", "registry.example.com:5000", "a", true},
		{"reg*.example.*", "registry.example.org", "a", true},
		{"*", "anything.org", "a", true},
		{"*", "anything.org:5000", "a", false},
		{"10.0.0.0/8", "10.1.2.3", "a", true},
		{"10.0.0.0/8", "10.1.2.3:5000", "a", true},
		{"10.1.2.3/8", "10.9.9.9", "a", true},
		{"10.0.0.0/8", "11.1.2.3", "a", false},
		{"10.0.0.0/8", "ten.example.com", "a", false},
		{"fd00::/8", "[fd00::1]:5000", "a", true},
		{"::ffff:10.0.0.0/104", "10.1.2.3", "a", true},
		{"10.1.2.3", "10.1.2.3", "a", true},
		{"[fd00::1]:5000", "[fd00::1]:5000", "a", true},
		{"docker.io", "index.docker.io", "library/a", true},
		{"index.docker.io", "docker.io", "library/a", true},
		{"*.docker.io", "docker.io", "library/a", true},
		{"docker.io/library", "docker.io", "evil/a", false},
	} {
		list, err := parseHosts("list", []string{tc.entry})
		if err != nil {
			t.Errorf("%s: %v", tc.entry, err)
			continue
		}
		if entry, got := list.match(tc.host, tc.path); got != tc.want || got && entry != tc.entry {
			t.Errorf("%s matches %s/%s: %v, want %v", tc.entry, tc.host, tc.path, got, tc.want)
		}
	}
}

func TestWrongEntriesOfHostListsAreNamed(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{
		"", " ", "a b", "10.0.0.0/33", "ftp://a.b", "a.b:0", "a.b:99999", "a.b:", "a.b/../c", "a.b/UPPER!", "user@a.b",
		"https://user:hunter2@a.b", "user:hunter2@a.b", "-a.b", "a..b", "[::1", "a.b?hunter2", "http://", "/path", "*a*b*c*d*e*f*g*h*i*", "a\x00.b",
	} {
		_, err := parseHosts("allowed registries", []string{"good.example.com", entry})
		if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.HasPrefix(err.Error(), "allowed registries[1] ") {
			t.Errorf("%q is answered %v", entry, err)
		}
		if err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("a password is in %v", err)
		}
	}
}

// FuzzHosts: no entry and no host make trouble; an entry without * and path that
// is accepted matches itself.
func FuzzHosts(f *testing.F) {
	for _, seed := range []string{"a.b", "*.a.b:5", "10.0.0.0/8", "fd00::/8", "http://a/b", "[::1]:5", "docker.io", "a.b/c/d", "*"} {
		f.Add(seed, "x.a.b:5", "c/d")
	}
	f.Fuzz(func(t *testing.T, entry, host, path string) {
		list, err := parseHosts("list", []string{entry})
		if err != nil {
			if !errdefs.Is(err, errdefs.InvalidArgument) || len(err.Error()) > 2000 {
				t.Fatal(err)
			}
			return
		}
		if _, ok := list.match(host, path); ok && validHost(strings.ToLower(host)) && strings.Contains(entry, "example.com") && !strings.ContainsAny(entry, "*") && !strings.Contains(strings.ToLower(host), "example.com") {
			t.Fatalf("%q matches %q", entry, host)
		}
		if self := strings.ToLower(entry); validHost(self) {
			if _, ok := list.match(self, path); !ok {
				t.Fatalf("%q does not match itself", entry)
			}
		}
	})
}

// FuzzScrub: nothing of a secret or of a URL's query comes through.
func FuzzScrub(f *testing.F) {
	f.Add("Get \"https://cdn.example.com/a?token=", "\": EOF")
	f.Add("https://user:", "@host/")
	f.Add("http://a/http://b?x=http://", "")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "hunter2secret"
		s := newScrubber([]string{secret})
		s.learn("Bearer tokentoken", nil)
		got := s.text(before + secret + " tokentoken " + after + " aHVudGVyMnNlY3JldA==")
		if strings.Contains(got, secret) || strings.Contains(got, "tokentoken") || strings.Contains(got, "aHVudGVyMnNlY3JldA") || strings.Contains(got, "\n") || len(got) > maxText+3 {
			t.Fatalf("text is %q", got)
		}
		if u := scrubURLs("https://u:p@h/x?sig=12345" + " " + after); strings.Contains(strings.Fields(u)[0], "12345") || strings.Contains(strings.Fields(u)[0], "u:p") {
			t.Fatalf("text is %q", u)
		}
	})
}

func TestTheMostSpecificCredentialsCount(t *testing.T) {
	t.Parallel()
	chain, err := parseAuth([]byte(`{"auths": {
		"https://registry.example.com/v2/": {"username": "host", "password": "1"},
		"registry.example.com/team": {"username": "team", "password": "1"},
		"http://registry.example.com/team/app": {"username": "app", "password": "1"},
		"*.example.org": {"username": "star", "password": "1"},
		"a.example.org": {"auth": "YTpi"},
		"registry.example.com:5000": {"username": "port", "password": "1"},
		"https://index.docker.io/v1/": {"username": "hub", "password": "1"},
		"ghcr.io": {"identitytoken": "token", "auth": "PHRva2VuPjo="},
		"empty.example.com": {}
	}}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ host, path, want string }{
		{"registry.example.com", "x", "host"},
		{"registry.example.com:443", "x", "host"},
		{"registry.example.com", "team/x", "team"},
		{"registry.example.com", "teams/x", "host"},
		{"registry.example.com", "team/app", "app"},
		{"registry.example.com", "team/app/deep", "app"},
		{"registry.example.com:5000", "team/app", "port"},
		{"registry.example.com:5001", "x", ""},
		{"a.example.org", "x", "a"},
		{"b.example.org", "x", "star"},
		{"a.b.example.org", "x", ""},
		{"example.org", "x", ""},
		{"docker.io", "library/x", "hub"},
		{"empty.example.com", "x", ""},
	} {
		auth, ok := chain.find(tc.host, tc.path)
		config, err := auth.Authorization()
		if err != nil || config.Username != tc.want || ok != (tc.want != "") {
			t.Errorf("%s/%s gets %q, %v, %v; want %q", tc.host, tc.path, config.Username, ok, err, tc.want)
		}
	}
	auth, _ := chain.find("ghcr.io", "x")
	if config, err := auth.Authorization(); err != nil || config.IdentityToken != "token" {
		t.Errorf("the identity token is lost: %v", err)
	}
}

func TestWrongPullSecretsAreNamedWithoutTheirContent(t *testing.T) {
	t.Parallel()
	for secret, want := range map[string]string{
		`hunter2`:                                            "is not the JSON",
		`{"auths": ["hunter2"]}`:                             "is not the JSON",
		`{"auths": {"a.b": "hunter2"}}`:                      `entry "a.b"`,
		`{"auths": {"a.b": {"auth": "hunter2!"}}}`:           `entry "a.b"`,
		`{"auths": {"a.b": {"auth": "aHVudGVyMg=="}}}`:       `entry "a.b"`,
		`{"auths": {"a.b": {"password": 48879}}}`:            `entry "a.b"`,
		`{"auths": {"https://u:hunter2@a.b/": {"auth": 1}}}`: `entry "...@a.b/"`,
		`{"auths": {"[": {"username": "hunter2"}}}`:          `entry "["`,
		`{"auths": {"": {"username": "hunter2"}}}`:           `entry ""`,
	} {
		_, err := parseAuth([]byte(secret))
		if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "48879") {
			t.Errorf("%s is answered %v", secret, err)
		}
	}
}

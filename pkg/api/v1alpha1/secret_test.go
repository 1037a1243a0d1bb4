// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	mathrand "math/rand/v2"
	"strings"
	"testing"

	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// planted is in every value that is judged and must be in no error.
const planted = "PLANTED"

type secretData = map[string][]byte

func goodSecret() secretData {
	return secretData{
		"vsphereHost": []byte("vc.example.org"), "vsphereUsername": []byte("user@vsphere.local"), "vspherePassword": []byte("p|ä<ss>"),
		"userData": []byte("#!/bin/sh\necho | cat\n"), "token": []byte("t0k3n"), "other": []byte("a|b"),
	}
}

func certificate(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestSecretsWithoutFault(t *testing.T) {
	cert := string(certificate(t))
	sha1 := strings.Repeat("aB:", 19) + "0f"
	for name, change := range map[string]func(secretData){
		"as it stands":             func(secretData) {},
		"a port":                   func(d secretData) { d["vsphereHost"] = []byte("10.0.0.1:8443") },
		"IPv6 with a port":         func(d secretData) { d["vsphereHost"] = []byte("[fd00::1]:443") },
		"a URL":                    func(d secretData) { d["vsphereHost"] = []byte("https://vc.example.org:443/sdk") },
		"IPv6 without brackets":    func(d secretData) { d["vsphereHost"] = []byte("fd00::1") },
		"http on loopback":         func(d secretData) { d["vsphereHost"] = []byte("http://127.0.0.1:8989/sdk") },
		"line breaks at the end":   func(d secretData) { d["vsphereHost"], d["vsphereUsername"] = []byte("vc\n"), []byte("user\n") },
		"a thumbprint of blanks":   func(d secretData) { d["vsphereThumbprint"] = []byte(strings.Repeat("0f ", 20)) },
		"a name with underscores":  func(d secretData) { d["vsphereHost"] = []byte("vc_1") },
		"insecure":                 func(d secretData) { d["vsphereInsecureSSL"] = []byte("true") },
		"insecure left empty":      func(d secretData) { d["vsphereInsecureSSL"] = nil },
		"a SHA-1 thumbprint":       func(d secretData) { d["vsphereThumbprint"] = []byte(sha1) },
		"a SHA-256 thumbprint":     func(d secretData) { d["vsphereThumbprint"] = []byte(strings.Repeat("0f", 32)) },
		"a certificate":            func(d secretData) { d["vsphereCABundle"] = []byte(cert) },
		"certificates and remarks": func(d secretData) { d["vsphereCABundle"] = []byte("root:\n" + cert + "\nissuer:\n" + cert + "\n") },
		"empty userData":           func(d secretData) { d["userData"] = nil },
	} {
		t.Run(name, func(t *testing.T) {
			data := goodSecret()
			change(data)
			if err := v1alpha1.CheckSecret(data, mustLoad(t, full)); err != nil {
				t.Errorf("refused: %v", err)
			}
			if err := v1alpha1.CheckSecret(data, nil); err != nil {
				t.Errorf("refused as connection: %v", err)
			}
		})
	}
}

func TestMissingCredentialsAreUnauthenticated(t *testing.T) {
	const host, user, password = "secret.vsphereHost: Required", "secret.vsphereUsername: Required", "secret.vspherePassword: Required"
	for name, tc := range map[string]struct {
		change func(secretData)
		want   []string
	}{
		"no host":           {func(d secretData) { delete(d, "vsphereHost") }, []string{host}},
		"a blank host":      {func(d secretData) { d["vsphereHost"] = []byte(" \n") }, []string{host}},
		"an empty host":     {func(d secretData) { d["vsphereHost"] = []byte{} }, []string{host}},
		"no user":           {func(d secretData) { delete(d, "vsphereUsername") }, []string{user}},
		"no password":       {func(d secretData) { delete(d, "vspherePassword") }, []string{password}},
		"an empty password": {func(d secretData) { d["vspherePassword"] = nil }, []string{password}},
		"nothing at all":    {func(d secretData) { clear(d) }, []string{"env[1].valueFrom.secretKey: Not found", host, password, user}},
		"and a wrong host":  {func(d secretData) { d["vspherePassword"], d["vsphereHost"] = nil, []byte("http://x") }, []string{"secret.vsphereHost: Invalid", password}},
	} {
		t.Run(name, func(t *testing.T) {
			data := goodSecret()
			tc.change(data)
			compareFaults(t, v1alpha1.ValidateSecret(data, mustLoad(t, full)), tc.want)
			if err := v1alpha1.CheckSecret(data, nil); !errdefs.Is(err, errdefs.Unauthenticated) {
				t.Errorf("CheckSecret = %v, want Unauthenticated", err)
			}
		})
	}
	if err := v1alpha1.CheckSecret(nil, nil); !errdefs.Is(err, errdefs.Unauthenticated) {
		t.Errorf("CheckSecret without data = %v, want Unauthenticated", err)
	}
}

func TestMalformedSecretValuesAreInvalid(t *testing.T) {
	cert := certificate(t)
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte(planted)})
	broken := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte(planted)})
	noise := make([]byte, 60000)
	source := mathrand.NewChaCha8([32]byte{})
	_, _ = source.Read(noise)
	for name, tc := range map[string]struct {
		key, value string
		want       []string
	}{
		"a host by http":             {"vsphereHost", "http://PLANTED", []string{"secret.vsphereHost: http is for loopback"}},
		"a host with a user":         {"vsphereHost", "https://user:PLANTED@vc", []string{"secret.vsphereHost: without user"}},
		"a host with a path":         {"vsphereHost", "https://vc/PLANTED", []string{"secret.vsphereHost: path can be /sdk only"}},
		"a host with a query":        {"vsphereHost", "https://vc/sdk?PLANTED", []string{"secret.vsphereHost: an https URL"}},
		"a host and a path":          {"vsphereHost", "vc/PLANTED", []string{"secret.vsphereHost: an https URL"}},
		"a host with a blank":        {"vsphereHost", "PLANTED vc", []string{"secret.vsphereHost: an https URL"}},
		"a host and a line break":    {"vsphereHost", "PLANTED\nx", []string{"secret.vsphereHost: one line"}},
		"a host's port beyond":       {"vsphereHost", "PLANTED:65536", []string{"secret.vsphereHost: between 1 and 65535"}},
		"a host's port 0":            {"vsphereHost", "PLANTED:0", []string{"secret.vsphereHost: between 1 and 65535"}},
		"IPv6 that is none":          {"vsphereHost", "fd00::1::2", []string{"secret.vsphereHost: an https URL"}},
		"a long host":                {"vsphereHost", strings.Repeat(planted, 100), []string{"secret.vsphereHost: Too long"}},
		"a URL without host":         {"vsphereHost", "https://", []string{"secret.vsphereHost: an https URL"}},
		"a user with a line break":   {"vsphereUsername", "PLANTED\nx", []string{"secret.vsphereUsername: echo -n"}},
		"a long user":                {"vsphereUsername", strings.Repeat(planted, 200), []string{"secret.vsphereUsername: Too long"}},
		"a password with line break": {"vspherePassword", "PLANTED\r\n", []string{"secret.vspherePassword: echo -n"}},
		"a password with NUL":        {"vspherePassword", "PLANTED\x00", []string{"secret.vspherePassword: NUL"}},
		"a long password":            {"vspherePassword", strings.Repeat(planted, 200), []string{"secret.vspherePassword: Too long"}},
		"a boolean in words":         {"vsphereInsecureSSL", "PLANTED", []string{"secret.vsphereInsecureSSL: true or false"}},
		"a short thumbprint":         {"vsphereThumbprint", "AA:BB", []string{"secret.vsphereThumbprint: SHA-1 or SHA-256"}},
		"a thumbprint of 21 bytes":   {"vsphereThumbprint", strings.Repeat("AA", 21), []string{"secret.vsphereThumbprint: SHA-1 or SHA-256"}},
		"no PEM":                     {"vsphereCABundle", planted, []string{"secret.vsphereCABundle: certificates in PEM"}},
		"a key in the bundle":        {"vsphereCABundle", string(cert) + string(key), []string{"secret.vsphereCABundle: block 2 must be a CERTIFICATE"}},
		"no certificate within":      {"vsphereCABundle", string(broken), []string{"secret.vsphereCABundle: block 1 must be a well-formed"}},
		"half a certificate":         {"vsphereCABundle", string(cert) + string(cert[:60]), []string{"secret.vsphereCABundle: certificates in PEM"}},
		"a huge bundle":              {"vsphereCABundle", strings.Repeat(planted, 80000), []string{"secret.vsphereCABundle: Too long"}},
		"an env value with a pipe":   {"token", "PLANTED|x", []string{"secret.token: as value of env K3S_TOKEN must not contain '|'"}},
		"an env value with NUL":      {"token", "PLANTED\x00", []string{"secret.token: as value of env K3S_TOKEN must not contain NUL"}},
		"an env value not UTF-8":     {"token", "PLANTED\xff", []string{"secret.token: UTF-8"}},
		"a long env value":           {"token", strings.Repeat(planted, 10000), []string{"env: Too long"}},
		"much userData":              {"userData", strings.Repeat("x", v1alpha1.MaxUserDataBytes+1), []string{"secret.userData: Too long"}},
		"userData too dense":         {"userData", string(noise), []string{"secret.userData: after gzip and base64"}},
	} {
		t.Run(name, func(t *testing.T) {
			data := goodSecret()
			data[tc.key] = []byte(tc.value)
			compareFaults(t, v1alpha1.ValidateSecret(data, mustLoad(t, full)), tc.want)
			err := v1alpha1.CheckSecret(data, mustLoad(t, full))
			if !errdefs.Is(err, errdefs.InvalidArgument) {
				t.Fatalf("CheckSecret = %v, want InvalidArgument", err)
			}
			for _, value := range []string{planted, "p|ä<ss>", "t0k3n", "user@vsphere.local"} {
				if strings.Contains(err.Error(), value) {
					t.Errorf("error %q has the value %q", err, value)
				}
			}
		})
	}
}

func TestSecretKeyOfEnvMustExist(t *testing.T) {
	data := goodSecret()
	delete(data, "token")
	err := v1alpha1.CheckSecret(data, mustLoad(t, full))
	if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), `env[1].valueFrom.secretKey: Not found: "token"`) {
		t.Errorf("CheckSecret = %v", err)
	}
	if err := v1alpha1.CheckSecret(data, nil); err != nil {
		t.Errorf("a call that makes nothing asks for it: %v", err)
	}
}

func TestUserDataThatIsRunMustExist(t *testing.T) {
	s := mustLoad(t, small)
	s.Command, s.UserData = nil, &v1alpha1.UserData{Exec: ptr.To(true), Publish: ptr.To(false)}
	for _, empty := range []string{"", " \n"} {
		data := goodSecret()
		data["userData"] = []byte(empty)
		compareFaults(t, v1alpha1.ValidateSecret(data, s), []string{"secret.userData: Required"})
		if err := v1alpha1.CheckSecret(data, s); !errdefs.Is(err, errdefs.InvalidArgument) {
			t.Errorf("CheckSecret = %v, want InvalidArgument", err)
		}
	}
	data := goodSecret()
	data["userData"] = bytes.Repeat([]byte("x"), 48<<10)
	compareFaults(t, v1alpha1.ValidateSecret(data, s), nil)
	data["userData"] = append(data["userData"], 'x') // small when compressed, but it is not compressed here
	compareFaults(t, v1alpha1.ValidateSecret(data, s), []string{"secret.userData: after base64"})
	if strings.Contains(v1alpha1.CheckSecret(data, s).Error(), "xx") {
		t.Error("the error has the value")
	}
}

func TestUserDataThatGoesNowhereIsNotJudged(t *testing.T) {
	s := mustLoad(t, small)
	s.UserData = &v1alpha1.UserData{Publish: ptr.To(false)}
	data := goodSecret()
	data["userData"] = bytes.Repeat([]byte{0}, v1alpha1.MaxUserDataBytes+1)
	if errs := v1alpha1.ValidateSecret(data, s); len(errs) > 0 {
		t.Errorf("judged: %v", errs)
	}
}

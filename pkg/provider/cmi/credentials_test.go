// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	cmiv1 "github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/cmi/v1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
)

const ownPassword = "planted-own-password"

func ownValues() map[string][]byte {
	return map[string][]byte{
		v1alpha1.SecretHost: []byte("own.example.org"), v1alpha1.SecretUsername: []byte("own-user"), v1alpha1.SecretPassword: []byte(ownPassword),
	}
}

// kubelet writes a directory as the kubelet mounts a Secret: the files are links
// through ..data, which is turned to a new directory for each version.
type kubelet struct {
	testing.TB

	dir     string
	version int
}

func newKubelet(t testing.TB, data map[string][]byte) *kubelet {
	t.Helper()
	k := &kubelet{TB: t, dir: t.TempDir()}
	k.write(data)
	for key := range data {
		if err := os.Symlink(filepath.Join("..data", key), filepath.Join(k.dir, key)); err != nil {
			t.Fatal(err)
		}
	}
	return k
}

func (k *kubelet) write(data map[string][]byte) {
	k.Helper()
	k.version++
	version := fmt.Sprintf("..2026_01_01_%d", k.version)
	if err := os.Mkdir(filepath.Join(k.dir, version), 0o700); err != nil {
		k.Fatal(err)
	}
	for key, value := range data {
		if err := os.WriteFile(filepath.Join(k.dir, version, key), value, 0o600); err != nil {
			k.Fatal(err)
		}
	}
	temporary, link := filepath.Join(k.dir, "..data_tmp"), filepath.Join(k.dir, "..data")
	old, _ := os.Readlink(link) // there is none at first
	if err := errors.Join(os.Symlink(version, temporary), os.Rename(temporary, link)); err != nil {
		k.Fatal(err)
	}
	if old != "" {
		if err := os.RemoveAll(filepath.Join(k.dir, old)); err != nil {
			k.Fatal(err)
		}
	}
}

func TestOwnCredentialsAreForRequestsThatBringNoneOfThese(t *testing.T) {
	t.Parallel()
	own := newKubelet(t, ownValues())
	d := &stub{}
	r := newRig(t, d, ServerOptions{Own: OwnCredentials(own.dir)})
	client := r.machines()
	with := func(more map[string][]byte) map[string][]byte {
		all := ownValues()
		for key, value := range more {
			all[key] = value
		}
		return all
	}
	for name, tc := range map[string]struct{ brought, want map[string][]byte }{
		"no Secret":           {nil, ownValues()},
		"userData alone":      {map[string][]byte{"userData": []byte("x")}, with(map[string][]byte{"userData": []byte("x")})},
		"values for env":      {map[string][]byte{"token": []byte("y")}, with(map[string][]byte{"token": []byte("y")})},
		"all":                 {rigSecret(), rigSecret()},
		"an empty host":       {map[string][]byte{v1alpha1.SecretHost: {}}, map[string][]byte{v1alpha1.SecretHost: {}}},
		"a key in other case": {map[string][]byte{"VSPHEREHOST": []byte("x")}, with(map[string][]byte{"VSPHEREHOST": []byte("x")})},
	} {
		for _, call := range callsWith(client, tc.brought) {
			if err := call(rigContext(t)); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if diff := cmp.Diff(tc.want, d.lastSecret().Data); diff != "" {
				t.Errorf("%s: %s", name, diff)
			}
		}
	}
}

func TestOurPasswordNeverGoesToAHostThatSomebodyElseNames(t *testing.T) {
	t.Parallel()
	d := &stub{}
	r := newRig(t, d, ServerOptions{Own: OwnCredentials(newKubelet(t, ownValues()).dir)})
	for _, key := range v1alpha1.ConnectionKeys() {
		for _, value := range []string{"attacker.example.org", ""} {
			brought := map[string][]byte{key: []byte(value)}
			for _, call := range callsWith(r.machines(), brought) {
				if err := call(rigContext(t)); err != nil {
					t.Fatal(err)
				}
				got := d.lastSecret().Data
				if diff := cmp.Diff(brought, got); diff != "" {
					t.Errorf("a request with %s=%q got values of ours: %s", key, value, diff)
				}
			}
		}
	}
}

func TestWithoutOwnCredentialsThereIsNoSecret(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]ServerOptions{
		"none wanted":        {},
		"an empty directory": {Own: OwnCredentials(t.TempDir())},
	} {
		d := &stub{}
		client := newRig(t, d, options).machines()
		for _, call := range callsWith(client, nil) {
			if err := call(rigContext(t)); err != nil {
				t.Fatal(err)
			}
			if got := d.lastSecret(); got != nil {
				t.Errorf("%s: the driver gets %v", name, got)
			}
		}
	}
}

func TestCredentialsThatCannotBeReadFailTheCallsThatNeedThem(t *testing.T) {
	t.Parallel()
	d := &stub{}
	dir := filepath.Join(t.TempDir(), "absent")
	client := newRig(t, d, ServerOptions{Own: OwnCredentials(dir)}).machines()
	for _, call := range callsWith(client, nil) {
		if s := status.Convert(call(rigContext(t))); s.Code() != codes.FailedPrecondition || !strings.Contains(s.Message(), dir) {
			t.Errorf("got %v", s)
		}
	}
	if calls := d.noted(); len(calls) > 0 {
		t.Errorf("the driver got %v", calls)
	}
	for _, call := range callsWith(client, rigSecret()) {
		if err := call(rigContext(t)); err != nil {
			t.Errorf("a request with its own: %v", err)
		}
	}
}

func TestAFileInPlaceOfADirectoryAndADirectoryInPlaceOfAFileAreErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(ownPassword), 0o600); err != nil {
		t.Fatal(err)
	}
	odd := t.TempDir()
	if err := os.Mkdir(filepath.Join(odd, v1alpha1.SecretPassword), 0o700); err != nil {
		t.Fatal(err)
	}
	loop := t.TempDir()
	if err := os.Symlink("..data", filepath.Join(loop, "..data")); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, odd, loop} {
		if got, err := OwnCredentials(dir)(); err == nil || strings.Contains(err.Error(), ownPassword) {
			t.Errorf("%s is read as %v, %v", dir, got, err)
		}
	}
}

func TestFilesThatAreNoKeysAreNotRead(t *testing.T) {
	t.Parallel()
	data := ownValues()
	data["ssh-privatekey"], data["userData"] = []byte("x"), []byte("y")
	got, err := OwnCredentials(newKubelet(t, data).dir)()
	if diff := cmp.Diff(ownValues(), got); diff != "" || err != nil {
		t.Errorf("%s, %v", diff, err)
	}
	// A directory made by hand has no links.
	plain := t.TempDir()
	if err := os.WriteFile(filepath.Join(plain, v1alpha1.SecretPassword), []byte("p"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, err := OwnCredentials(plain)(); err != nil || len(got) != 1 || string(got[v1alpha1.SecretPassword]) != "p" {
		t.Errorf("%v, %v", got, err)
	}
}

func TestARotatedSecretTakesEffectAtTheNextCall(t *testing.T) {
	t.Parallel()
	own := newKubelet(t, ownValues())
	d := &stub{}
	client := newRig(t, d, ServerOptions{Own: OwnCredentials(own.dir)}).machines()
	for i := range 3 {
		data := ownValues()
		data[v1alpha1.SecretPassword] = fmt.Appendf(nil, "password-%d", i)
		own.write(data)
		if _, err := client.ListMachines(rigContext(t), &cmiv1.ListMachinesRequest{}); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(data, d.lastSecret().Data); diff != "" {
			t.Error(diff)
		}
	}
}

func TestARotationUnderLoadMixesNothingAndShowsNoGap(t *testing.T) {
	t.Parallel()
	version := func(i int) map[string][]byte {
		data := map[string][]byte{}
		for _, key := range v1alpha1.ConnectionKeys() {
			data[key] = fmt.Appendf(nil, "version-%d", i)
		}
		return data
	}
	own := newKubelet(t, version(0))
	read := OwnCredentials(own.dir)
	done := make(chan struct{})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				got, err := read()
				if err != nil {
					// It may not win against who rotates without a pause; but then it says so.
					if !strings.Contains(err.Error(), "change all the time") {
						t.Error(err)
					}
					continue
				}
				first := got[v1alpha1.SecretHost]
				for _, key := range v1alpha1.ConnectionKeys() {
					if string(got[key]) != string(first) || len(first) == 0 {
						t.Errorf("one read has %q", got)
						return
					}
				}
			}
		})
	}
	for i := range 150 {
		own.write(version(i + 1))
	}
	close(done)
	wg.Wait()
	if got, err := read(); err != nil || string(got[v1alpha1.SecretHost]) != "version-150" {
		t.Errorf("in the end: %q, %v", got, err)
	}
}

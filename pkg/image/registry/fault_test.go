// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry_test

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

const (
	user, password = "robot", "hunter2-is-the-password"
	token          = "eyJhbGciOiJub25lIn0.bearer-token"
	signature      = "X-Amz-Signature=5ecre75ecre7"
)

// wantNoSecret fails when an error has something that nobody should read.
func wantNoSecret(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := fmt.Sprintf("%v %+v %#v", err, err, err)
	basic := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	for _, secret := range []string{password, token, "5ecre7", basic} {
		if strings.Contains(text, secret) {
			t.Errorf("%s is in %s", secret, text)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\r\x1b") {
		t.Errorf("error is no line: %q", err)
	}
}

func pullSecret(keys ...string) []byte {
	var auths []string
	for _, key := range keys {
		auths = append(auths, fmt.Sprintf(`%q: {"username": %q, "password": %q}`, key, user, password))
	}
	return []byte(`{"auths": {` + strings.Join(auths, ",") + `}}`)
}

// registryError answers with an error that repeats everything it was told.
func registryError(w http.ResponseWriter, r *http.Request, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `{"errors":[{"code":%q,"message":%q,"detail":{"headers":%q}}]}`, code,
		message+" for "+r.Header.Get("Authorization")+" with "+password+"\n see https://u:"+password+"@a.b/?"+signature, r.Header.Get("Authorization"))
}

func TestAnswersOfRegistriesHaveAKind(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		status        int
		code          string
		authenticated bool
		kind          errdefs.Kind
		want          string
		tries         int
	}{
		{404, "MANIFEST_UNKNOWN", false, errdefs.InvalidArgument, "has no such image: MANIFEST_UNKNOWN: words for", 1},
		{404, "NAME_UNKNOWN", true, errdefs.InvalidArgument, "NAME_UNKNOWN: words for", 1},
		{400, "NAME_INVALID", true, errdefs.InvalidArgument, "NAME_INVALID", 1},
		{401, "UNAUTHORIZED", false, errdefs.Unauthenticated, "wants credentials, of which the pull secret has none", 1},
		{401, "UNAUTHORIZED", true, errdefs.Unauthenticated, "does not accept the credentials", 1},
		{403, "DENIED", false, errdefs.Unauthenticated, "wants credentials", 1},
		{401, "DENIED", false, errdefs.Unauthenticated, "wants credentials", 1},
		{403, "DENIED", true, errdefs.PermissionDenied, "denies a to the user", 1},
		{401, "DENIED", true, errdefs.PermissionDenied, "denies a to the user", 1},
		{404, "DENIED", false, errdefs.Unauthenticated, "wants credentials", 1},
		{404, "DENIED", true, errdefs.PermissionDenied, "denies a to the user", 1},
		{403, "", true, errdefs.PermissionDenied, "denies a to the user", 1},
		{429, "TOOMANYREQUESTS", true, errdefs.Unavailable, "TOOMANYREQUESTS: words", 4},
		{403, "TOOMANYREQUESTS", true, errdefs.Unavailable, "wants fewer requests", 4},
		{500, "UNKNOWN", true, errdefs.Unavailable, "UNKNOWN: words", 4},
		{503, "", true, errdefs.Unavailable, "fails", 4},
		{418, "TEAPOT", true, errdefs.FailedPrecondition, "TEAPOT", 1},
	} {
		t.Run(fmt.Sprint(tc.status, tc.code, tc.authenticated), func(t *testing.T) {
			t.Parallel()
			h := newHub(t)
			h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
				_, _, sent := r.BasicAuth()
				switch {
				case strings.Contains(r.URL.Path, "/manifests/"):
					registryError(w, r, tc.status, tc.code, "words")
				case tc.authenticated && !sent:
					w.Header().Set("WWW-Authenticate", `Basic realm="x"`)
					w.WriteHeader(http.StatusUnauthorized)
				default:
					return false
				}
				return true
			})
			opts := h.options()
			opts.Auth = pullSecret("other.example.com")
			if tc.authenticated {
				opts.Auth = pullSecret(h.host())
			}
			_, err := registry.Resolve(t.Context(), h.ref("a:v1"), opts)
			wantError(t, err, tc.kind, tc.want)
			wantError(t, err, tc.kind, "pull "+h.host()+"/a:v1: ")
			wantNoSecret(t, err)
			if n := h.count("/manifests/"); n != tc.tries {
				t.Errorf("%d tries, want %d", n, tc.tries)
			}
		})
	}
}

func TestWhatPassesIsTriedUntilItWorks(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	want := newFixture(noise(1, 10)).push(h, "a", "v1")["digest"]
	var calls atomic.Int64
	h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		switch calls.Add(1) {
		case 1:
			w.Header().Set("Retry-After", "20")
			w.WriteHeader(http.StatusTooManyRequests)
		case 2, 3, 4, 5, 6:
			w.WriteHeader(http.StatusBadGateway)
		default:
			return false
		}
		return true
	})
	opts, recorder := h.options(), &recordingClock{}
	opts.Clock, opts.Attempts = recorder, 7
	if image := resolve(t, h.ref("a:v1"), opts); image.Digest != want {
		t.Errorf("image is %s", image.Digest)
	}
	s := time.Second
	if diff := gocmp.Diff([]time.Duration{20 * s, 2 * s, 4 * s, 8 * s, 16 * s, 30 * s}, recorder.waits); diff != "" {
		t.Errorf("pauses (-want +got):\n%s", diff)
	}
}

// recordingClock is hasty and remembers what it was asked for.
type recordingClock struct {
	hasty
	waits []time.Duration
}

func (c *recordingClock) NewTimer(d time.Duration) clock.Timer {
	c.waits = append(c.waits, d)
	return c.hasty.NewTimer(d)
}

// guard wants a bearer token, which its /token gives for the right credentials.
type guard struct {
	mu     sync.Mutex
	scopes []string
	posted []string
}

func (g *guard) fault(host string) func(w http.ResponseWriter, r *http.Request) bool {
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == "/token" {
			name, pass, _ := r.BasicAuth()
			g.mu.Lock()
			g.scopes = append(g.scopes, r.URL.Query().Get("scope"))
			if r.Method == http.MethodPost {
				g.posted = append(g.posted, r.FormValue("grant_type")+" "+r.FormValue("refresh_token"))
			}
			g.mu.Unlock()
			if r.Method == http.MethodPost && r.FormValue("refresh_token") == password || name == user && pass == password {
				_, _ = fmt.Fprintf(w, `{"token": %q}`, token)
				return true
			}
			registryError(w, r, http.StatusUnauthorized, "UNAUTHORIZED", "who are you")
			return true
		}
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="hub",scope="repository:a:pull"`, host))
			w.WriteHeader(http.StatusUnauthorized)
			return true
		}
		return false
	}
}

func TestTokensAreFetchedWithThePullSecret(t *testing.T) {
	t.Parallel()
	h, f, g := newHub(t), newFixture(noise(1, 10)), &guard{}
	f.push(h, "a", "v1")
	h.breakWith(g.fault(h.host()))
	opts := h.options()
	for name, auth := range map[string][]byte{
		"user":           pullSecret("https://" + h.host() + "/v2/"),
		"identity token": fmt.Appendf(nil, `{"auths": {%q: {"identitytoken": %q, "auth": "PHRva2VuPjo="}}}`, h.host(), password),
	} {
		opts.Auth = auth
		image, err := registry.Resolve(t.Context(), h.ref("a:v1"), opts)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		dir := t.TempDir()
		files, err := image.Download(t.Context(), dir, registry.DownloadOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wantFiles(t, dir, files, f.layers...)
		image.Close()
	}
	if len(g.posted) == 0 || g.posted[0] != "refresh_token "+password {
		t.Errorf("the identity token was used as %v", g.posted)
	}
	for _, scope := range g.scopes {
		if scope != "" && scope != "repository:a:pull" {
			t.Errorf("the scope %q was asked for", scope)
		}
	}
	opts.Auth = []byte(strings.ReplaceAll(string(pullSecret(h.host())), password, "wrong-password"))
	_, err := registry.Resolve(t.Context(), h.ref("a:v1"), opts)
	wantError(t, err, errdefs.Unauthenticated, "does not accept the credentials of the pull secret: UNAUTHORIZED: who are you")
	if strings.Contains(err.Error(), "wrong-password") {
		t.Errorf("the password is in %v", err)
	}
	opts.Auth = pullSecret("other.example.com")
	_, err = registry.Resolve(t.Context(), h.ref("a:v1"), opts)
	wantError(t, err, errdefs.Unauthenticated, "the pull secret has none")
}

func TestAStrangeTokenServerIsNoLeak(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"no token": `{"refresh_token": "` + token + `", "x": "` + password + `"}`,
		"no JSON":  password + token,
		"another":  `{"token": 5}`,
	} {
		h, g := newHub(t), &guard{}
		inner := g.fault(h.host())
		h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == "/token" {
				_, _ = w.Write([]byte(answer))
				return true
			}
			return inner(w, r)
		})
		opts := h.options()
		opts.Auth = pullSecret(h.host())
		_, err := registry.Resolve(t.Context(), h.ref("a:v1"), opts)
		if !errdefs.Is(err, errdefs.FailedPrecondition) {
			t.Errorf("%s: %s: %v", name, errdefs.KindOf(err), err)
		}
		wantNoSecret(t, err)
	}
}

func TestCredentialsDoNotFollowRedirects(t *testing.T) {
	t.Parallel()
	for name, host := range map[string]string{"another name": "localhost", "another port": "127.0.0.1"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h, f, g := newHub(t), newFixture(noise(1, 3*mib)), &guard{}
			f.push(h, "a", "v1")
			inner := g.fault(h.host())
			var broken atomic.Bool
			storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				for _, header := range []string{"Authorization", "Cookie", "Referer"} {
					if got := r.Header.Get(header); got != "" {
						t.Errorf("%s went to the storage: %s", header, got)
					}
				}
				if broken.Load() {
					registryError(w, r, http.StatusBadGateway, "X", signature)
					return
				}
				if r.URL.RawQuery != signature {
					t.Errorf("query is %q", r.URL.RawQuery)
				}
				cutAfter(f.layers[0], mib, true)(w, r)
			}))
			defer storage.Close()
			_, port, _ := net.SplitHostPort(storage.Listener.Addr().String())
			h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
				if inner(w, r) {
					return true
				}
				if !isBlob(r, f.layers[0]) {
					return false
				}
				http.Redirect(w, r, "http://"+net.JoinHostPort(host, port)+r.URL.Path+"?"+signature, http.StatusTemporaryRedirect)
				return true
			})
			opts := h.options()
			opts.Auth = pullSecret(h.host())
			opts.Insecure = append(opts.Insecure, net.JoinHostPort(host, port))
			image, dir := resolve(t, h.ref("a:v1"), opts), t.TempDir()
			files, err := image.Download(t.Context(), dir, registry.DownloadOptions{})
			if err != nil {
				t.Fatal(err)
			}
			wantFiles(t, dir, files, f.layers...)

			// What goes wrong there is no reason to show the signature.
			broken.Store(true)
			_, err = image.Download(t.Context(), t.TempDir(), registry.DownloadOptions{})
			wantError(t, err, errdefs.Unavailable, "fails")
			wantNoSecret(t, err)
			storage.Close()
			_, err = image.Download(t.Context(), t.TempDir(), registry.DownloadOptions{})
			wantError(t, err, errdefs.Unavailable, "connection refused")
			wantNoSecret(t, err)

			// Neither is an unlisted host asked without encryption.
			opts.Insecure = opts.Insecure[:1]
			_, err = resolve(t, h.ref("a:v1"), opts).Download(t.Context(), t.TempDir(), registry.DownloadOptions{})
			wantError(t, err, errdefs.FailedPrecondition, "would be asked with http: only hosts that are listed as insecure are")
			wantNoSecret(t, err)
		})
	}
}

func TestAHostThatARegistryRedirectsToMayGiveATokenOfItsOwn(t *testing.T) {
	t.Parallel()
	h, f := newHub(t), newFixture(noise(1, mib))
	f.push(h, "a", "v1")
	var host string
	storage := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch auth := r.Header.Get("Authorization"); {
		case r.URL.Path == "/token" && auth == "":
			_, _ = w.Write([]byte(`{"token": "of-the-storage"}`))
		case auth == "Bearer of-the-storage":
			cutAfter(f.layers[0], mib, true)(w, r)
		case auth == "":
			w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="s",scope="x"`, host))
			w.WriteHeader(http.StatusUnauthorized)
		default:
			t.Errorf("the storage got %s", auth)
		}
	}))
	defer storage.Close()
	_, port, _ := net.SplitHostPort(storage.Listener.Addr().String())
	host = net.JoinHostPort("localhost", port)
	inner := (&guard{}).fault(h.host())
	h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		if inner(w, r) {
			return true
		}
		if isBlob(r, f.layers[0]) {
			http.Redirect(w, r, "http://"+host+r.URL.Path, http.StatusFound)
			return true
		}
		return false
	})
	opts := h.options()
	opts.Auth, opts.Insecure = pullSecret(h.host()), append(opts.Insecure, host)
	dir := t.TempDir()
	files, err := resolve(t, h.ref("a:v1"), opts).Download(t.Context(), dir, registry.DownloadOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, files, f.layers...)
}

func TestRedirectsToWhatOnlyWeCanReachAreRefused(t *testing.T) {
	t.Parallel()
	h, f := newHub(t), newFixture(noise(1, 10))
	f.push(h, "a", "v1")
	image := resolve(t, h.ref("a:v1"), h.options())
	for _, to := range []string{"https://169.254.169.254/latest/meta-data", "https://[::1]:1/", "https://0.0.0.0/", "https://[fe80::1]/", "https://127.0.0.2/"} {
		h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
			if !isBlob(r, f.layers[0]) {
				return false
			}
			http.Redirect(w, r, to, http.StatusFound)
			return true
		})
		_, err := image.Download(t.Context(), t.TempDir(), registry.DownloadOptions{})
		wantError(t, err, errdefs.FailedPrecondition, "which is an address that only we can reach")
	}
	h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/v2/" {
			return false
		}
		http.Redirect(w, r, "https://169.254.169.254/latest/meta-data", http.StatusFound)
		return true
	})
	_, err := registry.Resolve(t.Context(), h.ref("a:v1"), h.options())
	wantError(t, err, errdefs.FailedPrecondition, "which is an address that only we can reach")
	h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !isBlob(r, f.layers[0]) {
			return false
		}
		http.Redirect(w, r, r.URL.Path, http.StatusFound)
		return true
	})
	_, err = image.Download(t.Context(), t.TempDir(), registry.DownloadOptions{})
	wantError(t, err, errdefs.FailedPrecondition, "redirects more than 10 times")
}

func TestAPullEndsWithItsContextWhileItWaitsToTryAgain(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		if strings.Contains(r.URL.Path, "/manifests/") {
			w.Header().Set("Retry-After", "30")
			w.WriteHeader(http.StatusServiceUnavailable)
			time.AfterFunc(50*time.Millisecond, cancel)
			return true
		}
		return false
	})
	opts := h.options()
	opts.Clock = nil
	begin := time.Now()
	_, err := registry.Resolve(ctx, h.ref("a:v1"), opts)
	if !errdefs.Is(err, errdefs.Canceled) || !errors.Is(err, context.Canceled) || time.Since(begin) > 10*time.Second {
		t.Errorf("after %s: %s: %v", time.Since(begin), errdefs.KindOf(err), err)
	}
}

func TestAManifestThatNeverEndsIsGivenUp(t *testing.T) {
	t.Parallel()
	h := newHub(t)
	h.breakWith(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/manifests/") {
			return false
		}
		_, _ = w.Write([]byte("{"))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	})
	opts := h.options()
	opts.Stall, opts.Attempts = 50*time.Millisecond, 2
	_, err := registry.Resolve(t.Context(), h.ref("a:v1"), opts)
	wantError(t, err, errdefs.Unavailable, "does not answer within 200ms")
	if n := h.count("/manifests/"); n != 2 {
		t.Errorf("%d tries", n)
	}
}

func TestARegistryThatIsNotThereIsUnavailable(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := listener.Addr().String()
	t.Cleanup(func() { _ = listener.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := closed.Addr().String()
	_ = closed.Close()
	for name, tc := range map[string]struct{ host, want string }{
		"refused":   {gone, "connection refused"},
		"no name":   {"registry.invalid", "cannot be found"},
		"no answer": {silent, "does not answer"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := registry.Resolve(t.Context(), parse(t, tc.host+"/a:v1"), registry.Options{Clock: hasty{}, Stall: 50 * time.Millisecond, Attempts: 2})
			wantError(t, err, errdefs.Unavailable, tc.want)
			_, err = registry.Resolve(t.Context(), parse(t, tc.host+"/a:v1"), registry.Options{Insecure: []string{tc.host}, Clock: hasty{}, Stall: 50 * time.Millisecond, Attempts: 2})
			wantError(t, err, errdefs.Unavailable, "")
		})
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vmware/govmomi/vim25/soap"
)

// transfers is what a server saw of requests that are not SOAP.
type transfers struct {
	mu      sync.Mutex
	answers []int    // of the next requests; 200 when there are no more
	seen    []string // method, path, content
	cookies [][]string
}

func (x *transfers) serve(w http.ResponseWriter, r *http.Request) {
	content, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seen = append(x.seen, r.Method+" "+r.URL.Path+" "+string(content))
	var session []string
	for _, c := range r.Cookies() {
		if c.Name == soap.SessionCookieName {
			session = append(session, c.Value)
		}
	}
	x.cookies = append(x.cookies, session)
	status := http.StatusOK
	if len(x.answers) > 0 {
		status, x.answers = x.answers[0], x.answers[1:]
	}
	w.Header().Set("Location", "/elsewhere")
	w.WriteHeader(status)
}

// expect sets the next answers and forgets what was seen.
func (x *transfers) expect(answers ...int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.answers, x.seen, x.cookies = answers, nil, nil
}

// do sends a request and returns the status of its answer.
func do(t *testing.T, client *Client, method, path string, body io.Reader) (int, error) {
	t.Helper()
	u := client.Vim().URL()
	u.Path = path
	req, err := http.NewRequestWithContext(t.Context(), method, u.String(), body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	if err := res.Body.Close(); err != nil {
		t.Error(err)
	}
	return res.StatusCode, nil
}

func TestRequestsThatAreNotSOAPShareTheSession(t *testing.T) { // not parallel: vcsim has settings that its instances share
	s := startSim(t)
	var x transfers
	s.model.Service.ServeMux.HandleFunc("/files/", x.serve)
	var mu sync.Mutex
	var observed []string
	pool := newPool(t, Options{Observer: func(_ context.Context, method string, _ time.Duration, _ error) {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(method, " ") {
			observed = append(observed, method)
		}
	}})
	client := open(t, pool, s.config())

	for name, tc := range map[string]struct {
		answers []int
		body    func() io.Reader
		expired bool
		status  int
		seen    []string
	}{
		"an answer":              {nil, func() io.Reader { return strings.NewReader("abc") }, false, 200, []string{"PUT /files/a/b abc"}},
		"no body":                {[]int{401}, func() io.Reader { return nil }, true, 200, []string{"PUT /files/a/b ", "PUT /files/a/b "}},
		"renewed":                {[]int{401}, func() io.Reader { return strings.NewReader("abc") }, true, 200, []string{"PUT /files/a/b abc", "PUT /files/a/b abc"}},
		"refused all the same":   {[]int{401, 401, 401}, func() io.Reader { return strings.NewReader("abc") }, false, 401, []string{"PUT /files/a/b abc", "PUT /files/a/b abc"}},
		"cannot be repeated":     {[]int{401}, func() io.Reader { return io.LimitReader(strings.NewReader("abc"), 3) }, true, 401, []string{"PUT /files/a/b abc"}},
		"an error":               {[]int{503}, func() io.Reader { return strings.NewReader("abc") }, false, 503, []string{"PUT /files/a/b abc"}},
		"redirects lead nowhere": {[]int{307}, func() io.Reader { return strings.NewReader("abc") }, false, 307, []string{"PUT /files/a/b abc"}},
	} {
		x.expect(tc.answers...)
		mu.Lock()
		observed = nil
		mu.Unlock()
		if tc.expired {
			s.expire(t)
		}
		if status, err := do(t, client, http.MethodPut, "/files/a/b", tc.body()); err != nil || status != tc.status {
			t.Errorf("%s: %d, %v, want %d", name, status, err, tc.status)
		}
		x.mu.Lock()
		if diff := cmp.Diff(tc.seen, x.seen); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		for _, session := range x.cookies {
			if len(session) != 1 {
				t.Errorf("%s: a request with the sessions %v", name, session)
			}
		}
		renewed := len(x.cookies) == 2 && x.cookies[0][0] != x.cookies[1][0]
		x.mu.Unlock()
		if want := tc.expired && tc.status == 200; renewed != want {
			t.Errorf("%s: session renewed: %v, want %v", name, renewed, want)
		}
		mu.Lock()
		if len(observed) != len(tc.seen) || observed[0] != "PUT /files" {
			t.Errorf("%s: observed %v", name, observed)
		}
		mu.Unlock()
	}
}

func TestRequestsOfAClosedSessionAreRefused(t *testing.T) { // not parallel: vcsim has settings that its instances share
	s := startSim(t)
	pool := NewPool(Options{})
	client := open(t, pool, s.config())
	if err := pool.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := do(t, client, http.MethodGet, "/files/a", nil); !errors.Is(err, errEnded) {
		t.Errorf("%v, want that the session has ended", err)
	}
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestWhatOneHostWasToldIsNotToldToAnother(t *testing.T) {
	t.Parallel()
	got := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header.Get("Authorization") }))
	defer server.Close()
	server.URL = strings.Replace(server.URL, "127.0.0.1", "localhost", 1) // the address would be refused
	c, err := newClient(nil, time.Minute, newScrubber(nil))
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	c.trusts = func(string) bool { return true }
	request := func(url, authorization string, before *http.Request) *http.Request {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", authorization)
		if before != nil {
			req.Response = &http.Response{Request: before}
		}
		return req
	}
	first := request("https://registry.example.com/", "Bearer first", nil)
	for name, tc := range map[string]struct {
		req  *http.Request
		want string
	}{
		"no redirect":         {request(server.URL, "Bearer first", nil), "Bearer first"},
		"a redirect":          {request(server.URL, "Bearer first", first), ""},
		"two redirects":       {request(server.URL, "Bearer first", request("https://cdn.example.com/", "", first)), ""},
		"a token of its own":  {request(server.URL, "Bearer own", first), "Bearer own"},
		"back to the same":    {request(server.URL, "Bearer first", request(server.URL+"/x", "Bearer first", nil)), "Bearer first"},
		"back by another way": {request(server.URL, "Bearer first", request("https://cdn.example.com/", "", request(server.URL, "Bearer first", nil))), "Bearer first"},
	} {
		resp, err := c.RoundTrip(tc.req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_ = resp.Body.Close()
		if auth := <-got; auth != tc.want {
			t.Errorf("%s: the host got %q, want %q", name, auth, tc.want)
		}
	}
}

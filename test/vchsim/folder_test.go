// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// file sends a request of a file and returns status and content of the answer.
func file(t *testing.T, client *http.Client, sim *Sim, method, path, content string, change func(*http.Request)) (int, string) {
	t.Helper()
	u := "https://" + sim.service.Listen.Host + folderPrefix + path + "?" + url.Values{"dcPath": {"/" + sim.Datacenter}, "dsName": {SecondDatastore}}.Encode()
	req, err := http.NewRequestWithContext(t.Context(), method, u, strings.NewReader(content))
	must(t, err)
	if change != nil {
		change(req)
	}
	res, err := client.Do(req)
	must(t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	must(t, err)
	return res.StatusCode, string(b)
}

func TestFilesAreServedAsVCenterServesThem(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	client := login(t, sim)
	logged := &client.Client.Client.Client
	stranger := &http.Client{Transport: client.Client.DefaultTransport()}
	for _, tc := range []struct {
		name         string
		client       *http.Client
		method, path string
		change       func(*http.Request)
		status       int
	}{
		{"new", logged, "PUT", "a", nil, 201},
		{"again", logged, "PUT", "a", nil, 200},
		{"read", logged, "GET", "a", nil, 200},
		{"no directory", logged, "PUT", "none/a", nil, 404},
		{"no file", logged, "GET", "b", nil, 404},
		{"a directory", logged, "GET", "%2e", nil, 404},
		{"a way out", logged, "GET", "%2e%2e/x", nil, 400},
		{"no session", stranger, "GET", "a", nil, 401},
		{"no session to write", stranger, "PUT", "a", nil, 401},
		{"another datacenter", logged, "GET", "a", func(r *http.Request) { r.URL.RawQuery = "dcPath=x&dsName=" + SecondDatastore }, 404},
		{"another datastore", logged, "GET", "a", func(r *http.Request) { r.URL.RawQuery = "dcPath=" + sim.Datacenter + "&dsName=x" }, 404},
		{"a method that is not served", logged, "DELETE", "a", nil, 405},
	} {
		status, content := file(t, tc.client, sim, tc.method, tc.path, "content", tc.change)
		if status != tc.status || tc.status == 200 && tc.method == "GET" && content != "content" {
			t.Errorf("%s: %d %q, want %d", tc.name, status, content, tc.status)
		}
	}
	if n := sim.BytesReceived(); n == 0 {
		t.Error("contents are not counted")
	}
	sim.ExpireSessions()
	if status, _ := file(t, logged, sim, "GET", "a", "", nil); status != 401 {
		t.Errorf("with a session that has expired: %d", status)
	}
}

func TestFaultsOfTransfersAreForRequestsOfFiles(t *testing.T) {
	t.Parallel()
	sim := start(t, Options{NoForeign: true})
	for kind := range transferKinds() {
		if err := sim.SetFault(FaultRule{Method: "CreateVM_Task", Kind: kind}); err == nil {
			t.Errorf("%s was accepted for a method", kind)
		}
		if err := sim.SetFault(FaultRule{Method: "PUT /folder", Kind: kind}); err != nil {
			t.Error(err)
		}
	}
}

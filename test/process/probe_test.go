// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package process_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/process"
)

func TestTheHTTPProbeSucceedsOnlyOn200(t *testing.T) {
	t.Parallel()
	answer := http.StatusServiceUnavailable
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(answer) }))
	probe := process.HTTP(server.URL, nil)
	if err := probe(t.Context()); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("error %v, want the status", err)
	}
	answer = http.StatusOK
	if err := probe(t.Context()); err != nil {
		t.Error(err)
	}
	server.Close()
	if err := probe(t.Context()); err == nil {
		t.Error("no error from a server that is gone")
	}
}

func TestTheExecProbeSucceedsOnlyOnExitCodeZero(t *testing.T) {
	t.Parallel()
	if err := process.Exec("/bin/sh", "-c", "exit 0")(t.Context()); err != nil {
		t.Error(err)
	}
	err := process.Exec("/bin/sh", "-c", "echo not yet >&2; exit 7")(t.Context())
	for _, want := range []string{"exit status 7", "not yet"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
}

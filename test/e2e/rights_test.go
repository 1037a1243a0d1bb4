// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package e2e_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
)

// auditEvent is what these tests read of an event in the API server's audit log.
type auditEvent struct {
	Verb       string `json:"verb"`
	RequestURI string `json:"requestURI"`
	User       struct {
		Username string `json:"username"`
	} `json:"user"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// refused lists the requests that were forbidden to users whose names begin with
// the given prefix. It is a failure if they made no request at all.
func refused(t *testing.T, prefix string) []string {
	t.Helper()
	log, err := os.ReadFile(shared.cluster.AuditLog())
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	seen := false
	for line := range bytes.Lines(log) {
		var event auditEvent
		if err := json.Unmarshal(line, &event); err != nil {
			continue // the line that is being written
		}
		if !strings.HasPrefix(event.User.Username, prefix) {
			continue
		}
		seen = true
		if event.ResponseStatus.Code == http.StatusForbidden {
			found = append(found, fmt.Sprintf("%s %s by %s", event.Verb, event.RequestURI, event.User.Username))
		}
	}
	if !seen {
		t.Errorf("no request by %s... in the audit log", prefix)
	}
	return found
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"
)

func TestOnlyTheNewestAttemptReadsTheContent(t *testing.T) {
	t.Parallel()
	u := &upload{from: strings.NewReader("content"), size: 7, quiet: &quiet{clock: clock.RealClock{}, last: time.Unix(1, 0)}}
	req := &http.Request{Header: http.Header{}}
	u.attach(req)
	part := make([]byte, 3)
	if n, err := req.Body.Read(part); n != 3 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	again, err := req.GetBody()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := req.Body.Read(part); n != 0 || !errors.Is(err, errReplaced) {
		t.Errorf("an attempt that was replaced reads %d, %v", n, err)
	}
	if all, err := io.ReadAll(again); string(all) != "content" || err != nil {
		t.Errorf("the next attempt reads %q, %v", all, err)
	}
	if sent, broken := u.end(); sent != 7 || broken != nil {
		t.Errorf("sent %d, %v", sent, broken)
	}
	if n, err := again.Read(part); n != 0 || !errors.Is(err, errReplaced) {
		t.Errorf("after the end %d are read, %v", n, err)
	}
}

func TestPathsAreEscapedForEveryServer(t *testing.T) {
	t.Parallel()
	for p, want := range map[string]string{
		"a/b.json": "a/b.json", "a b/c+d": "a%20b/c%2Bd", "100%/#1?x": "100%25/%231%3Fx", "%41": "%2541", "ü": "%C3%BC",
	} {
		if got := escape(p); got != want {
			t.Errorf("%q becomes %q, want %q", p, got, want)
		}
	}
}

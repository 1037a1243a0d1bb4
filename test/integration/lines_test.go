// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestEachLineHasItsPrefix(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	to := &shared{to: &out}
	one, two := &prefixed{prefix: "one: ", to: to}, &prefixed{prefix: "two: ", to: to}
	for _, part := range []struct {
		to   io.Writer
		text string
	}{{one, "a\nb"}, {two, "\n\nc\n"}, {one, "b\n \nd"}, {two, "e"}} {
		if n, err := io.WriteString(part.to, part.text); err != nil || n != len(part.text) {
			t.Fatalf("write %q: %d, %v", part.text, n, err)
		}
	}
	one.flush()
	two.flush()
	two.flush()
	if diff := cmp.Diff("one: a\ntwo: c\none: bb\none: d\ntwo: e\n", out.String()); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

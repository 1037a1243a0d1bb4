// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// Begin and End are the lines between which Insert puts the text.
const (
	Begin = "<!-- bench:begin; make bench writes what follows -->"
	End   = "<!-- bench:end -->"
)

// Encode returns results as indented JSON, with a line break at the end.
func Encode(r Results) ([]byte, error) {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode results: %w", err)
	}
	return append(text, '\n'), nil
}

// Insert replaces what stands between the markers of a document.
func Insert(document, text string) (string, error) {
	before, rest, hasBegin := strings.Cut(document, Begin)
	_, after, hasEnd := strings.Cut(rest, End)
	if !hasBegin || !hasEnd {
		return "", errors.New("the document has not the markers " + Begin + " and " + End)
	}
	return before + Begin + "\n\n" + strings.TrimSpace(text) + "\n\n" + End + after, nil
}

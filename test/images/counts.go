// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"net/http"
	"slices"
	"strings"
	"sync"
)

// counts is what clients have asked for.
type counts struct {
	mu       sync.Mutex
	requests []string
	bytes    map[string]int64
}

// Requests counts the requests of a method, or of all for "", whose path contains
// part, which may be empty. Refused ones and those that met a fault count too.
func (r *Registry) Requests(method, part string) int {
	n := 0
	for _, request := range r.Log() {
		m, path, _ := strings.Cut(request, " ")
		if (method == "" || m == method) && strings.Contains(path, part) {
			n++
		}
	}
	return n
}

// Log returns the requests in their order, each as "GET /v2/node/manifests/v1".
func (r *Registry) Log() []string {
	r.counts.mu.Lock()
	defer r.counts.mu.Unlock()
	return slices.Clone(r.counts.requests)
}

// BlobBytes is how many bytes of blobs were sent: of the one with a digest, or of
// all for "".
func (r *Registry) BlobBytes(digest string) int64 {
	r.counts.mu.Lock()
	defer r.counts.mu.Unlock()
	if digest != "" {
		return r.counts.bytes[digest]
	}
	total := int64(0)
	for _, n := range r.counts.bytes {
		total += n
	}
	return total
}

// ResetCounts sets all counts to zero and empties the log.
func (r *Registry) ResetCounts() {
	r.counts.mu.Lock()
	defer r.counts.mu.Unlock()
	r.counts.requests, r.counts.bytes = nil, nil
}

func (c *counts) request(request *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.requests = append(c.requests, request.Method+" "+request.URL.Path)
}

func (c *counts) sent(digest string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.bytes == nil {
		c.bytes = map[string]int64{}
	}
	c.bytes[digest] += int64(n)
}

// countingWriter counts the bytes of one blob. Answers that are no blob do not count.
type countingWriter struct {
	http.ResponseWriter
	counts *counts
	digest string
	status int
}

func (c *countingWriter) WriteHeader(status int) {
	c.status = status
	c.ResponseWriter.WriteHeader(status)
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	if c.status == 0 || c.status < http.StatusMultipleChoices {
		c.counts.sent(c.digest, n)
	}
	return n, err //nolint:wrapcheck // a writer's errors are its own
}

// Unwrap lets http.ResponseController find the connection.
func (c *countingWriter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/test/vchsim"
)

// spoiler stands in front of a vCenter and spoils the answer to one call.
type spoiler struct {
	mu     sync.Mutex
	method string
	how    func(answer []byte) []byte
	struck bool
}

// spoil spoils the next answer to a method.
func (s *spoiler) spoil(method string, how func([]byte) []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.method, s.how, s.struck = method, how, false
}

// take returns how the answer to a request is to be spoilt, nil for not at all.
func (s *spoiler) take(request []byte) func([]byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.struck || s.method == "" || !bytes.Contains(request, []byte("<"+s.method+" ")) {
		return nil
	}
	s.struck = true
	return s.how
}

func (s *spoiler) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost || r.URL.Path != "/sdk" {
			next.ServeHTTP(w, r)
			return
		}
		request, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(request))
		how := s.take(request)
		if how == nil {
			next.ServeHTTP(w, r)
			return
		}
		answer := httptest.NewRecorder() // the call is executed
		next.ServeHTTP(answer, r)
		_, _ = w.Write(how(answer.Body.Bytes())) // with status 200; whoever reads it may have gone
	})
}

func TestAnswersThatCannotBeUnderstoodAreUnavailableUnderFaults(t *testing.T) {
	t.Parallel()
	for name, how := range map[string]func([]byte) []byte{
		"cut off": func(answer []byte) []byte { return answer[:len(answer)/2] },
		"bytes":   func(answer []byte) []byte { return bytes.Repeat([]byte{0xff, 0x00, '<', '&', 0x1b}, 1+len(answer)/5) },
		"a page":  func([]byte) []byte { return []byte("<html><body>We will be back soon.<br></body></html>") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &spoiler{}
			w := newSite(t, vchsim.Options{Wrap: s.wrap})
			met := 0
			for i, methods := range w.methodsOf(t.Context()) {
				for _, method := range methods {
					if strings.Contains(method, " ") {
						continue // a request for a file
					}
					const machine = "struck"
					ops := w.operations(t.Context(), machine)
					for _, op := range ops[:min(i, 2)] { // create, initialize
						if err := op(); err != nil {
							t.Fatal(err)
						}
					}
					s.spoil(method, how)
					err := ops[i]()
					s.spoil("", nil)
					w.Settle()
					if err != nil {
						met++
						if !errdefs.Is(err, errdefs.Unavailable) {
							t.Errorf("operation %d, %s: %s (%v)", i, method, errdefs.KindOf(err), err)
						}
					}
					if err := ops[len(ops)-1](); err != nil {
						t.Fatalf("delete after operation %d with %s: %v", i, method, err)
					}
				}
			}
			if met == 0 {
				t.Error("nobody noticed")
			}
			if left := w.Leftovers(); len(left) > 0 || len(w.Machines()) > 0 {
				t.Errorf("left: %v %v", left, w.Machines())
			}
		})
	}
}

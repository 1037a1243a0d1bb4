// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"strings"
	"sync"
)

// tokenPath is where credentials are exchanged for tokens.
const tokenPath = "/token"

// tokens are those that were given out.
type tokens struct {
	mu    sync.Mutex
	given map[string]bool
}

// RevokeTokens makes all tokens invalid that were given out, as time does.
func (r *Registry) RevokeTokens() {
	r.tokens.mu.Lock()
	defer r.tokens.mu.Unlock()
	r.tokens.given = nil
}

// authorized says whether a request may be served. If not, or if it was one for a
// token, it is answered.
func (r *Registry) authorized(w http.ResponseWriter, request *http.Request) bool {
	if r.options.Username == "" && r.options.Password == "" {
		return true
	}
	user, password, basic := request.BasicAuth()
	known := basic && user == r.options.Username && password == r.options.Password
	scheme := "http"
	if r.options.TLS {
		scheme = "https"
	}
	switch {
	case r.options.Token && request.URL.Path == tokenPath && known:
		r.grant(w)
		return false
	case r.options.Token && request.URL.Path != tokenPath:
		token, _ := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
		r.tokens.mu.Lock()
		known = r.tokens.given[token]
		r.tokens.mu.Unlock()
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="%s://%s%s",service="images",scope="%s"`, scheme, r.host, tokenPath, scope(request)))
	default:
		w.Header().Set("WWW-Authenticate", `Basic realm="images"`)
	}
	if known {
		w.Header().Del("WWW-Authenticate")
		return true
	}
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required")
	return false
}

func (r *Registry) grant(w http.ResponseWriter) {
	token := rand.Text()
	r.tokens.mu.Lock()
	if r.tokens.given == nil {
		r.tokens.given = map[string]bool{}
	}
	r.tokens.given[token] = true
	r.tokens.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	// Who does not read the answer is gone.
	_, _ = fmt.Fprintf(w, `{"token": %q, "expires_in": 300}`, token)
}

// scope is what a token for a request must be good for.
func scope(request *http.Request) string {
	repository := strings.TrimPrefix(request.URL.Path, "/v2/")
	for _, part := range []string{"/manifests/", "/blobs/", "/tags/"} {
		repository, _, _ = strings.Cut(repository, part)
	}
	if repository == "" {
		return ""
	}
	return "repository:" + repository + ":pull"
}

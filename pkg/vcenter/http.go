// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vcenter

import (
	"io"
	"net/http"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// maxDrain is how much of an unwanted answer is read so that its connection can be used again.
const maxDrain = 64 << 10

// Do sends a request that is not SOAP, such as the upload of a file, with the
// session, trust and connections of the client; redirects are not followed. When
// vCenter answers 401 Unauthorized, the session is renewed once for all its users
// and the request repeated once from its begin, which needs GetBody if it has a
// body. Options.CallTimeout, MaxConcurrent and Middleware do not apply: the
// caller bounds the request by its context. The observer is told of each attempt
// when its answer begins, under the HTTP method and the first element of the
// path, such as PUT /folder. While the circuit breaker is open, the answer is Unavailable.
//
// Any answer, errors of HTTP included, is no error here. The caller closes its body.
func (c *Client) Do(req *http.Request) (*http.Response, error) {
	s := c.session
	if err := s.host.refused(); err != nil {
		return nil, err
	}
	logins, done, err := s.use(false)
	if err != nil {
		return nil, err
	}
	res, err := s.do(req, logins)
	if err != nil {
		done()
		return nil, err
	}
	res.Body = &content{res.Body, done}
	return res, nil
}

func (s *session) do(req *http.Request, logins int) (*http.Response, error) {
	// The transport adds the session's cookie to the header of what it is given.
	res, err := s.transfer(req.Clone(req.Context()))
	if err != nil || res.StatusCode != http.StatusUnauthorized {
		return res, err
	}
	again := req.Clone(req.Context())
	if req.Body != nil && req.Body != http.NoBody {
		if req.GetBody == nil {
			return res, nil
		}
		if again.Body, err = req.GetBody(); err != nil {
			return nil, errdefs.Wrap(errdefs.Internal, err, "repeat %s", transferName(req))
		}
	}
	drain(res)
	if err := s.login(req.Context(), logins); err != nil {
		return nil, err
	}
	return s.transfer(again)
}

// transfer is one attempt.
func (s *session) transfer(req *http.Request) (*http.Response, error) {
	req.Header.Set("User-Agent", s.soap.UserAgent)
	begin := s.pool.opts.Clock.Now()
	res, err := s.soap.Client.Do(req)
	if s.pool.opts.Observer != nil {
		s.pool.opts.Observer(req.Context(), transferName(req), s.pool.opts.Clock.Since(begin), err)
	}
	return res, err
}

// transferName names a request that is not SOAP: few names, however many files there are.
func transferName(req *http.Request) string {
	first, _, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/"), "/")
	return req.Method + " /" + first
}

func drain(res *http.Response) {
	// What cannot be read costs the connection, no more.
	_, _ = io.CopyN(io.Discard, res.Body, maxDrain)
	_ = res.Body.Close()
}

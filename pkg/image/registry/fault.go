// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// fault is an error inside of this package: its kind and text, and whether trying
// again may help. The text has no secrets. There is no cause, for nobody knows
// what somebody else's error has in it.
type fault struct {
	kind  errdefs.Kind
	text  string
	retry bool
	// after is how long the server wants to be left alone.
	after time.Duration
	// local says that no registry is to blame.
	local bool
	// err is the context's error, if that was the reason.
	err error
}

// Error returns the text.
func (f *fault) Error() string { return f.text }

// Unwrap returns the context's error.
func (f *fault) Unwrap() error { return f.err }

func faultf(kind errdefs.Kind, format string, args ...any) *fault {
	return &fault{kind: kind, text: fmt.Sprintf(format, args...)}
}

// wrong is what the reference or the image gets wrong.
func wrong(format string, args ...any) *fault {
	return faultf(errdefs.InvalidArgument, format, args...)
}

// broken is content that is not what its digest or its description says. A proxy
// may have damaged it, so that once more may help; a registry that keeps it so
// must be put right by a person, which is no bug of this program.
func broken(format string, args ...any) *fault {
	f := faultf(errdefs.FailedPrecondition, format, args...)
	f.retry = true
	return f
}

// passing is what may be better later.
func passing(format string, args ...any) *fault {
	f := faultf(errdefs.Unavailable, format, args...)
	f.retry = true
	return f
}

// stage is what was tried when something went wrong.
type stage int

const (
	connecting stage = iota
	readingManifest
	readingBlob
)

// faultOf says what an error of asking a source means.
func (s *source) faultOf(ctx context.Context, at stage, err error) *fault {
	if ctxErr := ctx.Err(); ctxErr != nil {
		return &fault{kind: errdefs.KindOf(ctxErr), text: ctxErr.Error(), err: ctxErr}
	}
	if f, ok := errors.AsType[*fault](err); ok {
		return f
	}
	if answer, ok := errors.AsType[*transport.Error](err); ok {
		return s.answered(at, answer)
	}
	if f := s.untrusted(err); f != nil {
		return f
	}
	if plain, ok := errors.AsType[*plainError](err); ok {
		// The library tries http after https for private addresses. Why https failed
		// is what counts then.
		if first, ok := errors.AsType[*url.Error](err); ok && errors.Is(first.Err, plain) {
			return faultf(errdefs.FailedPrecondition, "%s", plain)
		}
	}
	return s.unreachable(err)
}

// plainError is a request that was not sent, since it is not to be encrypted.
type plainError struct{ host, scheme string }

// Error names the host.
func (e *plainError) Error() string {
	return fmt.Sprintf("%s would be asked with %s: only hosts that are listed as insecure are", e.host, e.scheme)
}

// answered says what an answer with an error status means.
func (s *source) answered(at stage, answer *transport.Error) *fault {
	words, codes := s.words(answer)
	denied := strings.Contains(codes, " DENIED ")
	status := answer.StatusCode
	switch {
	case status == http.StatusTooManyRequests, strings.Contains(codes, " TOOMANYREQUESTS "):
		return passing("%s wants fewer requests: %s", s.name, words)
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly, status >= http.StatusInternalServerError:
		return passing("%s fails: %s", s.name, words)
	case s.authenticated && (denied || status == http.StatusForbidden):
		return faultf(errdefs.PermissionDenied, "%s denies %s to the user of the pull secret, or has no such image: %s", s.name, s.path, words)
	case s.authenticated && status == http.StatusUnauthorized:
		return faultf(errdefs.Unauthenticated, "%s does not accept the credentials of the pull secret: %s", s.name, words)
	case denied, status == http.StatusForbidden, status == http.StatusUnauthorized:
		return faultf(errdefs.Unauthenticated, "%s wants credentials, of which the pull secret has none for %s, or has no such image: %s", s.name, s.path, words)
	case at == readingManifest && (status == http.StatusNotFound || status == http.StatusBadRequest || status == http.StatusGone):
		return wrong("%s has no such image: %s", s.name, words)
	case at == readingBlob && status == http.StatusNotFound:
		return faultf(errdefs.FailedPrecondition, "%s has the image's manifest but not all of its blobs; push the image again: %s", s.name, words)
	case at == connecting:
		return faultf(errdefs.FailedPrecondition, "%s does not speak the API of registries, version 2: %s", s.name, words)
	}
	return faultf(errdefs.FailedPrecondition, "%s gives an answer that no registry should: %s", s.name, words)
}

// words returns what a registry said, and its codes between spaces.
func (s *source) words(answer *transport.Error) (words, codes string) {
	words = fmt.Sprintf("status %d %s", answer.StatusCode, http.StatusText(answer.StatusCode))
	if len(answer.Errors) == 0 {
		return words, ""
	}
	var said []string
	for _, e := range answer.Errors[:min(3, len(answer.Errors))] {
		// Details are left out: some have the whole request in them.
		said = append(said, strings.Trim(string(e.Code)+": "+e.Message, ": "))
		codes += " " + strings.ToUpper(string(e.Code)) + " "
	}
	return cmp.Or(s.scrub.text(strings.Join(said, "; ")), words), codes
}

// untrusted says what is wrong with the encryption, or returns nil.
func (s *source) untrusted(err error) *fault {
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return faultf(errdefs.FailedPrecondition, "the certificate of %s is of an authority that is not known%s: give its certificate in the CA bundle, or list the host as insecure", s.at(err), issuer(s, e.Cert))
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return faultf(errdefs.FailedPrecondition, "the certificate of %s is for another host: name the registry as its certificate does, or list it as insecure", s.at(err))
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		return faultf(errdefs.FailedPrecondition, "the certificate of %s is not valid: %s", s.at(err), s.scrub.text(e.Error()))
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return faultf(errdefs.FailedPrecondition, "the certificate of %s cannot be verified: %s", s.at(err), s.scrub.text(e.Error()))
	}
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	if noTLS || errors.Is(err, http.ErrSchemeMismatch) {
		return faultf(errdefs.FailedPrecondition, "%s does not speak https: list the host as insecure if it should be asked with http", s.at(err))
	}
	if e, ok := errors.AsType[tls.AlertError](err); ok {
		return faultf(errdefs.FailedPrecondition, "%s refuses the TLS connection: %s", s.at(err), s.scrub.text(e.Error()))
	}
	return nil
}

func issuer(s *source, cert *x509.Certificate) string {
	if cert == nil {
		return ""
	}
	return fmt.Sprintf(" (%s)", s.scrub.text(cert.Issuer.String()))
}

// at is the host that an error is about, which may be one that the registry sent
// us to.
func (s *source) at(err error) string {
	e, ok := errors.AsType[*url.Error](err)
	if !ok {
		return s.name
	}
	u, parseErr := url.Parse(e.URL)
	if parseErr != nil || u.Host == "" || u.Host == s.repo.RegistryStr() {
		return s.name
	}
	return fmt.Sprintf("%s, where %s sends us,", clean(u.Host, maxText), s.name)
}

// unreachable says why there was no answer.
func (s *source) unreachable(err error) *fault {
	cause := err
	if e, ok := errors.AsType[*url.Error](err); ok {
		cause = e.Err // without the URL
	}
	text, _, _ := strings.Cut(cause.Error(), "\n") // below it the library shows what the server sent
	text = s.scrub.text(text)
	dns, isDNS := errors.AsType[*net.DNSError](err)
	network, isNetwork := errors.AsType[net.Error](err)
	_, isOp := errors.AsType[*net.OpError](err)
	switch {
	case isDNS:
		f := passing("%s cannot be found: %s", s.at(err), text)
		f.retry = !dns.IsNotFound
		return f
	case isNetwork && network.Timeout():
		return passing("%s does not answer: %s", s.at(err), text)
	case connectionLost(err):
		return passing("the connection to %s failed: %s", s.at(err), text)
	case isOp:
		return passing("%s cannot be reached: %s", s.at(err), text)
	}
	return faultf(errdefs.FailedPrecondition, "%s gives an answer that is not understood: %s", s.at(err), text)
}

func connectionLost(err error) bool {
	for _, target := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNREFUSED, syscall.ECONNABORTED, net.ErrClosed} {
		if errors.Is(err, target) {
			return true
		}
	}
	text := err.Error() // errors of HTTP/2 streams have no type that is exported
	return strings.Contains(text, "stream error:") || strings.Contains(text, "GOAWAY") || strings.Contains(text, "http2:") || strings.Contains(text, "server closed idle connection")
}

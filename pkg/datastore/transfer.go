// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package datastore

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/vcenter"
)

const (
	// askFirst is from what size on an upload waits for vCenter's word before it
	// sends content: an expired session or a full datastore then costs nothing.
	askFirst = 64 << 10
	// maxAnswer is how much of an error's answer is looked at.
	maxAnswer = 4 << 10
)

// Read returns the content of a file in one request. NotFound if it is not there,
// FailedPrecondition if it is larger than limit bytes.
func (f *Files) Read(ctx context.Context, p string, limit int64) ([]byte, error) {
	if err := f.check(p); err != nil {
		return nil, err
	}
	watched, quiet := f.watch(ctx)
	defer quiet.stop()
	res, err := f.send(watched, http.MethodGet, p)
	if err != nil {
		return nil, f.failed(ctx, watched, err, "read %s", f.Path(p))
	}
	defer func() { _ = res.Body.Close() }()
	if err := refused(res, "read "+f.Path(p)); err != nil {
		return nil, err
	}
	if res.ContentLength > limit {
		return nil, f.tooLarge(p, limit)
	}
	content, err := io.ReadAll(io.LimitReader(&noticed{res.Body, quiet}, limit+1))
	switch {
	case err != nil:
		return nil, f.failed(ctx, watched, err, "read %s", f.Path(p))
	case int64(len(content)) > limit:
		return nil, f.tooLarge(p, limit)
	}
	return content, nil
}

// Size returns the size of a file in bytes, in one request. NotFound if it is not there.
func (f *Files) Size(ctx context.Context, p string) (int64, error) {
	if err := f.check(p); err != nil {
		return 0, err
	}
	watched, quiet := f.watch(ctx)
	defer quiet.stop()
	res, err := f.send(watched, http.MethodHead, p)
	if err != nil {
		return 0, f.failed(ctx, watched, err, "look at %s", f.Path(p))
	}
	defer func() { _ = res.Body.Close() }()
	if err := refused(res, "look at "+f.Path(p)); err != nil {
		return 0, err
	}
	if res.ContentLength < 0 {
		return 0, errdefs.New(errdefs.Internal, "look at %s: vCenter does not tell its size", f.Path(p))
	}
	return res.ContentLength, nil
}

// Write makes or replaces a file from the first size bytes of r, in one request.
// Its directory must exist (NotFound, where vCenter tells). progress, if not nil,
// is told how many bytes were sent, often and never at the same time; it starts
// anew when the request has to be repeated. r is read from front to back by one
// goroutine at a time, and not used any more after Write.
//
// Whoever reads the file meanwhile may find a part of it, and after an error it may
// be there in part or whole: the answer of a write that succeeded can be lost.
func (f *Files) Write(ctx context.Context, p string, r io.ReaderAt, size int64, progress func(done int64)) error {
	if err := f.check(p); err != nil {
		return err
	}
	to := Address{Method: http.MethodPut, URL: f.url(p), ContentType: "application/octet-stream"}
	return f.Upload(ctx, "write "+f.Path(p), to, r, size, progress)
}

// Address is where a content goes that belongs to no path.
type Address struct {
	// Method and URL are those of the request.
	Method, URL string
	// ContentType is what the content is.
	ContentType string
	// Client sends the request. Its transport needs an ExpectContinueTimeout, or
	// content is sent before the answer to what it is. Default: the session's own,
	// which renews it.
	Client *http.Client
}

// Upload sends content to an address that vCenter gave out, such as that of a disk
// that is imported; what names that in errors. Otherwise it is Write.
func (f *Files) Upload(ctx context.Context, what string, to Address, r io.ReaderAt, size int64, progress func(done int64)) error {
	if size < 0 {
		return errdefs.New(errdefs.InvalidArgument, "%s: size %d is negative", what, size)
	}
	if size >= askFirst { // smaller ones are records and locks, for which many may wait
		release, err := f.o.Client.Heavy(ctx, f.o.Datastore)
		if err != nil {
			return convert(err, "%s", what)
		}
		defer release()
	}
	watched, quiet := f.watch(ctx)
	defer quiet.stop()
	req, err := http.NewRequestWithContext(watched, to.Method, to.URL, nil)
	if err != nil {
		return errdefs.Wrap(errdefs.InvalidArgument, err, "%s: its address", what)
	}
	req.Header.Set("Content-Type", to.ContentType)
	content := &upload{from: r, size: size, quiet: quiet, progress: progress}
	content.attach(req)
	do := f.o.Client.Do
	if to.Client != nil {
		do = to.Client.Do
	}
	res, err := do(req)
	sent, broken := content.end()
	switch {
	case broken != nil:
		if err == nil {
			_ = res.Body.Close()
		}
		return errdefs.Wrap(sourceKind(broken), broken, "%s: its content could not be read at %d of %d bytes", what, sent, size)
	case err != nil:
		return f.failed(ctx, watched, err, "%s, %d of %d bytes sent", what, sent, size)
	}
	defer func() { _ = res.Body.Close() }()
	if err := refused(res, what); err != nil {
		return err
	}
	if sent != size {
		return errdefs.New(errdefs.Unavailable, "%s: the answer %s came after %d of %d bytes", what, res.Status, sent, size)
	}
	return nil
}

// send makes a request of a file.
func (f *Files) send(ctx context.Context, method, p string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, f.url(p), nil)
	if err != nil {
		return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "address of %s", f.Path(p))
	}
	return f.o.Client.Do(req)
}

// url is the address of a file.
func (f *Files) url(p string) string {
	u := f.o.Client.Vim().URL()
	u.User = nil
	u.Path, u.RawPath = "/folder/"+p, "/folder/"+escape(p)
	u.RawQuery = url.Values{"dcPath": {f.o.DatacenterPath}, "dsName": {f.o.Name}}.Encode()
	return u.String()
}

// escape writes a path for URLs. Signs with a meaning are escaped, the plus too:
// some servers take it for a space in paths.
func escape(p string) string {
	elements := strings.Split(p, "/")
	for i, e := range elements {
		elements[i] = strings.ReplaceAll(url.PathEscape(e), "+", "%2B")
	}
	return strings.Join(elements, "/")
}

// failed gives the error of a request that had no answer its kind.
func (f *Files) failed(ctx, watched context.Context, err error, format string, args ...any) error {
	switch {
	case ctx.Err() != nil:
		return vcenter.Convert(ctx.Err(), format, args...)
	case context.Cause(watched) == errStalled: //nolint:errorlint // the cause is never wrapped
		return errdefs.Wrap(errdefs.Unavailable, &stalled{f.o.Stall}, format, args...)
	}
	return vcenter.Convert(err, format, args...)
}

// refused gives an answer that is no success its kind.
func refused(res *http.Response, what string) error {
	switch res.StatusCode {
	case http.StatusOK, http.StatusCreated, http.StatusNoContent:
		return nil
	}
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		answer = nil // the status says enough
	}
	return errdefs.Wrap(statusKind(res.StatusCode, string(answer)), statusError(res.Status), "%s", what)
}

// statusError is an answer of HTTP that is no success.
type statusError string

// Error names the status.
func (e statusError) Error() string { return "the answer was " + string(e) }

// statusKind is the table of HTTP's answers. Many of a host's own errors come
// as 500, a full datastore among them.
func statusKind(status int, answer string) errdefs.Kind {
	switch {
	case status == http.StatusUnauthorized:
		return errdefs.Unauthenticated
	case status == http.StatusForbidden:
		return errdefs.PermissionDenied
	case status == http.StatusNotFound:
		return errdefs.NotFound
	case status == http.StatusConflict, status == http.StatusLocked:
		return errdefs.Aborted
	case status == http.StatusInsufficientStorage, status >= 500 && saysFull(answer):
		return errdefs.ResourceExhausted
	case status >= 500, status == http.StatusRequestTimeout, status == http.StatusTooManyRequests:
		return errdefs.Unavailable
	default:
		return errdefs.Internal
	}
}

func saysFull(answer string) bool {
	answer = strings.ToLower(answer)
	for _, words := range []string{"no space left", "insufficient disk space", "not enough space", "out of space"} {
		if strings.Contains(answer, words) {
			return true
		}
	}
	return false
}

// sourceKind keeps the kind of an error of the content's maker.
func sourceKind(err error) errdefs.Kind {
	if kind := errdefs.KindOf(err); kind != errdefs.Unknown {
		return kind
	}
	return errdefs.Internal
}

func (f *Files) tooLarge(p string, limit int64) error {
	return errdefs.New(errdefs.FailedPrecondition, "read %s: it is larger than %d bytes", f.Path(p), limit)
}

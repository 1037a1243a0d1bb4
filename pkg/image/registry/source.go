// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// source is one place where an image is asked for.
type source struct {
	// name is what errors call it, path the repository there.
	name, path string
	mirror     bool
	// failed is set for a mirror that is not asked again.
	failed atomic.Bool

	repo          name.Repository
	auth          authn.Authenticator
	authenticated bool
	client        *client
	scrub         *scrubber
	stall         time.Duration

	mu   sync.Mutex
	http *http.Client // with what the registry wants of us; nil until it was asked
}

// pull is the work on one image.
type pull struct {
	*settings
	ref     Reference
	sources []*source
}

// newPull finds out where to ask.
func newPull(ctx context.Context, ref Reference, opts Options) (*pull, error) {
	if parsed, err := ParseReference(ref.String()); err != nil {
		return nil, err
	} else if parsed != ref {
		return nil, errdefs.New(errdefs.InvalidArgument, "image %s: want what ParseReference returns, which is %s", ref, parsed)
	}
	s, err := opts.read()
	if err != nil {
		return nil, err
	}
	p := &pull{settings: s, ref: ref}
	if err := s.refusal(ref); err != nil {
		return nil, err
	}
	for _, m := range opts.Mirrors {
		host, prefix, err := s.endpoint(m)
		if err != nil {
			return nil, err
		}
		if m.Registry != "*" && canonicalHost(m.Registry) != ref.Registry || canonicalHost(host) == ref.Registry && prefix == "" {
			continue
		}
		if why := s.permitted(host, prefix+ref.Repository); why != "" {
			klog.FromContext(ctx).Info("Mirror is not asked", "mirror", host+"/"+prefix, "image", ref.String(), "reason", why)
			continue
		}
		if err := p.add(host, prefix+ref.Repository, true); err != nil {
			return nil, err
		}
	}
	if err := p.add(ref.Registry, ref.Repository, false); err != nil {
		return nil, err
	}
	trusted := map[string]bool{}
	for _, source := range p.sources {
		if _, listed := s.insecure.match(source.name, source.path); listed {
			trusted[source.repo.RegistryStr()] = true
		}
	}
	s.client.trusts = func(host string) bool {
		_, listed := s.insecure.match(host, "")
		return listed || trusted[host]
	}
	return p, nil
}

func (p *pull) add(host, path string, mirror bool) error {
	_, insecure := p.insecure.match(host, path)
	repo, err := repository(host, path, insecure)
	if err != nil {
		return errdefs.New(errdefs.InvalidArgument, "image %s: repository %q of %s: %s", p.ref, path, host, p.scrub.text(err.Error()))
	}
	s := &source{name: host, path: path, mirror: mirror, repo: repo, client: p.client, scrub: p.scrub, stall: p.Stall}
	s.auth, s.authenticated = p.auth.find(host, path)
	p.sources = append(p.sources, s)
	return nil
}

// connect asks the registry how it wants to be asked, once.
func (s *source) connect(ctx context.Context) (*http.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil {
		return s.http, nil
	}
	signed, err := transport.NewWithContext(ctx, s.repo.Registry, s.auth, s.client, []string{s.repo.Scope(transport.PullScope)})
	if err != nil {
		return nil, s.faultOf(ctx, connecting, err)
	}
	s.http = &http.Client{Transport: signed, CheckRedirect: checkRedirect}
	return s.http, nil
}

// get asks for a manifest or a blob. Answers other than ok are faults. The caller
// closes the body.
func (s *source) get(ctx context.Context, at stage, id string, header http.Header, ok ...int) (*http.Response, error) {
	what := "manifests"
	if at == readingBlob {
		what = "blobs"
	}
	// The library makes http of it where that is what the registry speaks.
	u := url.URL{Scheme: "https", Host: s.repo.RegistryStr(), Path: "/v2/" + s.repo.RepositoryStr() + "/" + what + "/" + id}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, s.faultOf(ctx, at, err)
	}
	req.Header = header
	connected, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := connected.Do(req)
	if err != nil {
		return nil, s.faultOf(ctx, at, err)
	}
	if err := transport.CheckError(resp, ok...); err != nil {
		_ = resp.Body.Close()
		f := s.faultOf(ctx, at, err)
		f.after = retryAfter(resp.Header)
		return nil, f
	}
	return resp, nil
}

// maxPause bounds the pause between two attempts, whatever the registry wants.
const maxPause = 30 * time.Second

// retryAfter reads the header of that name, in its usual form.
func retryAfter(h http.Header) time.Duration {
	seconds, err := strconv.Atoi(strings.TrimSpace(h.Get("Retry-After")))
	if err != nil || seconds < 0 {
		return 0
	}
	return min(time.Duration(min(seconds, 3600))*time.Second, maxPause)
}

// pause waits before an attempt, the first of which has number 1.
func (p *pull) pause(ctx context.Context, attempt int, f *fault) error {
	wait := max(min(time.Second<<(attempt-1), maxPause), f.after)
	timer := p.Clock.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C():
		return nil
	case <-ctx.Done():
		return &fault{kind: errdefs.KindOf(ctx.Err()), text: ctx.Err().Error(), err: ctx.Err()}
	}
}

// each asks one source after the other until one has what is wanted. The fault is
// that of the registry.
func (p *pull) each(ctx context.Context, what string, ask func(s *source) error) error {
	for _, s := range p.sources {
		if s.failed.Load() {
			continue
		}
		err := p.persist(ctx, s, ask)
		if err == nil || !s.mirror || ctx.Err() != nil {
			return err
		}
		if f, ok := errors.AsType[*fault](err); ok && f.local {
			return err
		}
		if !s.failed.Swap(true) {
			klog.FromContext(ctx).Info("Mirror failed; it is not asked again for this image", "mirror", s.name+"/"+s.path, "image", p.ref.String(), "for", what, "reason", p.scrub.text(err.Error()))
		}
	}
	return faultf(errdefs.Internal, "there is no registry to ask") // the last source is no mirror
}

// persist asks a source until it answers, or until it is no use. A mirror is asked
// once, for there are others.
func (p *pull) persist(ctx context.Context, s *source, ask func(s *source) error) error {
	for attempt := 1; ; attempt++ {
		err := ask(s)
		f, ok := errors.AsType[*fault](err)
		if !ok || !f.retry || s.mirror || attempt >= p.Attempts {
			return err
		}
		if err := p.pause(ctx, attempt, f); err != nil {
			return err
		}
	}
}

// finish gives an error of the work its kind, and says which image it was about.
func (p *pull) finish(err error) error {
	if err == nil {
		return nil
	}
	f, ok := errors.AsType[*fault](err)
	if !ok {
		f = faultf(errdefs.Internal, "%s", p.scrub.text(err.Error()))
	}
	if f.err != nil {
		return errdefs.Wrap(f.kind, f.err, "pull %s", p.ref)
	}
	return errdefs.New(f.kind, "pull %s: %s", p.ref, f.text)
}

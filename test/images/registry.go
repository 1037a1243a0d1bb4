// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"time"

	upstream "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// Options describe a registry. The zero value speaks http, lets everybody in and
// keeps blobs in memory.
type Options struct {
	// Listen is the address to serve on, which must be one of loopback. Default: a
	// free port of 127.0.0.1.
	Listen string
	// TLS makes it speak https only, with a certificate for Listen's host and
	// localhost that an authority of its own has signed; see CA.
	TLS bool
	// Username and Password are asked for when they are not empty.
	Username, Password string
	// Token makes clients exchange them for a bearer token first, as Docker's
	// registry does; otherwise they go into each request.
	Token bool
	// Delay passes before a blob is sent, as with a slow network.
	Delay time.Duration
	// Dir is an existing directory for blobs. They stay there after Close.
	Dir string
}

// Registry is a registry that serves until Close. All methods may be called from
// many goroutines.
type Registry struct {
	options Options
	host    string
	ca      []byte
	content http.Handler
	blobs   *blobs
	server  *http.Server
	running sync.WaitGroup
	closed  chan struct{}
	once    sync.Once
	faults  faults
	counts  counts
	tokens  tokens
}

// Serve starts a registry.
func Serve(options Options) (*Registry, error) {
	if options.Listen == "" {
		options.Listen = "127.0.0.1:0"
	}
	host, _, err := net.SplitHostPort(options.Listen)
	if err != nil {
		return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "parse the registry's address %q", options.Listen)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, errdefs.New(errdefs.InvalidArgument, "the registry's address %q is not one of loopback", options.Listen)
	}
	r := &Registry{options: options, blobs: newBlobs(options.Dir), closed: make(chan struct{})}
	r.content = upstream.New(upstream.Logger(log.New(io.Discard, "", 0)), upstream.WithBlobHandler(r.blobs))
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", options.Listen)
	if err != nil {
		return nil, errdefs.Wrap(errdefs.Unavailable, err, "listen on %s", options.Listen)
	}
	r.host = l.Addr().String()
	if options.TLS {
		ca, certificate, err := certify(host)
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		r.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca})
		l = tls.NewListener(l, &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}})
	}
	r.server = &http.Server{Handler: http.HandlerFunc(r.handle), ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	r.running.Go(func() {
		// It ends when Close closes the listener, which is its only use.
		_ = r.server.Serve(l)
	})
	return r, nil
}

// Close ends the listener and all connections. It may be repeated.
func (r *Registry) Close() {
	r.once.Do(func() {
		close(r.closed)
		// The listener is gone whatever the answer; connections have no more to say.
		_ = r.server.Close()
		r.running.Wait()
	})
}

// Host is where it serves, as it stands before the first slash of a reference.
func (r *Registry) Host() string { return r.host }

// CA is the PEM certificate of the authority, nil without TLS.
func (r *Registry) CA() []byte { return r.ca }

// DockerConfig is a .dockerconfigjson with which clients may pull.
func (r *Registry) DockerConfig() []byte {
	raw, err := json.Marshal(map[string]map[string]map[string]string{
		"auths": {r.host: {"username": r.options.Username, "password": r.options.Password}},
	})
	if err != nil {
		return nil // strings can always be encoded
	}
	return raw
}

// Push stores an image, such as "node:v1", and returns the reference for it: Host
// and the name, whose tag is "latest" if it has none. It is not a request: nothing
// counts it and no fault meets it.
func (r *Registry) Push(image string, img v1.Image) (ref string, err error) {
	repository, tag := r.split(image)
	if err := r.store(repository, tag, img); err != nil {
		return "", fmt.Errorf("push %s: %w", image, err)
	}
	return r.host + "/" + repository + ":" + tag, nil
}

// PushIndex is Push for an index and its images.
func (r *Registry) PushIndex(image string, index v1.ImageIndex) (ref string, err error) {
	repository, tag := r.split(image)
	fail := func(err error) (string, error) { return "", fmt.Errorf("push %s: %w", image, err) }
	manifest, err := index.IndexManifest()
	if err != nil {
		return fail(err)
	}
	for _, d := range manifest.Manifests {
		img, err := index.Image(d.Digest)
		if err != nil {
			return fail(err)
		}
		if err := r.store(repository, "", img); err != nil {
			return fail(err)
		}
	}
	if err := r.storeManifest(repository, tag, index); err != nil {
		return fail(err)
	}
	return r.host + "/" + repository + ":" + tag, nil
}

func (r *Registry) split(image string) (repository, tag string) {
	repository, tag, found := strings.Cut(strings.TrimPrefix(image, r.host+"/"), ":")
	if !found {
		tag = "latest"
	}
	return repository, tag
}

func (r *Registry) store(repository, tag string, img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return fmt.Errorf("list its layers: %w", err)
	}
	for i, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		blob, err := l.Compressed()
		if err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
		if err := r.blobs.put(digest, blob); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return fmt.Errorf("read its configuration: %w", err)
	}
	digest, err := img.ConfigName()
	if err != nil {
		return fmt.Errorf("read its configuration: %w", err)
	}
	if err := r.blobs.put(digest, io.NopCloser(bytes.NewReader(config))); err != nil {
		return err
	}
	return r.storeManifest(repository, tag, img)
}

// manifest is an image or an index.
type manifest interface {
	RawManifest() ([]byte, error)
	MediaType() (types.MediaType, error)
	Digest() (v1.Hash, error)
}

// storeManifest stores a manifest under its digest, and under a tag that is not empty.
func (r *Registry) storeManifest(repository, tag string, m manifest) error {
	raw, err := m.RawManifest()
	if err != nil {
		return fmt.Errorf("encode its manifest: %w", err)
	}
	mediaType, err := m.MediaType()
	if err != nil {
		return fmt.Errorf("encode its manifest: %w", err)
	}
	digest, err := m.Digest()
	if err != nil {
		return fmt.Errorf("encode its manifest: %w", err)
	}
	for _, name := range []string{digest.String(), tag} {
		if name == "" {
			continue
		}
		request := httptest.NewRequestWithContext(context.Background(), http.MethodPut, "http://registry/v2/"+repository+"/manifests/"+name, bytes.NewReader(raw))
		request.Header.Set("Content-Type", string(mediaType))
		answer := httptest.NewRecorder()
		r.content.ServeHTTP(answer, request)
		if answer.Code >= http.StatusMultipleChoices {
			return errdefs.New(errdefs.InvalidArgument, "the registry refuses the manifest %s: %d %s", name, answer.Code, answer.Body)
		}
	}
	return nil
}

func (r *Registry) handle(w http.ResponseWriter, request *http.Request) {
	r.counts.request(request)
	blob, digest := blobOf(request)
	if blob {
		w = &countingWriter{ResponseWriter: w, counts: &r.counts, digest: digest}
	}
	w, proceed := r.faults.strike(w, request, r.closed)
	if !proceed || !r.authorized(w, request) {
		return
	}
	if blob && (request.Method == http.MethodGet || request.Method == http.MethodHead) {
		if !r.delay(request) {
			return
		}
		r.blobs.serve(w, request, digest)
		return
	}
	r.content.ServeHTTP(w, request)
}

// delay reports whether somebody still waits for the answer.
func (r *Registry) delay(request *http.Request) bool {
	if r.options.Delay <= 0 || request.Method != http.MethodGet {
		return true
	}
	timer := time.NewTimer(r.options.Delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-request.Context().Done():
	case <-r.closed:
	}
	return false
}

// blobOf says whether a request is about a blob that is stored, and which one.
func blobOf(request *http.Request) (bool, string) {
	_, digest, found := strings.Cut(request.URL.Path, "/blobs/")
	return found && strings.HasPrefix(digest, "sha256:"), digest
}

// refuse answers as registries do.
func refuse(w http.ResponseWriter, status int, code, message string) {
	body, err := json.Marshal(map[string][]map[string]string{"errors": {{"code": code, "message": message}}})
	if err != nil {
		body = nil // strings can always be encoded
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	// Who does not read the answer is gone.
	_, _ = w.Write(body)
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

const (
	wantOS, wantArchitecture = "linux", "amd64"
	wantPlatform             = wantOS + "/" + wantArchitecture

	// maxDocument bounds a manifest, an index or a configuration, as the
	// specification advises.
	maxDocument = 4 << 20
	maxValues   = 100_000
	// maxDepth and maxManifests bound indexes in indexes.
	maxDepth     = 4
	maxManifests = 32
	maxLayers    = 1 << 10
)

// document is a manifest or an index as the registry has it.
type document struct {
	raw       []byte
	digest    v1.Hash
	mediaType types.MediaType
}

// accepted are the media types that are asked for. Those that are refused later are
// among them: the registry would only say that there is nothing.
func accepted() string {
	return strings.Join([]string{
		string(types.OCIImageIndex), string(types.DockerManifestList), string(types.OCIManifestSchema1), string(types.DockerManifestSchema2),
		string(types.DockerManifestSchema1Signed), string(types.DockerManifestSchema1), artifactManifest,
	}, ",")
}

const artifactManifest = "application/vnd.oci.artifact.manifest.v1+json"

// manifest asks for a manifest by tag or digest.
func (p *pull) manifest(ctx context.Context, id string) (document, error) {
	var doc document
	err := p.each(ctx, "the manifest "+id, func(s *source) error {
		var err error
		doc, err = s.manifest(ctx, id)
		return err
	})
	return doc, err
}

func (s *source) manifest(ctx context.Context, id string) (document, error) {
	raw, header, err := s.small(ctx, readingManifest, id, http.Header{"Accept": {accepted()}})
	if err != nil {
		return document{}, err
	}
	if !json.Valid(raw) {
		return document{}, wrong("%s gives something for the manifest that is no JSON", s.name) // a login page, most likely
	}
	want, err := v1.NewHash(id)
	pinned := err == nil
	if !pinned {
		want.Algorithm = "sha256"
	}
	digest, err := digestOf(want.Algorithm, raw)
	if err != nil {
		return document{}, s.faultOf(ctx, readingManifest, err)
	}
	if pinned && digest != want {
		return document{}, broken("%s gives a manifest of digest %s for %s", s.name, digest, want)
	}
	contentType, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil {
		contentType = ""
	}
	return document{raw: raw, digest: digest, mediaType: types.MediaType(contentType)}, nil
}

// small reads a document. It ends when nothing comes, like everything here.
func (s *source) small(ctx context.Context, at stage, id string, want http.Header) ([]byte, http.Header, error) {
	limited, cancel := context.WithTimeout(ctx, smallStalls*s.stall)
	defer cancel()
	late := func(err error) error {
		if limited.Err() != nil && ctx.Err() == nil {
			return passing("%s does not answer within %s", s.name, smallStalls*s.stall)
		}
		return err
	}
	resp, err := s.get(limited, at, id, want, http.StatusOK)
	if err != nil {
		return nil, nil, late(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return nil, nil, late(s.faultOf(limited, at, err))
	}
	if len(raw) > maxDocument {
		return nil, nil, wrong("%s gives a manifest or configuration of more than %d bytes", s.name, maxDocument)
	}
	// A short text can be of so many values that they take a hundred times its size.
	if n := bytes.Count(raw, []byte(",")); n > maxValues {
		return nil, nil, wrong("%s gives a manifest or configuration of %d values, want at most %d", s.name, n, maxValues)
	}
	return raw, resp.Header, nil
}

// smallStalls bounds a small request: to connect, for a token, for the answer.
const smallStalls = 4

func digestOf(algorithm string, raw []byte) (v1.Hash, error) {
	h, err := v1.Hasher(algorithm)
	if err != nil {
		return v1.Hash{}, err
	}
	_, _ = h.Write(raw) // never fails
	return v1.Hash{Algorithm: algorithm, Hex: hex.EncodeToString(h.Sum(nil))}, nil
}

// probe is what tells the kinds of documents from each other.
type probe struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     types.MediaType   `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        json.RawMessage   `json:"config"`
	Layers        []json.RawMessage `json:"layers"`
	Manifests     []json.RawMessage `json:"manifests"`
	FSLayers      []json.RawMessage `json:"fsLayers"`
}

// isIndex tells an index from an image and refuses everything else. What the digest
// covers counts more than what the registry says of it.
func (d document) isIndex() (bool, error) {
	var p probe
	if err := json.Unmarshal(d.raw, &p); err != nil {
		return false, wrong("the manifest %s is no JSON of a manifest", d.digest)
	}
	mediaType := p.MediaType
	if mediaType == "" {
		mediaType = d.mediaType
	}
	image, index := p.Config != nil || p.Layers != nil, p.Manifests != nil
	switch {
	case p.SchemaVersion == 1, mediaType == types.DockerManifestSchema1, mediaType == types.DockerManifestSchema1Signed, p.FSLayers != nil:
		return false, wrong("the image has a manifest of schema 1, which is obsolete: push it again with a current tool")
	case mediaType == artifactManifest:
		return false, wrong("it is an artifact of type %s, not an image", quoted(p.ArtifactType))
	case image && index:
		return false, wrong("the manifest %s is both an image and an index, which nobody should trust", d.digest)
	case index && !mediaType.IsImage():
		return true, nil
	case image && !mediaType.IsIndex():
		return false, nil
	}
	return false, wrong("the manifest %s is of type %s, which is no image", d.digest, quoted(string(mediaType)))
}

func quoted(s string) string {
	if s = clean(scrubURLs(s), maxText); s == "" {
		return "unknown"
	}
	return s
}

// otherPlatform is an image that is for something else.
type otherPlatform struct{ has string }

// Error names the platform.
func (e *otherPlatform) Error() string { return e.has }

// search goes through indexes for the image of the platform.
type search struct {
	*pull
	left int      // manifests that may still be read
	seen []string // platforms that there are
}

// find returns the image that a document is or has.
func (s *search) find(ctx context.Context, doc document, depth int) (*Image, error) {
	index, err := doc.isIndex()
	if err != nil {
		return nil, err
	}
	if !index {
		return s.image(ctx, doc)
	}
	manifest, err := v1.ParseIndexManifest(bytes.NewReader(doc.raw))
	if err != nil {
		return nil, wrong("the index %s cannot be read: %s", doc.digest, s.scrub.text(err.Error()))
	}
	if depth >= maxDepth {
		return nil, wrong("the index is of more than %d levels", maxDepth)
	}
	var refused error
	for _, child := range s.candidates(manifest.Manifests) {
		if s.left--; s.left < 0 {
			return nil, wrong("the index has more than %d manifests that may be for %s", maxManifests, wantPlatform)
		}
		next, err := s.manifest(ctx, child.Digest.String())
		if err != nil {
			return nil, err
		}
		image, err := s.find(ctx, next, depth+1)
		if other, ok := errors.AsType[*otherPlatform](err); ok {
			if other.has != "" {
				s.see(other.has)
			}
			continue
		}
		if f, ok := errors.AsType[*fault](err); ok && f.kind == errdefs.InvalidArgument && child.Platform == nil {
			refused = err // it may be something beside the image, such as a signature
			continue
		}
		return image, err
	}
	if refused != nil {
		return nil, refused
	}
	return nil, &otherPlatform{}
}

// candidates are what an index has for the platform, the best first: images that
// every CPU can run, then those for newer ones, then what does not say what it is for.
func (s *search) candidates(all []v1.Descriptor) []v1.Descriptor {
	var fit, silent []v1.Descriptor
	for _, d := range all {
		if d.MediaType != "" && !d.MediaType.IsImage() && !d.MediaType.IsIndex() {
			continue
		}
		switch p := d.Platform; {
		case p == nil || p.OS == "" && p.Architecture == "":
			silent = append(silent, d)
		case p.OS == wantOS && p.Architecture == wantArchitecture:
			fit = append(fit, d)
		case p.OS == "unknown" || p.Architecture == "unknown":
			// attestations of how the others were built
		default:
			s.see(p.OS + "/" + p.Architecture)
		}
	}
	level := func(d v1.Descriptor) int {
		at := slices.Index([]string{"", "v1", "v2", "v3", "v4"}, d.Platform.Variant)
		return at & 0xff // what is not known comes last
	}
	slices.SortStableFunc(fit, func(a, b v1.Descriptor) int { return level(a) - level(b) })
	return append(fit, silent...)
}

func (s *search) see(platform string) {
	platform = clean(platform, 64)
	if len(s.seen) < 16 && !slices.Contains(s.seen, platform) {
		s.seen = append(s.seen, platform)
	}
}

// missing says that there is no image for the platform, and for what there is.
func (s *search) missing(other *otherPlatform) *fault {
	if other.has != "" {
		s.see(other.has)
	}
	if len(s.seen) == 0 {
		return wrong("the index has no image for %s, nor for anything else", wantPlatform)
	}
	return wrong("the image is not for %s but for %s", wantPlatform, strings.Join(s.seen, ", "))
}

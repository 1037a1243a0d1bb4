// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image is what a reference named when it was resolved. It does not change.
type Image struct {
	// Reference is what was asked for.
	Reference Reference
	// Digest is that of the image's manifest. It says all that the image is, so it
	// identifies what is made of it.
	Digest string
	// IndexDigest is that of the index that the reference names, or empty.
	IndexDigest string
	// ConfigDigest is that of the configuration, which engines call the image's ID.
	ConfigDigest string
	// Layers are the layers, the lowest first.
	Layers []Layer
	// Config is how a container of the image starts.
	Config Config

	pull *pull
}

// Layer is one layer of an image.
type Layer struct {
	// Digest is that of the blob, DiffID that of its content without compression.
	Digest, DiffID string
	// Size is what the blob has in bytes.
	Size int64
	// MediaType says how it is compressed, which its first bytes do as well.
	MediaType string
}

// Config is how a container of an image starts, unless it is told otherwise.
type Config struct {
	Entrypoint, Cmd, Env         []string
	WorkingDir, User, StopSignal string
	// Volumes are paths whose content should outlive the root file system, sorted.
	Volumes []string
}

const (
	// maxConfigString and maxConfig bound the configuration of a container, which
	// must go into the settings of a VM. maxConfigItems bounds each of its lists.
	maxConfigString = 32 << 10
	maxConfig       = 128 << 10
	maxConfigItems  = 1 << 10
)

// Resolve asks what a reference names. With a digest, what comes is verified to be
// that. Close the image when it is no longer needed.
func Resolve(ctx context.Context, ref Reference, opts Options) (*Image, error) {
	p, err := newPull(ctx, ref, opts)
	if err != nil {
		return nil, err
	}
	id := ref.Digest
	if id == "" {
		id = ref.Tag
	}
	image, err := p.resolve(ctx, id)
	if err != nil {
		p.client.close()
		return nil, p.finish(err)
	}
	return image, nil
}

func (p *pull) resolve(ctx context.Context, id string) (*Image, error) {
	doc, err := p.manifest(ctx, id)
	if err != nil {
		return nil, err
	}
	s := &search{pull: p, left: maxManifests}
	image, err := s.find(ctx, doc, 0)
	if other, ok := errors.AsType[*otherPlatform](err); ok {
		return nil, s.missing(other)
	}
	if err != nil {
		return nil, err
	}
	if top := doc.digest.String(); top != image.Digest {
		image.IndexDigest = top
	}
	return image, nil
}

// Close frees the connections to the registry. The image's fields stay.
func (i *Image) Close() { i.pull.client.close() }

// Size is what the layers have in bytes, each blob counted once: what Download
// downloads.
func (i *Image) Size() int64 {
	var total int64
	for _, size := range i.blobs() {
		total += size
	}
	return total
}

// blobs are the sizes of the different blobs of the layers.
func (i *Image) blobs() map[string]int64 {
	blobs := make(map[string]int64, len(i.Layers))
	for _, l := range i.Layers {
		blobs[l.Digest] = l.Size
	}
	return blobs
}

// image reads the manifest of an image, and its configuration.
func (s *search) image(ctx context.Context, doc document) (*Image, error) {
	manifest, err := v1.ParseManifest(bytes.NewReader(doc.raw))
	if err != nil {
		return nil, wrong("the manifest %s cannot be read: %s", doc.digest, s.scrub.text(err.Error()))
	}
	switch t := manifest.Config.MediaType; {
	case manifest.ArtifactType != "":
		return nil, wrong("it is an artifact of type %s, not an image", quoted(manifest.ArtifactType))
	case t != types.OCIConfigJSON && t != types.DockerConfigJSON:
		return nil, wrong("it is an artifact of type %s, not an image", quoted(string(t)))
	}
	image := &Image{Reference: s.ref, Digest: doc.digest.String(), ConfigDigest: manifest.Config.Digest.String(), pull: s.pull}
	if image.Layers, err = s.layers(manifest.Layers); err != nil {
		return nil, err
	}
	config, err := s.config(ctx, manifest.Config)
	if err != nil {
		return nil, err
	}
	if err := config.check(len(image.Layers)); err != nil {
		return nil, err
	}
	for i, id := range config.RootFS.DiffIDs {
		image.Layers[i].DiffID = id.String()
	}
	image.Config = config.Config.plain()
	return image, nil
}

// layers checks and copies the descriptors of layers.
func (p *pull) layers(descriptors []v1.Descriptor) ([]Layer, error) {
	if len(descriptors) > maxLayers {
		return nil, wrong("the image has %d layers, want at most %d", len(descriptors), maxLayers)
	}
	layers, sizes, left := make([]Layer, 0, len(descriptors)), map[v1.Hash]int64{}, p.MaxBytes
	for i, d := range descriptors {
		switch t := d.MediaType; {
		case !t.IsDistributable():
			return nil, wrong("layer %d is foreign (%s): its content is not in the registry, and may not be", i, quoted(string(t)))
		case strings.HasSuffix(string(t), "+encrypted"):
			return nil, wrong("layer %d is encrypted (%s)", i, quoted(string(t)))
		case !knownLayer(t):
			return nil, wrong("layer %d is of type %s, want a tar, plain or with gzip or zstd", i, quoted(string(t)))
		case d.Size <= 0:
			return nil, wrong("layer %d has a size of %d bytes", i, d.Size)
		}
		if size, again := sizes[d.Digest]; again {
			if size != d.Size {
				return nil, wrong("layer %d has %d bytes, and %d where it comes before", i, d.Size, size)
			}
		} else if left -= d.Size; left < 0 {
			return nil, wrong("the image has more than %d bytes, which is the limit", p.MaxBytes)
		}
		sizes[d.Digest] = d.Size
		layers = append(layers, Layer{Digest: d.Digest.String(), Size: d.Size, MediaType: string(d.MediaType)})
	}
	return layers, nil
}

func knownLayer(t types.MediaType) bool {
	return slices.Contains([]types.MediaType{types.OCILayer, types.OCILayerZStd, types.OCIUncompressedLayer, types.DockerLayer, types.DockerUncompressedLayer, dockerZStd}, t)
}

// dockerZStd is what some tools call layers with zstd in manifests of Docker's kind.
const dockerZStd types.MediaType = "application/vnd.docker.image.rootfs.diff.tar.zstd"

// configFile is what matters of an image's configuration.
type configFile struct {
	OS           string          `json:"os"`
	Architecture string          `json:"architecture"`
	Config       containerConfig `json:"config"`
	RootFS       struct {
		Type    string    `json:"type"`
		DiffIDs []v1.Hash `json:"diff_ids"`
	} `json:"rootfs"`
}

type containerConfig struct {
	Entrypoint []string
	Cmd        []string
	Env        []string
	WorkingDir string
	User       string
	StopSignal string
	Volumes    map[string]struct{}
}

// config asks for the configuration and verifies it.
func (p *pull) config(ctx context.Context, d v1.Descriptor) (*configFile, error) {
	if d.Size <= 0 || d.Size > maxDocument {
		return nil, wrong("the configuration has %d bytes, want 1 to %d", d.Size, maxDocument)
	}
	raw := d.Data
	if got, err := digestOf(d.Digest.Algorithm, raw); len(raw) == 0 || err != nil || got != d.Digest {
		err := p.each(ctx, "the configuration", func(s *source) error {
			var err error
			raw, err = s.document(ctx, d)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return parseConfig(raw, p.scrub)
}

func parseConfig(raw []byte, scrub *scrubber) (*configFile, error) {
	var config configFile
	if err := json.Unmarshal(raw, &config); err != nil {
		return nil, wrong("the configuration of the image cannot be read: %s", scrub.text(err.Error()))
	}
	return &config, nil
}

// document reads a small blob.
func (s *source) document(ctx context.Context, d v1.Descriptor) ([]byte, error) {
	raw, _, err := s.small(ctx, readingBlob, d.Digest.String(), http.Header{})
	if err != nil {
		return nil, err
	}
	if got, err := digestOf(d.Digest.Algorithm, raw); err != nil || got != d.Digest {
		return nil, broken("%s gives a configuration of digest %s for %s", s.name, got, d.Digest)
	}
	return raw, nil
}

// check reports what makes an image no root file system for the platform.
func (c *configFile) check(layers int) error {
	if c.OS != "" && c.OS != wantOS || c.Architecture != "" && c.Architecture != wantArchitecture {
		return &otherPlatform{has: clean(c.OS+"/"+c.Architecture, 64)}
	}
	switch {
	case layers == 0:
		return wrong("the image has no layers, so there is no root file system in it")
	case c.RootFS.Type != "layers":
		return wrong("the root file system of the image is of type %s, want layers", quoted(c.RootFS.Type))
	case len(c.RootFS.DiffIDs) != layers:
		return wrong("the manifest has %d layers, the configuration %d", layers, len(c.RootFS.DiffIDs))
	}
	return c.Config.check()
}

func (c containerConfig) check() error {
	left := maxConfig
	for field, values := range map[string][]string{
		"Entrypoint": c.Entrypoint, "Cmd": c.Cmd, "Env": c.Env, "Volumes": slices.Collect(maps.Keys(c.Volumes)),
		"WorkingDir": {c.WorkingDir}, "User": {c.User}, "StopSignal": {c.StopSignal},
	} {
		if len(values) > maxConfigItems {
			return wrong("the image's configuration: %s has %d values, want at most %d", field, len(values), maxConfigItems)
		}
		for _, v := range values {
			if len(v) > maxConfigString {
				return wrong("the image's configuration: a value of %s has %d bytes, want at most %d", field, len(v), maxConfigString)
			}
			if strings.ContainsRune(v, 0) {
				return wrong("the image's configuration: %s %q: must have no NUL", field, clean(v, maxText))
			}
			if left -= len(v); left < 0 {
				return wrong("the image's configuration has more than %d bytes", maxConfig)
			}
		}
	}
	return nil
}

func (c containerConfig) plain() Config {
	return Config{
		Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir, User: c.User, StopSignal: c.StopSignal,
		Volumes: slices.Sorted(maps.Keys(c.Volumes)),
	}
}

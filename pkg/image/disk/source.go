// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package disk

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/ext4"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/rootfs"
)

const (
	// MaxEntries is how many files an image may have, those of all layers counted.
	MaxEntries = 200_000
	// maxPlan bounds the memory of the plan of an image.
	maxPlan = 32 << 20
	// overhead is what a file system takes beside its files, most of it the journal.
	overhead = 32 << 20
)

// Options says how content is made.
type Options struct {
	// Dir is where temporary files are; see the package comment for how large they
	// are. It must exist and be writable.
	Dir string
	// Parallel is how many layers are downloaded at once; the default of image/registry if 0.
	Parallel int
}

// Source returns what makes image disks of img, which must not be closed before
// the last call of it has ended. It may be called repeatedly and at the same time.
// The key that it is called with must have the digest of img.
func Source(img *registry.Image, o Options) image.Source {
	return func(ctx context.Context, key image.Key, report image.Report) (_ image.Content, err error) {
		if err := key.Validate(); err != nil {
			return nil, err
		}
		if key.Digest != img.Digest {
			return nil, errdefs.New(errdefs.Internal, "a disk of %s is to be made from the image %s", key.Digest, img.Digest)
		}
		dir, err := newDirectory(o.Dir)
		if err != nil {
			return nil, err
		}
		j := &job{img: img, opts: o, key: key, dir: dir, report: report}
		defer func() {
			if err != nil {
				err = errors.Join(j.explain(err), dir.remove())
			}
		}()
		if err := enoughRoom(o.Dir, img.Size()); err != nil {
			return nil, err
		}
		return j.run(ctx)
	}
}

// job is one call of a Source.
type job struct {
	img    *registry.Image
	opts   Options
	key    image.Key
	dir    *directory
	report image.Report
}

func (j *job) run(ctx context.Context) (image.Content, error) {
	blobs, err := j.download(ctx)
	if err != nil {
		return nil, err
	}
	layers, err := j.unpack(ctx, blobs)
	if err != nil {
		return nil, err
	}
	raw, used, err := j.convert(ctx, layers)
	if err = errors.Join(err, layers.Close()); err != nil {
		return nil, errors.Join(err, raw.close())
	}
	return &content{job: j, raw: raw, used: used}, nil
}

// download gets the layers into the directory.
func (j *job) download(ctx context.Context) ([]string, error) {
	m := j.newMeter(image.Downloading, j.img.Size())
	m.set(0)
	names, err := j.img.Download(ctx, j.dir.path, registry.DownloadOptions{
		Parallel: j.opts.Parallel,
		Progress: func(done, _ int64) { m.set(done) },
	})
	if errdefs.Is(err, errdefs.ResourceExhausted) {
		return nil, j.full(err) // what it exhausts is the directory
	}
	return names, err
}

// unpack decompresses the layers, and removes each blob when it is through.
func (j *job) unpack(ctx context.Context, names []string) (*rootfs.Unpacked, error) {
	sizes := int64(0)
	uses := map[string]int{}
	blobs := make([]rootfs.Blob, len(names))
	m := j.newMeter(image.Unpacking, 0)
	garbage := &collector{}
	var mu sync.Mutex
	for i, layer := range j.img.Layers {
		name := names[i]
		sizes += layer.Size
		uses[name]++
		blobs[i] = rootfs.Blob{DiffID: layer.DiffID, Open: func(context.Context) (io.ReadCloser, error) {
			f, err := os.Open(name) //nolint:gosec // what was downloaded
			if err != nil {
				return nil, err
			}
			mu.Lock()
			defer mu.Unlock()
			if uses[name]--; uses[name] == 0 {
				_ = os.Remove(name) // where open files cannot be removed, it goes with the directory
			}
			// What decoders of other layers had is to be free before this one's is made.
			garbage.collect()
			return &counted{ReadCloser: f, meter: m}, nil
		}}
	}
	m.total = sizes
	m.set(0)
	return rootfs.Unpack(ctx, j.dir.path, blobs, j.flattening())
}

// flattening are the limits of rootfs, and what the disk must have.
func (j *job) flattening() rootfs.Options {
	o := rootfs.Options{
		MaxEntries: MaxEntries,
		MaxMemory:  maxPlan,
		MaxBytes:   2*j.key.Size + 1<<30,
		Require:    rootfs.ContainerVM(),
	}
	for _, volume := range j.img.Config.Volumes {
		if name := strings.TrimPrefix(path.Clean("/"+volume), "/"); name != "" {
			o.Require = append(o.Require, rootfs.Required{Name: name, Type: tar.TypeDir, Mode: 0o755})
		}
	}
	return o
}

// convert writes the file system into a new file, and returns it and its length.
func (j *job) convert(ctx context.Context, layers *rootfs.Unpacked) (*file, int64, error) {
	garbage := &collector{}
	plan, err := rootfs.NewPlan(ctx, garbage.layers(layers.Layers()), j.flattening())
	if err != nil {
		return nil, 0, err
	}
	raw, err := j.dir.newFile("raw")
	if err != nil {
		return nil, 0, err
	}
	stats := plan.Stats()
	// The archive has a header of 512 bytes for each path and up to 511 bytes of
	// padding; what extended records take is little, and not known before.
	m := j.newMeter(image.Converting, stats.Bytes+768*int64(stats.Paths))
	m.set(0)
	r, w := io.Pipe()
	written := make(chan struct{})
	go func() {
		defer close(written)
		// The reader gets the error, or the end.
		_ = w.CloseWithError(plan.Write(ctx, &counting{w: w, meter: m}))
	}()
	result, err := ext4.Write(ctx, r, &collectedFile{raw.File, garbage}, ext4.Options{
		Size: j.key.Size, UUID: j.uuid(), Time: time.Unix(0, 0), MaxEntries: MaxEntries,
	})
	_ = r.CloseWithError(errEnough)
	<-written
	if err != nil {
		return raw, 0, err
	}
	m.finish()
	return raw, result.UsedBytes, nil
}

// errEnough ends a writer whose reader needs nothing more.
var errEnough = errors.New("the reader has ended")

// derive returns an identifier of the disk for a purpose. Whoever changes what
// disks are made of the same image changes the number in it.
func (j *job) derive(purpose string) [16]byte {
	sum := sha256.Sum256(fmt.Appendf(nil, "image disk 1\n%s\n%s\n%d\n", purpose, j.key.Digest, j.key.Size))
	return [16]byte(sum[:16])
}

// uuid is that of the file system, of version 8: made of whatever its maker likes.
func (j *job) uuid() [16]byte {
	id := j.derive("file system")
	id[6] = id[6]&0x0f | 0x80
	id[8] = id[8]&0x3f | 0x80
	return id
}

// description is what is told of the disk.
func (j *job) description(used int64) image.Description {
	c := j.img.Config
	return image.Description{
		ConfigDigest: j.img.ConfigDigest,
		Config: image.Config{
			Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env,
			WorkingDir: c.WorkingDir, User: c.User, StopSignal: c.StopSignal, Volumes: c.Volumes,
		},
		UsedBytes: used,
	}
}

// explain gives errors the kind that they have for a store, where a resource that
// is exhausted is the datastore.
func (j *job) explain(err error) error {
	if small, ok := errors.AsType[*ext4.TooSmallError](err); ok {
		return errdefs.Wrap(errdefs.InvalidArgument, small, "the image does not fit into rootDisk.size")
	}
	switch {
	case errdefs.IsFull(err):
		return j.full(err)
	case errdefs.Is(err, errdefs.ResourceExhausted):
		return errdefs.Wrap(errdefs.InvalidArgument, err, "the image is beyond the limits of a root disk of %d MiB (rootDisk.size)", mebibytes(j.key.Size))
	case errdefs.Is(err, errdefs.Unknown):
		return errdefs.Wrap(errdefs.FailedPrecondition, err, "temporary files in %s", j.opts.Dir)
	}
	return err
}

func (j *job) full(err error) error {
	return errdefs.Wrap(errdefs.FailedPrecondition, err,
		"the directory %s for temporary files is full: the image has %d MiB compressed, and needs there three times what it has uncompressed",
		j.opts.Dir, mebibytes(j.img.Size()))
}

// enoughRoom refuses to begin when the image cannot fit: its layers are there in
// both forms at once, and at the end the disk is beside them.
func enoughRoom(dir string, compressed int64) error {
	free, ok := freeBytes(dir)
	if need := 2*compressed + overhead; ok && free < need {
		return errdefs.New(errdefs.FailedPrecondition,
			"the directory %s for temporary files has %d MiB free: this image needs at least %d MiB, and up to three times what it has uncompressed",
			dir, free>>20, mebibytes(need))
	}
	return nil
}

func mebibytes(n int64) int64 { return (n + 1<<20 - 1) >> 20 }

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vsphere

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
	"unicode"

	"k8s.io/klog/v2"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

const (
	// recordFormat is the version of records that this package writes. Newer ones
	// are of a later release, and are left alone with all that they lead to.
	recordFormat = 1
	// recordLimit is more than a record can have: registries limit configurations.
	recordLimit = 16 << 20
	// readAttempts is how often something is read that changes meanwhile.
	readAttempts = 3
)

// record says what a disk is. The file of a name holds one with Name.
type record struct {
	Format int `json:"format"`
	image.Key
	// Upload is the attempt whose directory has the disk.
	Upload string `json:"upload"`
	// Top is how VMs know the first directory of the path, where that has an id.
	Top string `json:"top,omitempty"`
	// Name leads to the disk. Only in files of names.
	Name        string            `json:"name,omitempty"`
	Created     time.Time         `json:"created"`
	Description image.Description `json:"description"`
}

// errNewer is of a record that a later release wrote.
var errNewer = errors.New("it was written by a newer version")

func (r record) encode() ([]byte, error) {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return nil, errdefs.Wrap(errdefs.Internal, err, "encode the record of image %s", r.Key)
	}
	return append(b, '\n'), nil
}

// decodeRecord reads a record strictly: what this package would not have written is
// an error, which is errNewer if a later one may have.
func decodeRecord(b []byte) (*record, error) {
	var probe struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(b, &probe); err != nil {
		return nil, fmt.Errorf("it is no record: %w", err)
	}
	if probe.Format > recordFormat {
		return nil, errNewer
	}
	var r record
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return nil, fmt.Errorf("it is no record: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is something behind the record")
	}
	switch err := r.Validate(); {
	case err != nil:
		return nil, err
	case r.Format != recordFormat:
		return nil, fmt.Errorf("its format is %d", r.Format)
	case !uploadPattern.MatchString(r.Upload):
		return nil, fmt.Errorf("its upload is %.100q", r.Upload)
	case r.Top != "" && !isElement(r.Top):
		return nil, fmt.Errorf("its top directory is %.100q", r.Top)
	case r.Created.IsZero():
		return nil, errors.New("it does not say when the disk was made")
	case r.Description.UsedBytes < 0 || r.Description.UsedBytes > r.Size:
		return nil, fmt.Errorf("%d of %d bytes are used", r.Description.UsedBytes, r.Size)
	}
	return &r, nil
}

// isElement reports whether s can be one element of a path, and no other place.
func isElement(s string) bool {
	return s != "." && s != ".." && !strings.ContainsFunc(s, func(r rune) bool { return r == '/' || r == '\\' || unicode.IsControl(r) })
}

// read reads a file that others rewrite. Who does so while it is read may cut it
// short; that passes.
func (s *Store) read(ctx context.Context, p string, limit int64) ([]byte, error) {
	for attempt := 1; ; attempt++ {
		b, err := s.files.Read(ctx, p, limit)
		if attempt == readAttempts || !errors.Is(err, io.ErrUnexpectedEOF) {
			return b, err
		}
	}
}

// readRecord reads a record. It is NotFound if there is none, or none that could be
// of this store: wrong says why a record that parses is not the one. That is logged.
func (s *Store) readRecord(ctx context.Context, p string, wrong func(*record) string) (*record, error) {
	b, err := s.read(ctx, p, recordLimit)
	if errdefs.Is(err, errdefs.FailedPrecondition) {
		return nil, s.ignored(ctx, p, err) // it is too large
	}
	if err != nil {
		return nil, err
	}
	r, err := decodeRecord(b)
	switch {
	case errors.Is(err, errNewer):
		return nil, errdefs.Wrap(errdefs.FailedPrecondition, err, "read %s; update this program, or delete the file", s.files.Path(p))
	case err != nil:
		return nil, s.ignored(ctx, p, err)
	}
	if why := wrong(r); why != "" {
		return nil, s.ignored(ctx, p, errors.New(why))
	}
	return r, nil
}

// isIgnored is the error of a record that counts as absent.
type isIgnored struct{ error }

// Unwrap returns the reason.
func (e *isIgnored) Unwrap() error { return e.error }

// ignored says that there is a record that counts as absent.
func (s *Store) ignored(ctx context.Context, p string, why error) error {
	klog.FromContext(ctx).Info("A record of the image store counts as absent", "path", s.files.Path(p), "reason", why.Error())
	return errdefs.Wrap(errdefs.NotFound, &isIgnored{why}, "read %s", s.files.Path(p))
}

// find reads the record that publishes a disk, in one request.
func (s *Store) find(ctx context.Context, key image.Key) (*record, error) {
	return s.readRecord(ctx, s.layout.record(key), func(r *record) string { return ofKey(r, key) })
}

// ofKey says why a record is not that of a key.
func ofKey(r *record, key image.Key) string {
	if r.Key != key {
		return fmt.Sprintf("it is the record of image %s", r.Key)
	}
	return ""
}

// findName reads the record that a name leads to, in one request.
func (s *Store) findName(ctx context.Context, name string, size int64) (*record, error) {
	return s.readRecord(ctx, s.layout.name(name, size), func(r *record) string { return ofName(r, nameFile(name, size)) })
}

// ofName says why a record is not that of the name in this file.
func ofName(r *record, file string) string {
	if nameFile(r.Name, r.Size) != file {
		return fmt.Sprintf("it is of the name %q in %d MiB", r.Name, r.Size/image.SizeUnit)
	}
	return ""
}

// writeRecord writes a record to a file.
func (s *Store) writeRecord(ctx context.Context, p string, r record) error {
	b, err := r.encode()
	if err != nil {
		return err
	}
	return s.files.Write(ctx, p, bytes.NewReader(b), int64(len(b)), nil)
}

// disk is what callers see. The path comes from where the store is, not from the record.
func (s *Store) disk(r *record, names ...string) *image.Disk {
	p := path.Join(s.layout.upload(r.Key, r.Upload), diskFile)
	if r.Top != "" && s.namespaced() {
		_, rest, _ := strings.Cut(p, "/")
		p = path.Join(r.Top, rest)
	}
	return &image.Disk{
		Key: r.Key, Description: r.Description, Path: s.files.Path(p),
		Names: append([]string{}, names...), Created: r.Created,
	}
}

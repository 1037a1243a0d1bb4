// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image/registry"
)

// digestAlgorithm begins the digests of image disks.
const digestAlgorithm = "sha256:"

// minDigits is how much of a digest is enough to mean one.
const minDigits = 6

const shortDigits = 12

// shortDigest returns the first digits of a digest, which commands understand.
func shortDigest(digest string) string {
	digits := strings.TrimPrefix(digest, digestAlgorithm)
	return digits[:min(len(digits), shortDigits)]
}

// diskSelector says which image disks an argument means: those that a name leads
// to, or those whose digest begins so. Digits alone may be either.
type diskSelector struct {
	arg    string
	name   string
	digits string
}

// parseDiskSelector reads a reference, a digest, or the beginning of one.
func parseDiskSelector(arg string) (diskSelector, error) {
	s := diskSelector{arg: arg}
	if digits, ok := strings.CutPrefix(arg, digestAlgorithm); ok {
		if !isDigits(digits) {
			return s, errdefs.New(errdefs.InvalidArgument, "digest %q: after %s, want %d to 64 digits of 0-9 and a-f", arg, digestAlgorithm, minDigits)
		}
		s.digits = digits
		return s, nil
	}
	ref, err := registry.ParseReference(arg)
	if isDigits(arg) {
		s.digits = arg
	} else if err != nil {
		return s, err
	}
	if err == nil {
		s.name = ref.String()
	}
	return s, nil
}

func isDigits(text string) bool { return regexp.MustCompile(`^[0-9a-f]{6,64}$`).MatchString(text) }

// pick returns the disks that are meant, of one image in one or more sizes. A
// size of 0 is any. A name counts more than a beginning of a digest, as in docker.
func (s diskSelector) pick(disks []image.Disk, size int64) ([]image.Disk, error) {
	var named, digested []image.Disk
	for _, disk := range disks {
		if s.name != "" && slices.Contains(disk.Names, s.name) {
			named = append(named, disk)
		}
		if s.digits != "" && strings.HasPrefix(disk.Digest, digestAlgorithm+s.digits) {
			digested = append(digested, disk)
		}
	}
	found := named
	if len(found) == 0 {
		found = digested
		if digests := digestsOf(found); len(digests) > 1 {
			return nil, errdefs.New(errdefs.OutOfRange, "%d images begin with %q: %s; give more digits", len(digests), s.arg, strings.Join(digests, ", "))
		}
	}
	if len(found) == 0 {
		return nil, errdefs.New(errdefs.NotFound, "no image disk %s; see vchctl image ls", s)
	}
	if size == 0 {
		return found, nil
	}
	sized := slices.DeleteFunc(slices.Clone(found), func(d image.Disk) bool { return d.Size != size })
	if len(sized) == 0 {
		return nil, errdefs.New(errdefs.NotFound, "no image disk %s of %s; there is %s", s, sizeText(size), sizesOf(found))
	}
	return sized, nil
}

// one is pick for commands that need exactly one disk.
func (s diskSelector) one(disks []image.Disk, size int64, hint string) (image.Disk, error) {
	found, err := s.pick(disks, size)
	if err != nil {
		return image.Disk{}, err
	}
	if len(found) > 1 {
		return image.Disk{}, errdefs.New(errdefs.InvalidArgument, "image disk %s is there in %d sizes, %s; choose with %s", s, len(found), sizesOf(found), hint)
	}
	return found[0], nil
}

// String describes the selection for messages.
func (s diskSelector) String() string {
	if s.digits != "" {
		return s.arg
	}
	return s.name
}

// digestsOf lists the digests of disks, each with all names.
func digestsOf(disks []image.Disk) []string {
	names := map[string][]string{}
	for _, disk := range disks {
		names[disk.Digest] = append(names[disk.Digest], disk.Names...)
	}
	var out []string
	for _, digest := range slices.Sorted(maps.Keys(names)) {
		text := digest
		if all := slices.Sorted(slices.Values(names[digest])); len(all) > 0 {
			text += " (" + strings.Join(slices.Compact(all), ", ") + ")"
		}
		out = append(out, text)
	}
	return out
}

func sizesOf(disks []image.Disk) string {
	sizes := make([]int64, 0, len(disks))
	for _, disk := range disks {
		sizes = append(sizes, disk.Size)
	}
	slices.Sort(sizes)
	texts := make([]string, 0, len(sizes))
	for _, size := range slices.Compact(sizes) {
		texts = append(texts, sizeText(size))
	}
	return strings.Join(texts, ", ")
}

// sizeText writes the size of a disk as --size takes it, such as 8Gi.
func sizeText(size int64) string {
	return resource.NewQuantity(size, resource.BinarySI).String()
}

// parseSize reads the size of a disk. Empty is 0, which means any, or the default.
func parseSize(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	const want = "--size %q: want whole MiB between 64Mi and 2Ti, such as 8Gi"
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return 0, errdefs.New(errdefs.InvalidArgument, want, text)
	}
	size, exact := quantity.AsInt64()
	if !exact || size < image.MinSize || size > image.MaxSize || size%image.SizeUnit != 0 {
		return 0, errdefs.New(errdefs.InvalidArgument, want, text)
	}
	return size, nil
}

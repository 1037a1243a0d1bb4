// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

func TestKeysAreValidOrSayWhatIsWrong(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("0a", 32)
	for what, tc := range map[string]struct {
		key  image.Key
		part string // of the error; empty for none
	}{
		"the smallest":       {image.Key{Digest: digest, Size: image.MinSize}, ""},
		"the largest":        {image.Key{Digest: digest, Size: image.MaxSize}, ""},
		"nothing":            {image.Key{}, "digest"},
		"capital letters":    {image.Key{Digest: strings.ToUpper(digest), Size: image.MinSize}, "digest"},
		"a line end":         {image.Key{Digest: digest + "\n", Size: image.MinSize}, "digest"},
		"a long digest":      {image.Key{Digest: strings.Repeat("x", 5000), Size: image.MinSize}, "digest"},
		"less than 64 MiB":   {image.Key{Digest: digest, Size: image.MinSize - image.SizeUnit}, "between 64Mi and 2Ti"},
		"more than 2 TiB":    {image.Key{Digest: digest, Size: image.MaxSize + image.SizeUnit}, "between 64Mi and 2Ti"},
		"a part of a MiB":    {image.Key{Digest: digest, Size: image.MinSize + 1}, "whole MiB"},
		"less than no bytes": {image.Key{Digest: digest, Size: -image.MinSize}, "between 64Mi and 2Ti"},
	} {
		err := tc.key.Validate()
		switch {
		case tc.part == "" && err != nil:
			t.Errorf("%s: %v", what, err)
		case tc.part != "" && (!errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), tc.part) || len(err.Error()) > 300):
			t.Errorf("%s: %v, want InvalidArgument with %q", what, err, tc.part)
		}
	}
}

func TestKeysAndProgressAreWrittenForPeople(t *testing.T) {
	t.Parallel()
	for want, got := range map[string]string{
		"sha256:0a0a0a0a0a0a of 8192 MiB":   image.Key{Digest: "sha256:" + strings.Repeat("0a", 32), Size: 8 << 30}.String(),
		"sha256:0 of 0 MiB":                 image.Key{Digest: "sha256:0"}.String(),
		"queued":                            image.Progress{Stage: image.Queued}.String(),
		"converting, 62 %":                  image.Progress{Stage: image.Converting, Done: 625, Total: 1000}.String(),
		"uploading, 100 %":                  image.Progress{Stage: image.Uploading, Done: 11, Total: 10}.String(),
		"downloading, 0 %":                  image.Progress{Stage: image.Downloading, Done: -1, Total: 10}.String(),
		"unpacking, 50 % (by controller-1)": image.Progress{Stage: image.Unpacking, Done: 1 << 45, Total: 1 << 46, Owner: "controller-1"}.String(),
		"waiting (by controller-1)":         image.Progress{Stage: image.Waiting, Owner: "controller-1"}.String(),
		"downloading, 99 %":                 image.Progress{Stage: image.Downloading, Done: 1<<56 - 1, Total: 1 << 56}.String(),
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestAllStagesAreInTheirOrder(t *testing.T) {
	t.Parallel()
	want := []image.Stage{
		image.Resolving, image.Queued, image.Waiting, image.Downloading, image.Unpacking,
		image.Converting, image.Compressing, image.Uploading, image.Publishing,
	}
	if diff := cmp.Diff(want, image.Stages()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	image.Stages()[0] = "changed"
	if diff := cmp.Diff(want, image.Stages()); diff != "" {
		t.Errorf("a caller can change them (-want +got):\n%s", diff)
	}
}

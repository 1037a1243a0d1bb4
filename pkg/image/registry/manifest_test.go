// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// FuzzManifest: whatever a registry gives is an image within the limits, or an
// error of one of the kinds that are meant for it.
func FuzzManifest(f *testing.F) {
	const hash = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	layer := fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":5}`, hash)
	f.Add([]byte(fmt.Sprintf(`{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":5},"layers":[%s,%s]}`, hash, layer, layer)), []byte(fmt.Sprintf(`{"os":"linux","rootfs":{"type":"layers","diff_ids":[%q,%q]},"config":{"Env":["A=b"],"Volumes":{"/a":{}}}}`, hash, hash)))
	f.Add([]byte(fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"digest":%q,"size":5,"platform":{"os":"linux","architecture":"amd64","variant":"v9"}},{"platform":{}}]}`, hash)), []byte(`{}`))
	f.Add([]byte(`{"schemaVersion":1,"fsLayers":[]}`), []byte(`[]`))
	f.Fuzz(func(t *testing.T, manifest, config []byte) {
		o := Options{MaxBytes: 100}
		settings, err := o.read()
		if err != nil {
			t.Fatal(err)
		}
		s := &search{pull: &pull{settings: settings}, left: maxManifests}
		image, err := s.find(t.Context(), document{raw: manifest}, 0)
		if f, ok := errors.AsType[*fault](err); ok {
			// There is nobody to ask for more.
			if f.kind != errdefs.InvalidArgument && f.kind != errdefs.Internal || len(f.text) > 2000 {
				t.Fatalf("%s: %s", f.kind, f.text)
			}
		} else if _, other := errors.AsType[*otherPlatform](err); !other && err != nil {
			t.Fatal(err)
		}
		if image != nil && (len(image.Layers) > maxLayers || image.Size() > 100 || image.Size() <= 0) {
			t.Fatalf("image is %+v", image)
		}
		if c, err := parseConfig(config, settings.scrub); err == nil && c.check(len(c.RootFS.DiffIDs)) == nil {
			if plain := c.Config.plain(); len(plain.Env) > maxConfigItems || len(plain.User) > maxConfigString || len(c.RootFS.DiffIDs) == 0 {
				t.Fatalf("configuration is %+v", c)
			}
		}
	})
}

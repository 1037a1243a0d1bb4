// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package vchsim

import (
	"encoding/json"
	"fmt"
)

// Form and keys of the stores are spelled out here, not taken from pkg/kvstore: this is what
// VIC leaves behind, against which that is tested.

// kvStores are the key/value stores that the port layer of a VCH with one image leaves
// behind, by datastore path: one of docker's caches, one of its networks (VIC,
// lib/apiservers/engine/backends/kv/kv.go:31-104, lib/portlayer/network/context.go:540-547).
func kvStores(v *vch) (map[string]string, error) {
	const image, reference = "sha256:6f715d38cfe0eb66b672e7c1d9d8f6a4bd5f2ef5cbd4f5e2d5c4b3a291807f6e", "docker.io/library/busybox:latest"
	config := map[string]any{"id": v.layer, "image_id": image, "name": "library/busybox", "tags": []string{"latest"}, "registry": "docker.io"}
	stores := map[string]map[string]any{
		"apiKV": {
			"docker.images":       map[string]any{"IDIndex": nil, "CacheByID": map[string]any{image: config}, "CacheByName": map[string]any{reference: config}},
			"docker.layers":       map[string]any{"Layers": map[string]any{v.layer: map[string]any{"ID": v.layer, "Parent": "scratch", "Size": 1 << 20}}},
			"docker.repositories": map[string]any{"Repositories": map[string]any{"library/busybox": map[string]any{reference: image}}, "Layers": map[string]any{v.layer: image}},
		},
		"network.contexts.default": {
			"context.scopes." + BridgeNetwork: map[string]any{
				"name": BridgeNetwork, "type": "bridge", "subnet": "172.16.0.0/16", "gateway": "172.16.0.1", "ipam": []string{"172.16.0.0/16"},
			},
		},
	}
	files := map[string]string{}
	for name, values := range stores {
		encoded := map[string][]byte{}
		for key, value := range values {
			b, err := json.Marshal(value)
			if err != nil {
				return nil, fmt.Errorf("encode %s of store %s: %w", key, name, err)
			}
			encoded[key] = b
		}
		b, err := json.Marshal(encoded)
		if err != nil {
			return nil, fmt.Errorf("encode store %s: %w", name, err)
		}
		files[dsPath(v.name, "kvStores", name+".dat")] = string(b)
	}
	return files, nil
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package images

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Image makes an OCI image for linux/amd64 of layers, the lowest first.
func Image(config v1.Config, layers ...v1.Layer) (v1.Image, error) {
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(base, layers...)
	if err != nil {
		return nil, fmt.Errorf("put layers into an image: %w", err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("read the configuration of an image: %w", err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Created, file.Config = "linux", "amd64", v1.Time{Time: Epoch()}, config
	if img, err = mutate.ConfigFile(img, file); err != nil {
		return nil, fmt.Errorf("configure an image: %w", err)
	}
	return img, nil
}

// Node makes the image that machines of the simulated world run: /bin/k3s, and
// /bin/sh with what userData.exec needs beside it, are one static program for
// linux/amd64 that says that it is simulated and waits. It has two layers, and all defaults that a container can take from an image.
func Node() (v1.Image, error) {
	base, err := Layer(
		Dir("etc"), Dir("root"), Dir("usr"), Dir("usr/bin"), Dir("var"), Dir("var/lib"),
		Entry{Name: "tmp/", Mode: 0o1777},
		Symlink("bin", "usr/bin"),
		Symlink("sbin", "usr/bin"),
		File("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
		File("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
		File("etc/os-release", "NAME=\"simulated node\"\nID=simulated\nVERSION_ID=1\n"),
		Executable("usr/bin/simulated", program("simulated node: nothing runs in here\n")),
		Symlink("usr/bin/sh", "simulated"),
		Symlink("usr/bin/base64", "simulated"),
		Symlink("usr/bin/chmod", "simulated"),
		Symlink("usr/bin/mkdir", "simulated"),
		Symlink("usr/bin/rm", "simulated"),
		File("usr/bin/from-the-base", "the next layer takes it away\n"),
	)
	if err != nil {
		return nil, err
	}
	k3s, err := Layer(
		Dir("usr"), Dir("usr/bin"),
		Whiteout("usr/bin/from-the-base"),
		Hardlink("usr/bin/k3s", "usr/bin/simulated"),
		Dir("var/lib/rancher"),
		Dir("var/lib/rancher/k3s"),
	)
	if err != nil {
		return nil, err
	}
	return Image(v1.Config{
		Entrypoint: []string{"/bin/k3s"},
		Cmd:        []string{"agent"},
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "SIMULATED=node"},
		WorkingDir: "/var/lib/rancher",
		User:       "root",
		StopSignal: "SIGTERM",
	}, base, k3s)
}

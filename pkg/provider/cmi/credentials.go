// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cmi

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
)

// OwnCredentials returns a function for ServerOptions.Own that reads a directory
// as Kubernetes mounts a Secret: one file for each of v1alpha1.ConnectionKeys,
// any of which may be missing. The files are read each time, so that a changed
// Secret takes effect at the next call, and all from one version of the Secret.
// A directory that cannot be read is an error; an empty one has no credentials.
func OwnCredentials(dir string) func() (map[string][]byte, error) {
	return func() (map[string][]byte, error) {
		for range 5 {
			version, err := versionOf(dir)
			if err != nil {
				return nil, err
			}
			found, err := readKeys(version)
			// The version may have been replaced, and removed, meanwhile.
			if now, again := versionOf(dir); again == nil && now != version {
				continue
			}
			return found, err
		}
		return nil, fmt.Errorf("read the credentials in %s: they change all the time", dir)
	}
}

// versionOf is the directory with the files of one version of a mounted Secret:
// the kubelet changes all files at once by turning a link elsewhere.
func versionOf(dir string) (string, error) {
	version, err := filepath.EvalSymlinks(filepath.Join(dir, "..data"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return dir, nil // made by hand
	case err != nil:
		return "", fmt.Errorf("find the credentials in %s: %w", dir, err)
	}
	return version, nil
}

func readKeys(dir string) (map[string][]byte, error) {
	if _, err := os.ReadDir(dir); err != nil {
		return nil, fmt.Errorf("read the directory of credentials: %w", err)
	}
	found := map[string][]byte{}
	for _, key := range v1alpha1.ConnectionKeys() {
		content, err := os.ReadFile(filepath.Join(dir, key)) //nolint:gosec // a flag's directory, and names of ours
		switch {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return nil, fmt.Errorf("read a credential: %w", err)
		default:
			found[key] = content
		}
	}
	return found, nil
}

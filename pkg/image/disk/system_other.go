// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

//go:build !linux && !darwin

package disk

import (
	"errors"
	"io/fs"
	"os"
)

// Other systems have no such locks: what a killed process left stays.

func tryLock(*os.File) (bool, error) { return false, errors.ErrUnsupported }

func own(fs.FileInfo) bool { return true }

func freeBytes(string) (int64, bool) { return 0, false }

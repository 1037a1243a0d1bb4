// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package vmdk is the volume store that has a virtual disk for each volume.
package vmdk

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package rootdisk tests the way from an image in a registry to machines, with
// all parts in place: registry, conversion, datastore, VMs; with many controllers
// at once, and with controllers that are killed. The parts have tests of their own.
package rootdisk

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package migration brings data that older versions of VIC, or of this provider,
// wrote to the form that the code of today reads.
//
// # Words
//
// A target is a kind of data with a numbering of its own: the configuration of a
// VCH's appliance, VIC's configuration of a container VM, what this provider keeps of a
// machine in its container VM (the mark), a key/value store. A data version is
// the number of a target's layout, stored with the data; data without one has
// version 0. A plugin makes data of its version from data of any lower one. A
// Set is the list of all plugins that a program knows.
//
// # Promises
//
//   - Everything is pure: a map comes in and is never changed, a changed copy goes out.
//   - Plugins run in the order of their versions, each at most once; the first error ends
//     it. The copy is then what the last good plugin left.
//   - The stored version becomes that of the last plugin that ran to its end, never
//     another. (VIC stamps its highest number even when a plugin failed:
//     lib/migration/migrator.go:75-99.)
//   - A plugin changes only keys that it names, and that is checked.
//   - Data newer than the plugins is left as it is: it can be read for what is known of
//     it, and Outcome.Writable refuses to change it.
//
// The plugins themselves are in the packages below, so that this one has no list to
// keep. Called by pkg/vch and pkg/containervm whenever they read, by pkg/kvstore, and by
// pkg/cli to show and to write. What may be written when is theirs to decide.
package migration

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package plugins has the migration plugins that this program ships, one in a file, and
// their list. docs/migration-plugins.md says how to add one.
//
// VIC's own plugins (lib/migration/plugins) are here with their numbers and their
// meaning. Where VIC's code does harm to odd data, ours leaves it alone; the comment
// of each plugin says where. None deletes a key: an older VIC still finds what it wrote.
package plugins

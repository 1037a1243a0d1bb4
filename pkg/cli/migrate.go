// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import "github.com/spf13/cobra"

func migrateCommand(opts Options) *cobra.Command {
	return group("migrate", "Bring the data of older versions up to date",
		migrateStatusCommand(opts), migratePlanCommand(opts), migrateApplyCommand(opts), migrateRestoreCommand(opts))
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import "github.com/spf13/cobra"

func renameCommand(opts Options) *cobra.Command {
	return group("rename", "Give a container VM another name")
}

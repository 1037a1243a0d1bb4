// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import "github.com/spf13/cobra"

func kvCommand(opts Options) *cobra.Command {
	return group("kv", "Look into the key/value stores of a VCH")
}

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package owner names a process to people who wait for what it does.
package owner

import (
	"fmt"
	"os"
)

// Name returns the name of this process, such as vchctl on host-1, process 42.
func Name(program string) string {
	host, err := os.Hostname()
	if err != nil {
		host = "a host without a name"
	}
	return fmt.Sprintf("%s on %s, process %d", program, host, os.Getpid())
}

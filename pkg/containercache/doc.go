// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package containercache knows the container VMs of VCHs from what vCenter says of
// their changes, so that who asks for them again and again costs vCenter nothing.
package containercache

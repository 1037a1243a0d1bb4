// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package nfs is the volume store that has directories of an NFSv3 export.
package nfs

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package kvstore reads and writes VIC's key/value stores on a datastore.
//
// TODO
package kvstore

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package volumes tests the volume stores of a VCH with processes that really end:
// each is killed at one of its requests to vCenter. What counts then is what a VCH that
// restarts would read.
package volumes

// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package metrics tells Prometheus what the sessions, limits and caches of a process do.
package metrics

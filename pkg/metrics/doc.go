// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package metrics tells Prometheus what the sessions, limits, caches and image
// pulls of a process do. It keeps nothing itself: at each scrape it asks those who
// know, who answer from memory, and turns their Stats into samples.
//
// What happens once for each call, such as the duration of a request, is in MCM's
// own metrics, which pkg/provider feeds. The programs register the Collector;
// docs/monitoring.md lists its metrics, and a test compares that list with it.
//
// Labels are names of vCenters, VCHs and datastores, of which there are few. No
// machine, image, user or error text becomes a label.
package metrics

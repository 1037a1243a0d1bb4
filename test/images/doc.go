// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package images makes container images for tests, and serves them from a
// registry on loopback that can be told to misbehave.
//
// Layer, TarLayer and Image make images of exactly the entries that a test wants;
// the same input gives the same digests. Node is the image that machines of the
// simulated world run. Serve starts a Registry; Push puts an image into it, Inject
// makes requests fail, stall, break off or lie, and the counters tell what clients
// asked for.
//
// It stands on go-containerregistry; only blobs are served by this package itself,
// since that library's server knows no open byte ranges and hashes a whole blob
// before it sends it. test/vchsim embeds a registry; tests of all packages may use
// one. Nothing in pkg may import it.
package images

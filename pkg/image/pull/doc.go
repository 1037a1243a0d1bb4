// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package pull decides when an image is fetched, and sees to it that machines
// which wait for the same one wait for one pull.
//
// Ready is for the driver: it answers with the disk if that is there, and otherwise
// begins to fetch it in the background. The call ends soon; the pull goes on, and
// whoever asks meanwhile is told how far it is. Pull is for people who want to see
// it to its end. Vanished is for who found that a disk's files are gone.
//
// # Words
//
// A request is an image as somebody wants it: the reference as written, the size of
// the disk, the store, the policy and how registries are asked. A pull belongs to
// one store, name, size and way to ask registries, credentials included: nobody gets
// an image with another's rights. What is in the store is there for all who may
// fetch from its registry at all.
//
// # Errors
//
// InvalidArgument for a wrong reference, an unknown image and one that does not fit;
// PermissionDenied for an image that the lists of registries forbid, whether it is
// in the store or not; Unauthenticated and PermissionDenied when the registry
// refuses; Unavailable while the image is on its way, the registry is down or the
// process ends; ResourceExhausted for a full datastore alone, since another place
// may have room; FailedPrecondition for what a person must put right, which
// includes the directory for temporary files. NotFound does not occur: with a
// machine, that would mean that there is none.
//
// The package knows neither machines nor vSphere.
package pull

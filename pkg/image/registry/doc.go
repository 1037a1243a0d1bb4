// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

// Package registry finds container images in registries and downloads their layers.
//
// ParseReference reads what people write. Resolve asks the registry what that
// means now: one manifest for linux/amd64, with the digests that identify it, the
// sizes that tell how long it will take, and the configuration that a container
// of it starts with. Image.Download then writes the layers, as they are in the
// registry, into files.
//
// Words: a reference names an image; a source is where it is asked for, which is
// each mirror in turn and then the registry itself; a blob is a layer or a
// configuration; a host list is what administrators allow, deny or trust, in the
// form that Virtual Container Hosts keep.
//
// Whatever a digest names is verified, wherever it came from. Only a tag is taken
// on trust, from the first source that knows it. A mirror that fails is logged
// and not asked again by this pull; errors are those of the registry.
//
// Memory is bounded whatever the image's size: manifests and configurations have
// at most 4 MiB, layers pass through one buffer each. Transfers that break or
// stall go on where they stopped, if the source can do that. After an error, or
// the end of the context, no file is left.
//
// Credentials, tokens and the queries of URLs, which may be signatures, are in no
// error and no log line, not even when a server repeats them in its answer. They
// are sent to the host they are for, and do not follow redirects to others. Plain
// http and certificates that cannot be verified are for listed hosts only.
//
// The kinds of errors: InvalidArgument for what the reference or the options get
// wrong, which includes images that are not there and those that are no root file
// system for linux/amd64; Unauthenticated and PermissionDenied, where a refusal
// without credentials is Unauthenticated whatever the registry calls it, and an
// image that no list allows is PermissionDenied; Unavailable for what may pass;
// FailedPrecondition for what somebody must put right: certificates, protocols,
// content that is not what its digest says; ResourceExhausted for a full disk.
//
// The package reads no environment and no files: Options are all it knows. It
// neither unpacks layers nor knows vSphere.
package registry
